"""The arithmetic, against hand calculation and scipy."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from reports.statistics.curve import band, best_of, cost_to_target, crossing, normalised_area, summarise, t_interval


def test_cost_to_target_interpolates_by_hand():
    # from 0.5 at 100 to 0.9 at 300: 0.6 is a quarter of the way
    assert cost_to_target([0, 100, 300], [0.1, 0.5, 0.9], 0.6) == pytest.approx(150)


def test_cost_to_target_takes_the_first_crossing_of_a_curve_that_falls_back():
    assert cost_to_target([0, 10, 20, 30], [0, 1, 0, 1], 0.5) == pytest.approx(5)


def test_cost_to_target_is_exact_at_a_point_and_zero_where_it_began_above():
    assert cost_to_target([0, 10, 20], [0, 0.5, 1], 0.5) == 10
    assert cost_to_target([0, 10], [0.7, 0.9], 0.5) == 0


def test_a_target_that_was_not_reached_is_none_and_nothing_is_extrapolated():
    assert cost_to_target([0, 10, 20], [0, 0.4, 0.49], 0.5) is None
    assert cost_to_target([], [], 0.5) is None


@pytest.mark.parametrize("hole", [math.nan, math.inf, -math.inf])
def test_no_line_is_drawn_across_a_value_that_is_not_finite(hole):
    assert cost_to_target([0, 10, 20], [0, hole, 1], 0.5) == 20
    assert cost_to_target([0, 10], [0, hole], 0.5) is None


def test_crossing_reads_every_axis_at_the_same_place():
    place = crossing([0.0, 1.0], 0.25)
    assert place is not None
    assert place.at([0, 100]) == pytest.approx(25)
    assert place.at([10, 30]) == pytest.approx(15)


def test_area_by_hand():
    # triangle 0→1 over [0, 10], then level 1 to 20: (5 + 10) / 20
    assert normalised_area([0, 10, 20], [0, 1, 1], 0, 20) == pytest.approx(0.75)
    # inside [5, 15]: from .5 to 1 over five, then 1 for five: (3.75 + 5) / 10
    assert normalised_area([0, 10, 20], [0, 1, 1], 5, 15) == pytest.approx(0.875)


def test_area_is_none_where_the_curve_was_not_observed():
    assert normalised_area([0, 10], [0, 1], 0, 11) is None
    assert normalised_area([5, 10], [0, 1], 0, 10) is None
    assert normalised_area([0, 10], [0, 1], 5, 5) is None


def test_area_with_a_nan_inside_is_nan_and_one_outside_does_not_count():
    assert math.isnan(normalised_area([0, 5, 10], [0, math.nan, 1], 0, 10))
    assert normalised_area([0, 5, 10, 15], [1, 1, 1, math.nan], 0, 10) == pytest.approx(1)


@given(st.lists(st.floats(-5, 5), min_size=2, max_size=12), st.integers(0, 1000))
def test_area_agrees_with_scipy(values, seed):
    axis = np.cumsum(np.random.default_rng(seed).uniform(0.1, 2, len(values)))
    expected = integrate.trapezoid(values, axis) / (axis[-1] - axis[0])
    assert normalised_area(axis, values, axis[0], axis[-1]) == pytest.approx(expected, abs=1e-9)


def test_under_five_seeds_there_is_a_range_and_no_interval():
    found = summarise([1.0, 2.0, 6.0, 7.0])
    assert (found.mean, found.median, found.low, found.high, found.interval) == (4, 4, 1, 7, None)


def test_from_five_seeds_on_the_interval_is_student_t_as_scipy_has_it():
    values = [1.0, 2.0, 4.0, 4.5, 9.0]
    expected = stats.t.interval(0.95, 4, loc=np.mean(values), scale=stats.sem(values))
    assert summarise(values).interval == pytest.approx(expected)
    assert t_interval([1.0]) is None


def test_nan_is_counted_and_spoils_the_statistics():
    found = summarise([1.0, math.nan, 3.0])
    assert found.missing == 1
    assert found.count == 3
    assert math.isnan(found.median)


def test_infinite_costs_move_the_median():
    assert summarise([1.0, 2.0, math.inf]).median == 2
    assert summarise([1.0, math.inf, math.inf]).median == math.inf
    assert summarise([1.0, math.inf]).median == math.inf
    assert summarise([]) is None


def test_best_of_is_the_first_highest_finite_value():
    assert best_of([0, 1, 2, 3], [0, 5, math.nan, 5]) == (5, 1)
    assert best_of([0], [math.nan]) is None


def test_a_band_covers_only_what_all_curves_have_seen():
    found = band([(np.array([0.0, 10.0]), np.array([0.0, 10.0])), (np.array([2.0, 6.0]), np.array([0.0, 0.0]))])
    assert (found.axis[0], found.axis[-1]) == (2, 6)
    np.testing.assert_allclose(found.high, [2, 6])
    np.testing.assert_allclose(found.low, [0, 0])
    np.testing.assert_allclose(found.median, [1, 3])
    assert band([(np.array([0.0, 1.0]), np.zeros(2)), (np.array([2.0, 3.0]), np.zeros(2))]) is None
    assert band([]) is None


def test_a_crossing_in_the_first_interval_or_after_a_hole_is_known_only_by_its_later_point():
    assert crossing([0.0, 1.0], 0.25).only_by
    assert crossing([0.0, 1.0, 2.0], 1.0).only_by, "where it was seen first, and perhaps before"
    assert not crossing([0.0, 1.0, 2.0], 1.5).only_by
    assert not crossing([0.5, 1.0], 0.5).only_by, "at the start"
    assert crossing([0.0, 0.1, math.nan, 2.0], 1.5).only_by


def test_what_hangs_on_an_upper_bound_is_one():
    assert summarise([64, 200, 300], [True, False, False]).at_most == {"low"}, "the median is 200 whatever it was"
    assert summarise([64, 200, 300], [True, True, False]).at_most == {"low", "median"}
    assert summarise([64, 64], [True, True]).at_most == {"low", "median", "high"}
    assert summarise([64, math.inf, math.inf], [True, False, False]).at_most == {"low"}
    assert summarise([64, 200], [False, False]).at_most == frozenset()
    assert summarise([256, 100], [True, False]).at_most == {"low", "median", "high"}
