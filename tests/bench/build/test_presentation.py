"""How a run carries its methods' presentation to the reports."""

from types import SimpleNamespace

import pandas as pd

from bench.build.presentation import described, facts_of
from reports.frame import with_families
from reports.meta import MethodFacts

OWN = """
from methods.ddpo import DDPO
from methods.presentation import Presentation

class Mine(DDPO):
    name = "mine"
    presentation = Presentation("policy gradient", "#112233", "#445566", peer_of="ddpo")
"""


def trials(*references):
    return [
        SimpleNamespace(method=reference.rpartition(":")[2].lower(), reference=reference) for reference in references
    ]


def test_a_plan_says_how_methods_are_shown(tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    written = described(trials("base", "ddpo", f"{tmp_path}/own.py:Mine"))
    assert written["base"] == {"family": "untrained", "colour": "#6f7680", "dark": "#9aa2ad", "line": "dashed"}
    assert written["ddpo"]["reference"] is True
    facts = facts_of(written, ["base", "mine"])
    assert facts["mine"] == MethodFacts("policy gradient", "#112233", "#445566", peer_of="ddpo")


def test_a_plan_that_lacks_it_is_completed_by_the_built_in_methods():
    facts = facts_of({}, ["base", "alignprop", "theirs"])
    assert facts["base"].family == "untrained"
    assert facts["alignprop"].colour == "#0067a8"
    assert facts["theirs"] == MethodFacts(), "a method that is not here is known by its name alone"


def test_a_method_that_is_gone_is_drawn_by_its_name(tmp_path):
    assert described(trials(f"{tmp_path}/gone.py:Gone")) == {"gone": {}}


def test_curves_have_their_methods_family():
    curves = pd.DataFrame({"method": ["base", "mine"]})
    found = with_families(curves, {"base": "untrained", "mine": None})
    assert found["family"].fillna("").tolist() == ["untrained", ""]
    assert "family" not in curves
