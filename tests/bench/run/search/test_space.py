"""Drawn configurations: distinct, within their bounds, the same for the same seed."""

import pytest

from bench.errors import BenchError
from bench.run.search.space import draw, readable
from bench.sweep.schema import Distribution

SPACE = {
    "learning_rate": Distribution(loguniform=(1e-4, 1e-2)),
    "clip": Distribution(uniform=(0.25, 0.75)),
    "inner_epochs": Distribution(integers=(1, 3)),
    "batch_size": Distribution(choice=(8, 16)),
}


def test_values_are_within_their_bounds_and_spread_over_them():
    drawn = draw(SPACE, 200, seed=0, variant="ddpo")
    rates = sorted(values["learning_rate"] for values in drawn)
    assert 1e-4 <= rates[0] < 2e-4
    assert 5e-3 < rates[-1] <= 1e-2
    assert 4e-4 < rates[100] < 2.5e-3, "half of them below the geometric mean, 1e-3"
    assert all(0.25 <= values["clip"] <= 0.75 for values in drawn)
    assert {values["inner_epochs"] for values in drawn} == {1, 2, 3}, "both ends included"
    assert {values["batch_size"] for values in drawn} == {8, 16}
    assert all(type(values["batch_size"]) is int for values in drawn), "settings are validated strictly"


def test_the_same_seed_draws_the_same_and_another_or_another_variant_does_not():
    first = draw(SPACE, 5, seed=0, variant="ddpo")
    assert first == draw(SPACE, 5, seed=0, variant="ddpo")
    assert first == draw(SPACE, 9, seed=0, variant="ddpo")[:5], "more samples keep the first ones"
    assert first != draw(SPACE, 5, seed=1, variant="ddpo")
    assert first != draw(SPACE, 5, seed=0, variant="rwr")


def test_configurations_are_distinct_and_a_space_that_has_fewer_is_refused():
    space = {"batch_size": Distribution(choice=(8, 16)), "inner_epochs": Distribution(integers=(1, 2))}
    drawn = draw(space, 4, seed=0, variant="ddpo")
    assert len({tuple(values.items()) for values in drawn}) == 4
    with pytest.raises(BenchError, match="5 configurations are asked for and ddpo's space has 4"):
        draw(space, 5, seed=0, variant="ddpo")


def test_rounding_stays_inside():
    space = {"rate": Distribution(uniform=(0.12345, 0.12349))}
    assert readable(space, {"rate": 0.123456})["rate"] == 0.12345
    assert readable(SPACE, {"learning_rate": 0.00123456, "clip": 0.5, "inner_epochs": 2, "batch_size": 8}) == {
        "learning_rate": 0.00123,
        "clip": 0.5,
        "inner_epochs": 2,
        "batch_size": 8,
    }
