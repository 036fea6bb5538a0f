"""Figures of over-optimisation: where gold turned is marked, and only there."""

import pandas as pd
import pytest

from reports.figures import goodhart
from reports.figures.styles import styles


def markers(axes, shape):
    return [line for line in axes.lines if line.get_marker() == shape]


@pytest.mark.parametrize("pair", goodhart.PAIRS)
def test_the_turn_of_gold_is_marked_for_the_method_that_turned(run, meta, pair):
    chosen = styles(run[0], meta.methods)
    axes = goodhart.figure(run[0], [pair], meta, chosen, goodhart.turned(run[0], meta)).axes[0]
    (diamond,) = markers(axes, "D")
    assert diamond.get_color() == chosen["alignprop"].colour
    assert len(markers(axes, "o")) == 6, "a ring and a dot for each trained method"
    if pair == ("reward", "gold"):
        golds = run[0][(run[0]["variant"] == "alignprop") & (run[0]["metric"] == "gold") & (run[0]["split"] == "train")]
        assert diamond.get_ydata()[0] == pytest.approx(golds.groupby("point")["value"].median().max())


def test_what_was_not_measured_is_not_drawn(run):
    curves = run[0]
    assert goodhart.pairs(curves) == list(goodhart.PAIRS)
    assert goodhart.pairs(curves[curves["metric"] != "gold"]) == list(goodhart.PAIRS[:2])
    assert goodhart.pairs(curves[curves["variant"] == "base"]) == []


def test_on_paper_a_legend_says_which_line_is_which_method(run, meta):
    chosen = styles(run[0], meta.methods)
    arguments = (run[0], list(goodhart.PAIRS), meta, chosen, {})
    (legend,) = goodhart.figure(*arguments, paper=True).legends
    assert [text.get_text() for text in legend.get_texts()] == [v for v in chosen if v != "base"]
    assert not goodhart.figure(*arguments).legends, "the page has its own"


@pytest.mark.parametrize("pairs", [1, 2, 3])
def test_a_legend_of_long_names_stays_inside_its_figure(make_run, meta, pairs):
    first = make_run()[0]
    names = {name: f"{name} (another-run)" for name in first["variant"].unique() if name != "base"}
    second = first.assign(variant=first["variant"].replace(names), trial=first["trial"] + "b")
    curves = pd.concat([first, second[second["variant"] != "base"]])
    drawn = goodhart.figure(curves, goodhart.PAIRS[:pairs], meta, styles(curves, meta.methods), {}, paper=True)
    drawn.draw_without_rendering()
    (legend,) = drawn.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= drawn.bbox.width
