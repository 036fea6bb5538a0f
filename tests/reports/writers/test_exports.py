"""Tables and figures as files for a paper."""

import io
import re
import xml.etree.ElementTree as ET

import pandas as pd
import pytest
from PIL import Image

from reports.build import Part, build_report, build_together, write_document
from reports.tables.table import Table
from reports.writers import exports, printing
from tests.reports.test_build import one_axis


@pytest.fixture
def document(run, meta, make_pictures):
    return build_report(one_axis(run[0]), run[1], run[2], meta, make_pictures())


def test_every_format_writes_its_files_and_nothing_else(document, tmp_path):
    written = write_document(document, tmp_path, ("csv", "latex", "svg", "png"))
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == sorted(written)
    names = {path.relative_to(tmp_path).as_posix() for path in written}
    assert {"tables/ranking.csv", "tables/ranking.tex", "tables/trials.csv", "tables/cost-to-the-target.tex"} <= names
    assert {"figures/over-optimisation.svg", "figures/curves-reward-queries.png", "figures/pictures.png"} <= names
    ET.parse(tmp_path / "figures/over-optimisation.svg")
    ranking = pd.read_csv(tmp_path / "tables/ranking.csv")
    assert list(ranking["method"]) == ["alignprop", "ddpo", "rwr", "base"]


def test_figures_as_pdf(document):
    files = exports.figures(document, "pdf")
    assert all(data.startswith(b"%PDF") for data in files.values())
    assert set(files) == {"figures/curves-reward-queries.pdf", "figures/curves-device-seconds.pdf",
                          "figures/over-optimisation.pdf", "figures/pictures.pdf"}  # fmt: skip
    assert files == exports.figures(document, "pdf"), "the same figures are the same bytes"


def test_latex_escapes_and_balances():
    cells = pd.DataFrame({"method": ["a_b & 50 %"], "cost\n(s)": ["≥ 2×\n(1–∞)"]})
    text = exports.to_latex(Table("Cost of #1", cells, "a note", best=frozenset({(0, "cost\n(s)")})))
    assert r"a\_b \& 50 \%" in text
    assert r"\makecell[r]{\textbf{$\geq$ 2$\times$} \\ (1--$\infty$)}" in text, "the value is bold, and not its range"
    assert text.count("{") == text.count("}")
    assert re.findall(r"\\begin\{(\w+)\}", text) == re.findall(r"\\end\{(\w+)\}", text)[::-1]
    assert text.count("&") - text.count(r"\&") == 2


def test_without_a_browser_a_pdf_says_what_is_missing_after_all_else_is_written(document, tmp_path, monkeypatch):
    monkeypatch.setattr(printing, "browser", lambda: None)
    with pytest.raises(printing.NoBrowserError, match="no Chromium"):
        write_document(document, tmp_path, ("html", "pdf"))
    assert (tmp_path / "report.html").exists()
    assert (tmp_path / "figures/over-optimisation.pdf").exists()
    assert not (tmp_path / "report.pdf").exists()


def test_parts_have_files_of_their_own(run, meta, make_pictures, tmp_path):
    part = Part(one_axis(run[0]), run[1], run[2], meta, make_pictures())
    written = write_document(build_together([part, part]), tmp_path, ("csv", "png"))
    names = {path.relative_to(tmp_path).as_posix() for path in written}
    assert {"tables/ranking.csv", "tables/part-2-ranking.csv", "figures/part-2-pictures.png"} <= names


def test_pictures_of_a_page_are_as_large_as_fits(run, meta, make_pictures):
    small = build_report(one_axis(run[0]), run[1], run[2], meta, make_pictures(size=300))
    assert small.sheet.size == 512
    image = next(image for row in small.sheet.rows[1.0].values() for image in row if image is not None)
    assert Image.open(io.BytesIO(exports.pictures.png(image))).size == (300, 300)
