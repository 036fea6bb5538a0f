"""How methods are shown: every built-in one differs from the others, and mistakes are refused."""

import pytest

from methods import registry
from methods.base import Method
from methods.presentation import Presentation

BUILT_IN = {name: registry.presentation(registry.load(name)) for name in registry.names()}


def test_built_in_methods_have_a_family_and_colours_of_their_own():
    assert all(found.family for found in BUILT_IN.values())
    for paper in ("colour", "dark"):
        colours = [getattr(found, paper) for found in BUILT_IN.values()]
        assert None not in colours
        assert len(set(colours)) == len(colours)


def test_one_method_is_the_untrained_model_and_one_the_reference():
    assert [name for name, found in BUILT_IN.items() if found.family == "untrained"] == ["base"]
    assert [name for name, found in BUILT_IN.items() if found.reference] == ["ddpo"]


def test_peers_implement_a_built_in_method():
    peers = {name: found.peer_of for name, found in BUILT_IN.items() if found.peer_of}
    assert peers == {"trl-alignprop": "alignprop", "trl-ddpo": "ddpo"}
    assert all(registry.load(name).own_trainer for name in peers)


def test_a_subclass_is_not_drawn_as_its_parent_is():
    class Own(Method):
        presentation = Presentation("gradient", "#112233", "#445566")

    class Child(Own):
        pass

    class OfBuiltIn(registry.load("ddpo")):
        pass

    assert registry.presentation(Own).colour == "#112233"
    assert registry.presentation(Child) == registry.presentation(OfBuiltIn) == Presentation()


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ({"colour": "red", "dark": "#ffffff"}, "write both as #rrggbb"),
        ({"colour": "#ffffff"}, "or neither"),
        ({"line": "wavy"}, "known: solid"),
        ({"family": "magic"}, "known: untrained"),
    ],
)
def test_mistakes_are_refused(mistake, words):
    with pytest.raises(ValueError, match=words):
        Presentation(**mistake)
