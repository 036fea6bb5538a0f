"""What a report leaves out of a large run, it says; and what is computed faster is the same."""

import dataclasses
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from reports import document
from reports.build import build_report, write_document
from reports.figures import pictures
from reports.figures.curves import panel
from reports.figures.pictures import arrange
from reports.figures.styles import styles
from reports.figures.svg import page_svg
from reports.frame import runs_of, validate_curves, with_statuses
from reports.notices import notices
from reports.statistics import comparison
from reports.tables.table import Table
from reports.writers import page


def one_axis(curves):
    return curves.drop(columns=["steps", "nfe", "flops", "train_seconds"])


def test_of_many_methods_the_best_are_drawn_and_the_page_says_so(make_run, meta, monkeypatch, tmp_path):
    monkeypatch.setattr(document, "MOST_DRAWN", 2)
    monkeypatch.setattr(page, "MOST_ROWS", 5)
    methods = {"base": (1, 0, 0, 0.0, 0.0, 0.0)}
    methods |= {f"m{n}": (4, 64, 5, 0.1 * n, 0.1, 0.01) for n in range(6)}
    curves, evaluation, trials = make_run(methods)
    built = build_report(one_axis(curves), evaluation, trials, meta)
    assert list(built.styles) == ["m5", "m4", "base"]
    write_document(built, tmp_path)
    text = (tmp_path / "report.html").read_text()
    assert "Curves are drawn of 3 of 7 methods" in text
    assert "Curves are drawn of 3 of 7 methods" in (tmp_path / "report.md").read_text()
    assert len(built.ranking.cells) == 7


def test_a_long_table_is_cut_on_the_page_and_says_what_is_left_out():
    cells = pd.DataFrame({"method": list("abcdef"), "status": ["failed"] + 2 * ["running"] + 3 * ["done"]})
    table = Table("Trials", cells, "A note.")
    cut = page.first_rows(table, 2)
    assert list(cut.cells["method"]) == ["a", "b"]
    assert cut.note == ("The first 2 of 6 rows; report.md has them all. Left out here: 3 done and 1 running. A note.")
    assert page.first_rows(table, 6) is table


def test_a_few_curves_are_lines_and_thousands_are_a_light_picture(make_run, meta):
    curves, _, _ = make_run(seeds=range(60))
    curves = build_frame(curves, meta)
    few = curves[curves["seed"] < 3]
    drawn = {}
    for name, frame in (("few", few), ("many", curves)):
        figure = panel(frame, "reward_queries", "reward", "train", meta, styles(curves, meta.methods))
        drawn[name] = page_svg(figure, name, "a panel")
    assert "data:image/png" not in drawn["few"]
    assert "data:image/png" in drawn["many"]
    assert len(drawn["many"]) < 100_000


def build_frame(curves, meta):
    from reports.frame import validate_curves

    return validate_curves(curves, meta.budget_column)


def test_pictures_that_are_not_shown_are_not_opened(make_pictures, tmp_path):
    """Files of a seed that is not shown need not even be there; those that are shown look as before."""
    shown = make_pictures()
    files = []
    for number, picture in enumerate(shown):
        path = tmp_path / f"{number}.png"
        picture.image.save(path)
        files.append(dataclasses.replace(picture, image=path))
    elsewhere = [dataclasses.replace(p, seed=1, image=Path("nowhere.png")) for p in shown if p.variant != "base"]
    order = ["alignprop", "ddpo", "rwr", "base"]
    assert arrange([*elsewhere, *files], order, ["base"]) == arrange(shown, order, ["base"])


def test_pictures_of_many_methods_are_of_the_best(make_pictures, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_VARIANTS", 2)
    sheet = arrange(make_pictures(), ["alignprop", "ddpo", "rwr", "base"], ["base"])
    assert list(sheet.rows[1.0]) == ["base", "alignprop"]
    assert sheet.left_out == "Left out: 2 of 4 methods, those ranked last."


def slow_ratios(costs, ends, baseline, axis):
    """Seed by seed, as the docstring of `ratios_to_baseline` says it."""
    found = {}
    for variant in costs["variant"].unique():
        ratios, bound, top = [], False, False
        for _, row in costs[costs["variant"] == variant].iterrows():
            other = costs[(costs["variant"] == baseline) & (costs["seed"] == row["seed"])]
            if variant == baseline or other.empty:
                continue
            spent = other.iloc[0][axis]
            early, late = row["at_most"], other.iloc[0]["at_most"]
            bound |= early
            if math.isinf(spent):
                spent, bound = ends.set_index("trial")[axis][other.iloc[0]["trial"]], True
            ratios.append(spent / row[axis] if row[axis] > 0 and not (early and late) else math.nan)
            top |= late and ratios[-1] > 0
        if ratios and not (bound and top):
            found[variant] = (ratios, bound, top)
    return found


@pytest.mark.parametrize("seed", range(5))
def test_ratios_are_those_of_a_loop(seed):
    rng = np.random.default_rng(seed)
    rows = [
        {"trial": f"{v}-{s}", "variant": v, "seed": s, "steps": rng.choice([0.0, math.inf, *rng.uniform(1, 9, 4)])}
        for v in "abc"
        for s in range(6)
        if rng.random() < 0.8
    ]
    costs = pd.DataFrame(rows)
    costs["at_most"] = np.isfinite(costs["steps"]) & (rng.random(len(costs)) < 0.1)
    ends = costs[["trial"]].assign(steps=rng.uniform(10, 20, len(costs)))
    found = comparison.ratios_to_baseline(costs, ends, "b", "steps")
    wanted = slow_ratios(costs, ends, "b", "steps")
    assert list(found) == list(wanted)
    for variant, (ratios, bound, top) in wanted.items():
        assert (found[variant].at_least, found[variant].at_most) == (bound, top)
        np.testing.assert_equal(
            dataclasses.astuple(found[variant].summary), dataclasses.astuple(comparison.summarise(ratios))
        )


def test_categories_pair_as_words_do(run, meta):
    curves, evaluation, trials = run
    words = evaluation.copy()
    for name in ("trial", "method", "variant", "split", "metric", "prompt"):
        evaluation[name] = evaluation[name].astype("category")
    tables = [build_report(one_axis(curves), frame, trials, meta).paired.cells for frame in (words, evaluation)]
    pd.testing.assert_frame_equal(*tables)
    assert len(tables[0])


def test_notices_of_many_rows_need_little_memory(run, meta):
    curves, evaluation, trials = run
    many = pd.concat([evaluation] * (400_000 // len(evaluation)), ignore_index=True)
    many = many.assign(trial=many["trial"].astype("category"), variant=many["variant"].astype("category"))
    curves = with_statuses(validate_curves(curves, meta.budget_column), trials)
    found = notices(curves, many, trials, meta)
    tracemalloc.start()
    try:
        assert notices(curves, many, trials, meta) == found
        assert tracemalloc.get_traced_memory()[1] < 20 * len(many), "a float and two truths a row, and not its words"
    finally:
        tracemalloc.stop()


def test_runs_of_equal_neighbours():
    starts, ends = runs_of(np.array(["a", "a", "b", "a"]))
    assert list(zip(starts, ends, strict=True)) == [(0, 2), (2, 3), (3, 4)]
    assert [len(part) for part in runs_of(np.array([]))] == [0, 0]
