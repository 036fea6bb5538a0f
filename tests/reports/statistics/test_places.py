"""Which places the seeds leave open."""

import time

import numpy as np
import pytest

from reports.statistics import evidence
from reports.statistics.places import _holm, places


def by_seed(*values):
    return dict(enumerate(values))


def test_rows_far_apart_have_a_place_each_and_near_ones_share_theirs():
    found = places({"a": by_seed(9.0, 9.1, 9.2), "b": by_seed(5.0, 5.2, 5.1), "c": by_seed(5.1, 5.0, 5.3)})
    assert found == {"a": (1, 1), "b": (2, 3), "c": (2, 3)}


def test_one_seed_tells_nothing_apart():
    assert places({"a": {0: 9.0}, "b": {0: 1.0}, "base": {0: 0.0}}, {"base"}) == dict.fromkeys(
        ("a", "b", "base"), (1, 3)
    )
    assert places({"a": {0: 9.0}}) == {"a": (1, 1)}
    assert places({}) == {}


def test_from_five_seeds_on_the_differences_of_each_seed_decide():
    """Seeds that differ by ten and methods by one: apart seed by seed, and not as two samples."""
    luck = np.array([0.0, 10.0, 20.0, 30.0, 40.0])
    better = luck + 1.0 + np.array([0.01, -0.01, 0.02, 0.0, -0.02])
    assert places({"a": by_seed(*better), "b": by_seed(*luck)}) == {"a": (1, 1), "b": (2, 2)}
    assert places({"a": by_seed(*better[:4]), "b": by_seed(*luck[:4])}) == {"a": (1, 2), "b": (1, 2)}
    others = {seed + 5: value for seed, value in enumerate(luck)}
    assert places({"a": by_seed(*better), "b": others}) == {"a": (1, 2), "b": (1, 2)}, "no seed in common"


def test_a_model_that_trains_nothing_has_no_luck():
    """Three seeds of the method against a constant: two degrees of freedom, and not four."""
    method = (4.21, 4.26, 4.24)
    found = evidence.paired(np.array([4.18] * 3) - np.array(method))
    assert 2 * found.p_gain > 0.05 > 2 * evidence.pooled([4.18] * 3, method, -1.0).p
    assert places({"a": by_seed(*method), "base": by_seed(4.18, 4.18, 4.18)}, {"base"})["a"] == (1, 2)
    assert places({"a": by_seed(4.30, 4.31, 4.32), "base": {0: 4.18}}, {"base"})["a"] == (1, 1), "one seed of it is all"
    assert places({"x": {0: 2.0}, "base": {0: 1.0}}, {"x", "base"}) == {"x": (1, 1), "base": (2, 2)}


def test_rounding_is_no_difference():
    assert places({"a": by_seed(87.3, 87.3), "b": by_seed(87.3 + 1e-6, 87.3 + 1e-6)}) == {"a": (1, 2), "b": (1, 2)}


def test_a_place_is_guarded_against_all_that_it_is_compared_with():
    """Holm's procedure: what tells two rows apart does not tell one of twenty from the others."""
    pair = {"a": by_seed(5.0, 5.2, 5.4), "b": by_seed(4.6, 4.8, 4.9)}
    assert 0.02 < 2 * evidence.pooled(list(pair["a"].values()), list(pair["b"].values())).p < 0.05
    assert places(pair)["a"] == (1, 1)
    crowd = {f"m{n}": by_seed(4.9, 5.1 + 0.01 * n, 5.0) for n in range(18)}
    assert places(pair | crowd)["a"] == (1, 20)


def test_adjusted_values_are_those_of_the_gate():
    p = np.random.default_rng(0).random((7, 7))
    adjusted = _holm(p)
    for row in range(7):
        others = [column for column in range(7) if column != row]
        np.testing.assert_allclose(adjusted[row, others], evidence.holm(list(p[row, others]), [1.0] * 6))


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_equal_rows_are_seldom_told_apart(seeds):
    """Of runs without any difference, at most one in twenty gives the first row a place that is not open."""
    draw = np.random.default_rng(seeds)
    wrong = sum(
        places({str(n): by_seed(*draw.normal(size=seeds)) for n in range(4)})["0"] != (1, 4) for _ in range(300)
    )
    assert wrong <= 25


def test_a_thousand_rows_take_seconds():
    draw = np.random.default_rng(0)
    values = {str(n): by_seed(*draw.normal(n, size=3)) for n in range(1000)}
    start = time.process_time()
    found = places(values)
    assert time.process_time() - start < 10
    assert found["0"][1] == 1000
    assert found["999"][0] < found["0"][0]
