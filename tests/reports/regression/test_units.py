"""Figures of a gate as text."""

import pytest

from reports.regression import measures
from reports.regression.units import Unit


@pytest.mark.parametrize(
    ("statistic", "value", "label", "text"),
    [
        ("area", 1.0, "x", "1.00"),
        ("reward train", -0.5, "x", "−0.500"),
        ("nfe", 0.0, "x", "0"),
        ("nfe", 57_344.0, "x", "57,344"),
        ("nfe", 2.5e7, "x (million)", "25"),
        ("flops", 14.02e12, "x (TFLOP)", "14.0"),
        ("peak_memory_bytes", 1.25 * 2**30, "x (GiB)", "1.25"),
        (measures.TO_TARGET, 400.0, "x (min)", "6.67"),
    ],
)
def test_a_cost_has_the_unit_of_its_axis_and_a_reward_none(statistic, value, label, text):
    unit = Unit.of(measures.axis_of(statistic, "device_seconds"), [value])
    assert unit.label("x") == label
    assert unit.text(value) == text
    assert unit.worded(text).endswith(label.removeprefix("x (").removesuffix(")") if "(" in label else text)


def test_a_difference_has_its_sign_and_what_is_not_there_a_dash():
    assert Unit.of("nfe", [100.0]).text(-20.0, signed=True) == "−20"
    assert Unit.of("", [1.0]).text(0.25, signed=True) == "+0.250"
    assert Unit.of("flops", []).text(None) == "–"
