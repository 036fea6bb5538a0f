"""Two runs side by side: the word, the sign and the uncertainty."""

import math

import pandas as pd
import pytest

from reports.regression.contrast import BETTER, NOT_COMPARABLE, SAME, WORSE, Side, compare, contrast_table
from tests.reports.regression.test_gate import AXIS, build


def sides(first, second):
    return Side(*first[:2]), Side(*second[:2])


def by_metric(first, second, target=None):
    return {contrast.metric: contrast for contrast in compare(*sides(first, second), AXIS, target)}


def test_better_and_worse_follow_each_metrics_direction():
    found = by_metric(build(), build(gain=0.7, nfe=200.0), 1.5)
    assert found["reward train"].verdict == WORSE
    assert found["reward train"].difference == pytest.approx(-0.3)
    assert found["area"].verdict == WORSE
    assert found["cost_to_target"].verdict == WORSE
    assert found["nfe"].verdict == BETTER
    other = by_metric(build(gain=0.7), build(), 1.5)
    assert {other[m].verdict for m in ("reward train", "reward heldout", "area", "cost_to_target")} == {BETTER}


def test_the_same_run_shows_no_difference_and_only_changed_is_empty():
    found = compare(*sides(build(), build()), AXIS, None)
    assert {contrast.verdict for contrast in found} == {SAME}
    assert contrast_table(found, ("A", "B"), only_changed=True).cells.empty
    assert len(contrast_table(found, ("A", "B")).cells) == len(found)


def test_intervals_begin_at_five_seeds_and_prompts_are_resampled_with_them():
    five = by_metric(build(noise=0.1), build(noise=0.1, shift=2))["reward train"]
    assert five.interval
    assert five.crossed is not None
    few = by_metric(build(seeds=3, noise=0.1), build(seeds=3, noise=0.1, shift=2))["reward train"]
    assert not few.interval
    assert few.crossed is None
    assert "no interval is claimed" in contrast_table([few], ("A", "B")).note
    assert "simulated coverage" in contrast_table([five], ("A", "B")).note


def test_one_seed_shows_nothing():
    found = by_metric(build(seeds=1), build(seeds=1, gain=0.5))
    assert found["reward train"].verdict == SAME
    assert found["reward train"].p == 1.0


def test_what_only_one_run_has_or_is_nan_is_not_comparable():
    found = by_metric(build(), build(variant="n"))
    assert found["reward train"].verdict == NOT_COMPARABLE
    assert found["reward train"].why == "no finished trial of it in A"
    broken = build()
    broken[0].loc[broken[0]["point"] == 2, "value"] = math.nan
    assert by_metric(build(), broken)["reward train"].why == "a value is NaN or infinite"


def test_holm_over_methods_of_a_metric():
    two = [pd.concat(parts) for parts in zip(build(noise=0.1), build(variant="n", noise=0.1), strict=True)]
    moved = zip(build(noise=0.1, shift=1), build(variant="n", noise=0.1, shift=2), strict=True)
    other = [pd.concat(parts) for parts in moved]
    found = [c for c in compare(*sides(two, other), AXIS, None) if c.metric == "reward train"]
    alone = by_metric(build(noise=0.1), build(noise=0.1, shift=1))["reward train"]
    assert next(c for c in found if c.variant == "m").p >= alone.p


def test_rounding_of_an_untrained_model_is_no_difference():
    still = [frame[frame["point"] == 0] if "point" in frame else frame for frame in build(noise=0.0)]
    other = [still[0].assign(value=still[0]["value"] * (1 + 1e-7)), *still[1:]]
    assert by_metric(still, other)["reward train"].verdict == SAME
    moved = [still[0].assign(value=still[0]["value"] * 1.01), *still[1:]]
    assert by_metric(still, moved)["reward train"].verdict == BETTER
    assert by_metric(still, build())["reward train"].why == "it trains in B only"


def test_a_metric_that_is_something_else_in_each_run_is_not_compared():
    gold = [build()[0].assign(metric="gold"), build()[0]]
    frames = (pd.concat(gold, ignore_index=True), *build()[1:])
    found = {contrast.metric: contrast for contrast in compare(*sides(frames, frames), AXIS, None, ["gold"])}
    assert found["gold train"].why == "it is measured by something else in B"
    assert found["reward train"].verdict == SAME


def test_a_trial_that_failed_half_way_is_in_no_figure():
    curves, evaluation, trials = build(seeds=6, noise=0.1)
    failed = curves["seed"] == 5
    curves.loc[failed, "status"] = "failed"
    evaluation.loc[evaluation["seed"] == 5, "value"] += 100.0
    found = by_metric((curves, evaluation, trials), build(seeds=6, noise=0.1, shift=1))["reward train"]
    assert found.seeds == (5, 6)
    assert abs(found.crossed[0]) < 1
    assert found.second - found.first == pytest.approx(found.difference), "means of the seeds that are compared"


def test_a_target_that_is_not_reached_is_a_bound_or_nothing():
    reached, not_reached = build(), build(gain=0.3)
    found = compare(*sides(reached, not_reached), AXIS, 1.5)
    cost = next(contrast for contrast in found if contrast.metric == "cost_to_target")
    assert (cost.verdict, cost.bounds) == (WORSE, (False, True))
    assert "≥ 128" in set(contrast_table(found, ("A", "B")).cells["B"])
    back = by_metric(not_reached, reached, 1.5)["cost_to_target"]
    assert (back.verdict, back.bounds) == (BETTER, (True, False))
    neither = by_metric(not_reached, not_reached, 1.5)["cost_to_target"]
    assert neither.why == "neither run reaches the target in every seed"
