"""The report as files: whole, self-contained, and written for whatever a run left behind."""

import dataclasses
import html.parser
import math
import re
import xml.etree.ElementTree as ET

import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from PIL import Image

from reports.build import build_report, write_document
from reports.figures import curves as figures
from reports.figures.pictures import Picture, arrange, final_grid, grid
from reports.figures.styles import styles
from reports.figures.svg import page_svg
from reports.notices import notices

VOID = {"meta", "link", "img", "br", "line", "path", "use", "rect"}
PICTURELESS: list = []


def write_report(curves, evaluation, trials, meta, pictures, out, formats=("html", "md")):
    return write_document(build_report(curves, evaluation, trials, meta, pictures), out, formats)


class Checker(html.parser.HTMLParser):
    """Balanced tags, unique ids, nothing loaded from elsewhere."""

    def __init__(self):
        super().__init__()
        self.stack, self.ids, self.outside = [], [], []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.ids += [values["id"]] if "id" in values else []
        self.outside += [v for k, v in attrs if k in ("src", "href", "xlink:href") and not v.startswith(("data:", "#"))]
        if tag not in VOID:
            self.stack.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.stack.pop() == tag

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()


def one_axis(curves):
    """Without the axes that would each draw their own figures: faster, where the figures are not the point."""
    return curves.drop(columns=["steps", "nfe", "flops", "train_seconds"])


def check_page(path):
    text = path.read_text()
    checker = Checker()
    checker.feed(text)
    assert checker.stack == []
    assert len(checker.ids) == len(set(checker.ids))
    assert checker.outside == []
    assert path.stat().st_size < 10_000_000
    return text


def test_the_whole_report(run, meta, make_pictures, tmp_path):
    written = write_report(*run, meta, make_pictures(), tmp_path)
    names = {path.relative_to(tmp_path).as_posix() for path in written}
    assert {"report.html", "report.md", "figures/curves-reward-queries.png", "figures/pictures.png"} <= names
    assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == sorted(written)  # no temporary file is left
    text = check_page(tmp_path / "report.html")
    assert len(re.findall("<button[^>]* data-axis ", text)) == 6
    assert text.count('data-group="part-1-pictures"') == 4
    markdown = (tmp_path / "report.md").read_text()
    assert "| 1 | alignprop |" in markdown
    assert "](figures/pictures.png)" in markdown
    with Image.open(tmp_path / "figures/curves-reward-queries.png") as image:
        assert image.convert("L").getextrema() != (255, 255)


def test_the_same_frames_give_the_same_page(run, meta, tmp_path):
    run = (one_axis(run[0]), *run[1:])
    first = write_report(*run, meta, PICTURELESS, tmp_path / "a", formats=("html",))[0]
    second = write_report(*run, meta, PICTURELESS, tmp_path / "b", formats=("html",))[0]
    assert first.read_bytes() == second.read_bytes()
    assert not (tmp_path / "a/report.md").exists()


def broken(curves, trials):
    """One trial diverged with NaN, one running, one planned without a curve."""
    trials = trials.copy()
    for trial, status, cause in (
        ("ddpo-s1", "diverged", "NaN <at> step 24"),
        ("rwr-s2", "running", None),
        ("rwr-s1", "planned", None),
    ):
        trials.loc[trials["trial"].str.startswith(trial), ["status", "cause"]] = [status, cause]
    curves = curves[~curves["trial"].str.startswith("rwr-s1")]
    curves = curves[~(curves["trial"].str.startswith(("ddpo-s1", "rwr-s2")) & (curves["point"] > 4))].copy()
    curves.loc[curves["trial"].str.startswith("ddpo-s1") & (curves["point"] == 4), "value"] = math.nan
    return curves, trials


def test_a_run_still_going_with_broken_trials(run, meta, tmp_path):
    curves, trials = broken(run[0], run[2])
    write_report(one_axis(curves), run[1], trials, meta, PICTURELESS, tmp_path)
    text = check_page(tmp_path / "report.html")
    assert "This run is still going: 9 of 12 trials done" in text
    assert "NaN &lt;at&gt; step 24" in text
    assert "1 trial diverged: ddpo (seed 1)" in text
    assert "bench run sweeps/aesthetic.yaml" in text


@pytest.mark.parametrize("cut", ["one seed", "one point", "no base", "only base", "no gold", "no target", "unequal"])
def test_smaller_runs(run, meta, tmp_path, cut):
    curves, evaluation, trials = run
    if cut == "one seed":
        curves, evaluation, trials = (f[f["seed"] == 0] for f in (curves, evaluation, trials))
    elif cut == "one point":
        curves = curves[curves["point"] == 0]
    elif cut == "no base":
        curves, evaluation, trials = (f[f["variant"] != "base"] for f in (curves, evaluation, trials))
    elif cut == "only base":
        curves, evaluation, trials = (f[f["variant"] == "base"] for f in (curves, evaluation, trials))
    elif cut == "no gold":
        curves = curves[curves["metric"] == "reward"]
        meta = dataclasses.replace(meta, gold=None)
    elif cut == "no target":
        meta = dataclasses.replace(meta, target=None, budget_limit=None)
    else:
        curves = curves[(curves["seed"] > 0) | (curves["point"] % 2 == 0)]
    write_report(one_axis(curves), evaluation.head(0), trials, meta, PICTURELESS, tmp_path)
    check_page(tmp_path / "report.html")


def test_nothing_at_all_is_an_error_and_trials_alone_are_a_report(run, meta, tmp_path):
    nothing = pd.DataFrame()
    with pytest.raises(ValueError, match="empty"):
        write_report(nothing, nothing, nothing, meta, PICTURELESS, tmp_path)
    failed = run[2].assign(status="failed", cause="the weights are missing")
    write_report(nothing, nothing, failed, meta, PICTURELESS, tmp_path)
    assert "the weights are missing" in check_page(tmp_path / "report.html")
    with pytest.raises(ValueError, match=r"\['docx'\]; known: html, md"):
        write_report(nothing, nothing, failed, meta, PICTURELESS, tmp_path, formats=("docx",))


def test_names_cannot_inject_markup_or_mathematics(run, meta, tmp_path):
    nasty = "<script>alert(1)</script>$x^{|*"
    run = tuple(f.assign(variant=f["variant"].replace("rwr", nasty)) for f in (one_axis(run[0]), *run[1:]))
    write_report(*run, dataclasses.replace(meta, name=nasty, description=nasty), PICTURELESS, tmp_path)
    assert "<script>alert" not in check_page(tmp_path / "report.html")
    assert "<script>" not in (tmp_path / "report.md").read_text()


def test_figures_are_well_formed_and_follow_the_readers_mode(run, meta):
    figure = figures.panel(
        run[0], "nfe", "reward", "train", meta, styles(run[0], meta.methods), {"target": 1.0, "ddpo": 0.8}
    )
    svg = page_svg(figure, "f-1", 'a "label" <here>')
    root = ET.fromstring(svg)
    assert root.attrib["aria-label"] == 'a "label" <here>'
    assert "var(--c0067a8, #0067a8)" in svg
    assert not re.search(r"(fill|stroke): #", svg)
    assert "target 1.00" in svg


def test_base_is_a_level_line_and_seeds_are_all_drawn(run, meta):
    axes = figures.panel(run[0], "reward_queries", "reward", "train", meta, styles(run[0], meta.methods)).axes[0]
    level = [line for line in axes.lines if len(set(line.get_ydata())) == 1]
    assert len(level) == 1
    seeds = [c for c in axes.collections if isinstance(c, LineCollection)]
    assert sum(len(c.get_segments()) for c in seeds) == 9
    assert len([line for line in axes.lines if line.get_linewidth() == 2.3]) == 3


def test_a_wide_spread_asks_for_a_log_axis_and_a_far_target_does_not_flatten(make_run, meta):
    curves = make_run()[0]
    curves.loc[curves["variant"] == "ddpo", "nfe"] *= 50
    axes = figures.panel(curves, "nfe", "reward", "train", meta, styles(curves, meta.methods), {"target": 50.0}).axes[0]
    assert axes.get_xscale() == "symlog"
    assert axes.get_ylim()[1] < 5


def test_pictures_put_base_first_beside_every_fraction(make_pictures):
    sheet = arrange(make_pictures(), ["alignprop", "ddpo", "rwr", "base"], {"base"})
    assert sheet.fractions == (0.0, 0.25, 0.5, 1.0)
    assert list(sheet.rows[1.0]) == ["base", "alignprop", "ddpo", "rwr"]
    assert sheet.columns[-1] == ("a lobster", "heldout")
    assert all(image is not None for row in sheet.rows[0.5].values() for image in row)
    assert arrange([], ["base"]) is None


@pytest.mark.parametrize("damage", ["half", "nothing", "zeros", "no picture", "folder"])
def test_a_picture_that_cannot_be_read_is_left_out_and_named(run, meta, tmp_path, damage):
    good, bad = tmp_path / "a.png", tmp_path / "ddpo-s0-x" / "samples" / "point-0001" / "b.png"
    bad.parent.mkdir(parents=True)
    Image.effect_noise((32, 32), 64).save(good)
    content = good.read_bytes()
    if damage == "folder":
        bad.mkdir()
    else:
        half = len(content) // 2
        wrong = {"half": content[:half], "nothing": b"", "zeros": content[:half] + bytes(half), "no picture": b"[1]"}
        bad.write_bytes(wrong[damage])
    samples = [Picture("ddpo", 0, 1, 1.0, prompt, "train", path) for prompt, path in (("a cat", good), ("a dog", bad))]
    document = build_report(*run, meta, samples)
    assert [image is not None for image in document.sheet.rows[1.0]["ddpo"]] == [True, False]
    assert document.sheet.unreadable == (bad,)
    [told] = [notice.text for notice in document.notices if "picture" in notice.text]
    assert told.startswith("1 picture cannot be read and is left out: ddpo-s0-x/samples/point-0001/b.png.")


def test_the_page_says_what_became_of_damaged_files(run, meta):
    curves, evaluation, trials = run
    texts = ["curve.jsonl:3 is torn; recovered from settled.json"]
    damaged = trials.assign(damage=[texts if place == 0 else [] for place in range(len(trials))])
    first = trials.iloc[0]
    document = build_report(curves, evaluation, damaged, meta)
    named = f"{first['variant']} (seed {first['seed']}): {texts[0]}."
    assert [notice.text for notice in document.notices if notice.kind == "broken" and "curve" in notice.text] == [named]


def test_of_several_points_the_one_nearest_to_a_quarter_is_shown():
    def picture(fraction, colour):
        image = Image.new("RGB", (8, 8), colour)
        return Picture("ddpo", 0, int(fraction * 100), fraction, "a cat", "train", image)

    sheet = arrange([picture(0.27, "red"), picture(0.2, "green"), picture(0.36, "blue")], ["ddpo"])
    assert sheet.fractions == (0.25,)
    assert sheet.rows[0.25]["ddpo"][0].getpixel((0, 0)) == (255, 0, 0)


def test_the_picture_for_a_readme_shows_both_kinds_of_prompt(make_pictures):
    sheet = arrange(make_pictures(), ["ddpo"], {"base"})
    narrow, wide = final_grid(sheet, size=32, columns=3), final_grid(sheet, size=32)
    assert wide.width - narrow.width == 5 * 36  # two training prompts and one held out, against all eight
    assert final_grid(sheet, size=32, columns=8).width == wide.width


def test_large_pictures_are_cut_to_fit_the_page(make_pictures, monkeypatch):
    monkeypatch.setattr("reports.figures.pictures.ROOM", 4_000)
    sheet = arrange(make_pictures(), ["alignprop"], {"base"})
    assert sheet.fractions == (0.0, 1.0)
    assert len(sheet.columns) < 8
    assert "Left out" in sheet.left_out


def test_grid_lays_out_rows_and_columns():
    red, blue = Image.new("RGB", (64, 64), "red"), Image.new("RGB", (64, 64), "blue")
    sheet = grid({"base": {"a": red, "b": blue}, "ddpo": {"a": blue}}, size=32)
    assert sheet.getpixel((sheet.width - 20, sheet.height - 20)) == (255, 255, 255)  # ddpo has no b
    assert sheet.getpixel((sheet.width - 20, sheet.height - 56)) == (0, 0, 255)
    with pytest.raises(ValueError, match="no rows"):
        grid({})


def test_a_reward_measured_on_both_splits_is_drawn_once_on_each(run):
    heldout = run[0][run[0]["metric"] == "reward/emoji-alignment"].assign(split="heldout")
    pairs = figures.panels(pd.concat([run[0], heldout]))
    assert len(pairs) == len(set(pairs))
    assert pairs[-2:] == [("reward/emoji-alignment", "train"), ("reward/emoji-alignment", "heldout")]


def test_rather_than_few_prompts_the_stages_between_are_left_out(make_pictures, monkeypatch):
    monkeypatch.setattr("reports.figures.pictures.FEWEST_COLUMNS", 3)
    monkeypatch.setattr("reports.figures.pictures.ROOM", 180_000)
    sheet = arrange(make_pictures(), ["alignprop"], {"base"})
    assert len(sheet.fractions) == 4
    assert 3 <= len(sheet.columns) < 8
    assert {split for _, split in sheet.columns} == {"train", "heldout"}
    assert "of 8 prompts." in sheet.left_out


def test_values_that_are_not_finite_are_counted_by_their_reward(run, meta):
    """A column of NaN says in the report whose it is: 3 images of gold, on one variant."""
    curves, evaluation, trials = run
    evaluation = evaluation.copy()
    rows = evaluation.index[(evaluation["metric"] == "gold") & (evaluation["variant"] == "ddpo")][:3]
    evaluation.loc[rows, "value"] = math.nan
    total = int((evaluation["metric"] == "gold").sum())
    (notice,) = [notice.text for notice in notices(curves, evaluation, trials, meta) if "NaN" in notice.text]
    assert notice.startswith(f"3 of {total:,} values of gold ({meta.gold}) are NaN or infinite (ddpo).")
