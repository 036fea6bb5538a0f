"""The tests over seeds: against scipy, and against known truths by simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from reports.statistics import evidence
from tests.reports import simulate

BEFORE, AFTER = [5.0, 5.4, 5.1, 5.3, 5.2], [4.8, 5.3, 4.7, 5.2, 4.9]


def test_paired_is_scipys_one_sided_paired_t():
    found = evidence.paired(np.subtract(BEFORE, AFTER))
    expected = stats.ttest_rel(BEFORE, AFTER, alternative="greater")
    assert found.p == pytest.approx(expected.pvalue)
    assert found.p_gain == pytest.approx(1 - expected.pvalue)
    assert found.interval == pytest.approx(tuple(stats.ttest_rel(BEFORE, AFTER).confidence_interval()))


@pytest.mark.parametrize(("sign", "alternative"), [(1.0, "greater"), (-1.0, "less")])
def test_pooled_is_scipys_two_sample_t_in_the_direction_that_is_worse(sign, alternative):
    found = evidence.pooled(BEFORE, AFTER[:2], sign)
    assert found.p == pytest.approx(stats.ttest_ind(BEFORE, AFTER[:2], alternative=alternative).pvalue)
    assert found.interval is None, "under five seeds no interval is claimed"


def test_too_few_seeds_are_no_test_and_no_spread_is_certainty():
    assert evidence.paired([0.3]).test == "none"
    assert evidence.pooled([1.0], [0.5]).p == 1.0
    assert evidence.pooled([1.0, 1.2], [0.5]).test == "pooled", "one seed against several can be tested"
    same = evidence.paired([0.1, 0.1, 0.1])
    assert (same.p, same.p_gain) == (0.0, 1.0)
    assert evidence.paired([0.0, 0.0]).p == 1.0


def test_holm_by_hand_and_with_weights():
    # 0.01·3, then 0.02·2, then max(0.04, 0.03): Holm's own example is monotone
    assert evidence.holm([0.01, 0.03, 0.02], [1, 1, 1]) == pytest.approx([0.03, 0.04, 0.04])
    # weights .8 and .2: 0.01 / 0.2 = 0.05 comes before 0.08 / 0.8 = 0.1; adjusted 1·0.05 and then 0.8·0.1
    assert evidence.holm([0.08, 0.01], [0.8, 0.2]) == pytest.approx([0.08, 0.05])
    assert evidence.holm([], []) == []


@pytest.mark.parametrize("alike", [0.0, 0.7])
@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_false_alarms_stay_at_the_nominal_five_per_cent(seeds, alike):
    """At most 67 of 1,000 pairs: 50 and 2.5 standard deviations of a binomial."""
    assert simulate.alarms(1000, seeds, alike, seed=1) <= 67


@pytest.mark.parametrize(("seeds", "run_seeds"), [(2, 2), (3, 3), (5, 5), (8, 1), (10, 3)])
def test_a_loss_of_the_size_that_is_claimed_is_seen_four_times_of_five(seeds, run_seeds):
    """Three standard deviations of 1,000 draws are 3.8 %; where the sides of a seed are alike, more is seen."""
    share = simulate.seen(1000, seeds, run_seeds, 0.0, seed=2, alpha=0.02)
    assert abs(share - evidence.POWER) < 0.04


def test_alike_sides_are_seen_more_often_than_is_claimed():
    assert simulate.seen(500, 5, 5, 0.7, seed=2, alpha=0.02) > 0.9


def test_power_grows_with_seeds_and_needs_degrees_of_freedom():
    factors = [evidence.detectable_factor(0.5, "pooled", n, n, 0.05) for n in (2, 3, 5, 10)]
    assert factors == sorted(factors, reverse=True)
    assert evidence.detectable_factor(0.5, "pooled", 1, 1, 0.05) == math.inf
    assert evidence.expected_power(0.0, 0.0, "paired", 5, 5, 0.05) == pytest.approx(0.05, abs=0.003), "its size"


@pytest.mark.parametrize(("seeds", "claimed"), evidence.CROSSED_COVERAGE.items())
def test_coverage_that_is_printed_is_what_a_simulation_finds(seeds, claimed):
    student, crossed = simulate.coverage(seeds, 20, datasets=1000, draws=500)
    assert student == pytest.approx(0.95, abs=0.02)
    assert crossed == pytest.approx(claimed, abs=0.03)


def test_the_simulation_resamples_as_the_product_does():
    """A wide grid has the same interval either way, up to the draws."""
    apart = np.random.default_rng(0).normal(1.0, 1.0, (6, 12))
    low, high = evidence.crossed_interval(apart)
    assert low < apart.mean() < high
    assert evidence.crossed_interval(apart) == (low, high), "the same every time"
    assert evidence.crossed_interval(np.full((5, 4), 0.25)) == pytest.approx((0.25, 0.25))
