"""Numbers as text, units, and the colours."""

import math

import pandas as pd
import pytest

from reports.figures.styles import FALLBACK, LINES, Style, styles
from reports.formatting import amount, listing, measured, number, plural, scale_for, tick, with_range
from tests.reports.conftest import FACTS


@pytest.mark.parametrize(
    ("value", "text"),
    [(4288, "4,288"), (1234.5, "1,230"), (0.58123, "0.581"), (-0.5, "−0.500"), (0, "0"), (math.nan, "NaN"), (None, "–"),
     (math.inf, "∞"), (1e-6, "1.00e−06"), (2.5e6, "2,500,000"), (0.0999999, "0.100"), (9.999, "10.0")],
)  # fmt: skip
def test_number(value, text):
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1.00"), (0.5, "0.500"), (0.0123, "0.0123"), (0, "0.000"), (150.2, "150"), (-1.5, "−1.50")],
)
def test_measured(value, text):
    assert measured(value) == text


def test_signs_ranges_and_lists():
    assert measured(0.4, signed=True) == "+0.400"
    assert with_range("2", "1", "3") == "2 (1–3)"
    assert with_range("2", "−1", "3") == "2 (−1 to 3)"
    assert with_range("2", "2", "2") == "2"
    assert listing(["a", "b", "c"]) == "a, b and c"
    assert (plural(1, "seed"), plural(3, "seed")) == ("1 seed", "3 seeds")


@pytest.mark.parametrize(
    ("axis", "values", "unit"),
    [("train_seconds", [20, 60], "s"), ("train_seconds", [600.0], "min"), ("train_seconds", [36_000.0], "h"),
     ("flops", [5e12, 7e12], "TFLOP"), ("peak_memory_bytes", [7e8], "MiB"),
     ("reward_queries", [4096], ""), ("nfe", [], "")],
)  # fmt: skip
def test_units(axis, values, unit):
    assert scale_for(axis, values).unit == unit


@pytest.mark.parametrize(
    ("value", "axis", "text"),
    [(2048, "reward_queries", "2,048 words"), (600, "budget_seconds", "10 min of words"),
     (3.2e12, "flops", "3.20 TFLOP"), (2e6, "nfe", "2 million words")],
)  # fmt: skip
def test_amounts(value, axis, text):
    assert amount(value, axis, "words") == text


def frame(*pairs):
    return pd.DataFrame(pairs, columns=["method", "variant"])


def drawn(*pairs):
    return styles(frame(*pairs), FACTS)


def test_a_method_brings_its_style_whatever_runs_beside_it():
    alone = drawn(("ddpo", "ddpo"))
    among = drawn(("ddpo", "ddpo"), ("zeta", "zeta"), ("alignprop", "alignprop"))
    assert alone["ddpo"] == among["ddpo"] == Style("#d1560a", "#f58b4c")
    assert drawn(("base", "base"))["base"] == Style("#6f7680", "#9aa2ad", LINES["dashed"])


def test_a_variant_named_like_a_method_is_drawn_as_that_method():
    found = drawn(("alignprop", "alignprop"), ("alignprop", "ddpo"))
    assert found["ddpo"] == Style("#d1560a", "#f58b4c")


def test_methods_without_a_style_take_a_stable_colour_of_their_own():
    names = [f"mine-{i}" for i in range(len(FALLBACK))]
    found = drawn(*zip(names, names, strict=True))
    assert len({style.colour for style in found.values()}) == len(FALLBACK)
    assert drawn(("mine-0", "mine-0"))["mine-0"] == drawn(("mine-0", "mine-0"), ("ddpo", "ddpo"))["mine-0"]


def test_variants_of_one_method_differ_and_share_its_hue():
    found = drawn(("alignprop", "alignprop"), ("alignprop", "full"), ("alignprop", "k1"), ("alignprop", "k5"))
    assert found["alignprop"] == Style("#0067a8", "#58b2ef")
    assert len({(style.colour, style.dashes) for style in found.values()}) == 4


def test_there_is_no_minus_zero():
    assert measured(-0.0) == measured(0.0) == "0.000"


def test_ticks_have_no_zeros_that_say_nothing():
    assert [tick(v) for v in (0.0, 0.02, 0.5, 1.25, -0.1, 250.0, 2e-5)] == [
        "0",
        "0.02",
        "0.5",
        "1.25",
        "−0.1",
        "250",
        "2e−05",
    ]


def test_ten_unknown_methods_are_told_apart():
    names = [f"mine-{n}" for n in range(10)]
    found = drawn(*zip(names, names, strict=True))
    assert len({(style.colour, style.dashes) for style in found.values()}) == 10
