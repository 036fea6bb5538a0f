"""Settings that changed nothing are found by equal curves, and choices on the edge of what was tried by the values."""

import math

from bench.run.search.axes import copies, differing, edges
from bench.store.records import Point
from bench.sweep.schema import Distribution


def curve(*rewards, drift=0.1):
    return [
        Point(point=n, axes={"steps": n, "wall_seconds": n * drift}, values={"train": {"reward": each, "drift": drift}})
        for n, each in enumerate(rewards)
    ]


def test_a_configuration_whose_curves_equal_an_earlier_ones_is_its_copy():
    first, second = [curve(1.0, 2.0), curve(1.0, 3.0)], [curve(1.0, 2.0), curve(1.0, 3.1)]
    again = [curve(1.0, 2.0), curve(1.0, 3.0)]
    assert copies([first, second, again, second, again]) == {2: 0, 3: 1, 4: 0}


def test_every_value_at_every_point_on_every_seed_decides():
    base = [curve(1.0, 2.0, 3.0)]
    others = ([curve(1.0, 2.5, 3.0)], [curve(1.0, 2.0, 3.0, drift=0.2)], [curve(1.0, 2.0, 3.0, 3.0)])
    assert copies([base, *others]) == {}
    assert copies([[*base, *base], [*base, curve(1.0, 2.0, 3.5)]]) == {}
    assert copies([[curve(1.0, math.nan)], [curve(1.0, math.nan)]]) == {1: 0}


def test_trials_that_are_not_done_and_base_models_points_are_nobodys_copies():
    assert copies([[[]], [[]]]) == {}
    assert copies([[curve(1.0)], [curve(1.0)]]) == {}
    assert copies([[curve(1.0, 2.0), []], [curve(1.0, 2.0), []]]) == {}


def test_the_settings_that_differ_are_the_inert_ones():
    one = {"learning_rate": 1e-3, "clip_range": 1e-4, "epochs": 1}
    assert differing(one, {**one, "clip_range": 1e-3}) == ["clip_range"]
    assert differing(one, {**one, "clip_range": 1e-3, "epochs": 2}) == ["clip_range", "epochs"]


SPACE = {
    "learning_rate": Distribution(loguniform=(1e-4, 1e-1)),
    "batch_size": Distribution(choice=(8, 16, 32)),
    "kind": Distribution(choice=("a", "b")),
    "inner_epochs": Distribution(integers=(1, 9)),
}
TRIED = [
    {"learning_rate": 2e-4, "batch_size": 16, "kind": "a", "inner_epochs": 3},
    {"learning_rate": 3e-3, "batch_size": 8, "kind": "b", "inner_epochs": 3},
    {"learning_rate": 5e-2, "batch_size": 32, "kind": "a", "inner_epochs": 3},
]


def test_an_edge_is_the_smallest_or_largest_value_that_was_tried():
    assert edges(SPACE, TRIED, TRIED[0]) == {"learning_rate": "smallest"}
    assert edges(SPACE, TRIED, TRIED[1]) == {"batch_size": "smallest"}
    assert edges(SPACE, TRIED, TRIED[2]) == {"learning_rate": "largest", "batch_size": "largest"}
    narrower = [values for values in TRIED if values["batch_size"] != 32]
    assert edges(SPACE, narrower, TRIED[0])["batch_size"] == "largest", "32 is in the space, and was not drawn"


def test_flags_and_words_have_no_order():
    space = {"flag": Distribution(choice=(False, True)), "mixed": Distribution(choice=(1, "all"))}
    assert edges(space, [{"flag": False, "mixed": 1}, {"flag": True, "mixed": "all"}], {"flag": True, "mixed": 1}) == {}
