"""Numbers as text, units, and the colours."""

import math

import pandas as pd
import pytest

from reports.figures.styles import FALLBACK, KNOWN, styles
from reports.formatting import amount, listing, measured, number, plural, scale_for, tick, with_range


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


def test_known_methods_keep_their_style_whatever_runs_beside_them():
    alone = styles(frame(("ddpo", "ddpo")))
    among = styles(frame(("ddpo", "ddpo"), ("zeta", "zeta"), ("alignprop", "alignprop")))
    assert alone["ddpo"] == among["ddpo"] == KNOWN["ddpo"]


def test_unknown_methods_take_a_stable_colour_of_their_own():
    found = styles(frame(*[(f"mine-{i}", f"mine-{i}") for i in range(len(FALLBACK))]))
    assert len({style.colour for style in found.values()}) == len(FALLBACK)
    assert (
        styles(frame(("mine-0", "mine-0")))["mine-0"] == styles(frame(("mine-0", "mine-0"), ("ddpo", "ddpo")))["mine-0"]
    )


def test_variants_of_one_method_differ_and_share_its_hue():
    found = styles(frame(("alignprop", "alignprop"), ("alignprop", "full"), ("alignprop", "k1"), ("alignprop", "k5")))
    assert found["alignprop"] == KNOWN["alignprop"]
    assert len({(style.colour, style.dashes) for style in found.values()}) == 4


def test_colours_of_known_methods_are_distinct():
    assert len({style.colour for style in KNOWN.values()}) == len(KNOWN)
    assert len({style.dark for style in KNOWN.values()}) == len(KNOWN)


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
    found = styles(pd.DataFrame({"method": names, "variant": names}))
    assert len({(style.colour, style.dashes) for style in found.values()}) == 10
