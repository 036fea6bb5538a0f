"""Tables and figures as files for a paper."""

import io
import math
import re
import xml.etree.ElementTree as ET

import pandas as pd
import pytest
from PIL import Image

from reports.build import ReportPart, build_report, build_together, write_document
from reports.tables.table import Cell, Table
from reports.writers import exports, printing
from reports.writers.markdown import table_markdown
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


def test_csv_holds_numbers_in_the_unit_of_their_header(document, run, tmp_path):
    write_document(document, tmp_path, ("csv",))
    ranking, cost, paired, trials = (
        pd.read_csv(tmp_path / f"tables/{name}.csv")
        for name in ("ranking", "cost-to-the-target", "difference-from-base-paired", "trials")
    )
    curves = run[0]
    last = curves[(curves["variant"] == "alignprop") & (curves["metric"] == "reward") & (curves["split"] == "train")]
    finals = last.sort_values("point").groupby("seed")["value"].last()
    row = ranking.set_index("method").loc["alignprop"]
    assert row["reward training prompts"] == pytest.approx(finals.mean(), abs=1e-12)
    assert row["reward training prompts, low"] == pytest.approx(finals.min(), abs=1e-12)
    assert row["reward queries spent"] == last["reward_queries"].max()
    cost = cost.set_index("method")
    assert cost.loc["ddpo", "reward queries"] == math.inf, "not reached"
    assert cost.loc["alignprop", "reward queries, times less, at least"] > 1
    assert pd.isna(cost.loc["ddpo", "reward queries, times less, at least"])
    assert paired["method"].notna().all(), "a method's name stands in each of its rows"
    assert paired["pairs better, share"].between(0, 1).all()
    assert pd.api.types.is_numeric_dtype(trials["last reward"])
    assert set(trials["status"]) == {"done"}


def test_json_has_the_numbers_beside_the_text(document):
    [row] = [row for row in document.ranking.records() if row["method"] == "ddpo"]
    cell = row["reward queries to 1.00"]
    assert (cell["text"], cell["value"]) == ("not reached", math.inf)
    assert row["seeds"] == "3"


def test_a_grouped_column_is_blank_where_it_repeats_in_print_alone():
    rows = [{"method": name, "measure": text} for name, text in (("a", "x"), ("a", "y"), ("b", "x"), ("a", "x"))]
    table = Table.of("Title", rows, grouped="method")
    assert list(table.cells["method"]) == ["a", "a", "b", "a"]
    assert list(table.printed["method"]) == ["a", "", "b", "a"]
    assert "| a | x |" in table_markdown(table)
    assert "|  | y |" in table_markdown(table)
    assert exports.to_csv(table).splitlines() == ["method,measure", "a,x", "a,y", "b,x", "a,x"]
    assert "a & x" in exports.to_latex(table)
    assert " & y" in exports.to_latex(table)
    assert "a & y" not in exports.to_latex(table)


def test_csv_keeps_words_beside_numbers_and_columns_of_one_name():
    rows = [
        {"method": "a", "k": Cell("5", {"value": 5.0}), "x\ny": "1", "x y": "2"},
        {"method": "b", "k": "random", "x\ny": "3", "x y": "4"},
        {"method": "c", "k": "–", "x\ny": "5", "x y": "6"},
        {"method": "d", "k": Cell("NaN", {"value": math.nan}), "x\ny": "7", "x y": "8"},
    ]
    table = Table.of("Title", rows)
    assert exports.to_csv(table).splitlines() == [
        "method,k,x y,x y (2)", "a,5.0,1,2", "b,random,3,4", "c,,5,6", "d,NaN,7,8"
    ]  # fmt: skip
    assert table.records()[1] == {"method": "b", "k": "random", "x y": "3", "x y (2)": "4"}


def test_csv_of_what_is_not_one_value():
    """A cell of several values is a column for each; one that lacks a value in every row has no column of it."""
    both, one = Cell("4 → 2", {"before": 4.0, "after": 2.0}), Cell("1 → –", {"before": 1.0})
    text = exports.to_csv(Table.of("Title", [{"method": "ddpo", "weights (MiB)": both, "state (MiB)": one}]))
    assert text.splitlines()[0].startswith('method,"weights (MiB), before","weights (MiB), after"')
    row = pd.read_csv(io.StringIO(text)).iloc[0]
    assert (row["weights (MiB), before"], row["weights (MiB), after"]) == (4, 2)
    assert not any(column.startswith("state") and column.endswith("after") for column in row.index)


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
    part = ReportPart(one_axis(run[0]), run[1], run[2], meta, make_pictures())
    written = write_document(build_together([part, part]), tmp_path, ("csv", "png"))
    names = {path.relative_to(tmp_path).as_posix() for path in written}
    assert {"tables/ranking.csv", "tables/part-2-ranking.csv", "figures/part-2-pictures.png"} <= names


def test_pictures_of_a_page_are_as_large_as_fits(run, meta, make_pictures):
    small = build_report(one_axis(run[0]), run[1], run[2], meta, make_pictures(size=300))
    assert small.sheet.size == 512
    image = next(image for row in small.sheet.rows[1.0].values() for image in row if image is not None)
    assert Image.open(io.BytesIO(exports.pictures.png(image))).size == (300, 300)
