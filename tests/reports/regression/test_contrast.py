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
