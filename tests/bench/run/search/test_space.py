"""Drawn configurations: distinct, within their bounds, the same for the same seed."""

from functools import partial

import pytest

from bench.errors import BenchError
from bench.run.search.evolution import _inside
from bench.run.search.space import draw, mutations, readable
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


def test_what_pbt_makes_of_a_configuration_stays_in_the_space_and_gets_about_in_it():
    from ray.tune.schedulers.pbt import _explore

    space = SPACE | {
        "width": Distribution(integers=(8, 400)),
        "mode": Distribution(choice=("full", None, "fixed")),
        "batch_size": Distribution(choice=(8, 16, 32)),
    }
    config = {"member": {"trial": "a", "values": draw(space, 1, seed=0, variant="ddpo")[0]}}
    seen = {setting: [] for setting in space}
    for _ in range(400):
        changes = {"member": {"values": mutations(space)}}
        config, _ = _explore(config, changes, 0.25, (1.2, 0.8), partial(_inside, space=space))
        for setting, value in config["member"]["values"].items():
            seen[setting].append(value)
    assert set(seen["batch_size"]) == {8, 16, 32}
    assert set(seen["mode"]) == {"full", None, "fixed"}
    assert set(seen["inner_epochs"]) == {1, 2, 3}
    assert 8 <= min(seen["width"]) < 40
    assert 250 < max(seen["width"]) <= 400
    assert all(type(value) is int for value in seen["width"])
    assert all(1e-4 <= value <= 1e-2 for value in seen["learning_rate"])
    assert all(0.25 <= value <= 0.75 for value in seen["clip"])
    steps = list(zip(seen["inner_epochs"], seen["inner_epochs"][1:], strict=False))
    near = sum(abs(after - before) <= 1 for before, after in steps)
    assert near > 0.8 * len(steps), "to a neighbour, unless it is drawn anew"
