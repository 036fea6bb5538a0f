"""Which gains over the untrained model are clear, and what is measured against whom."""

import math

import pandas as pd
import pytest

from reports.frame import validate_curves
from reports.statistics.gains import baseline, gains, untrained_words
from tests.reports.conftest import META
from tests.reports.statistics.test_comparison import curve, paired_rows

PROMPTS = [str(prompt) for prompt in range(6)]


def run(*of_seed, start=1.0, base=True, by_prompt=True, seeds_of_base=1):
    """A method whose prompts gain `of_seed[seed]` (a number, or one a prompt): (curves, evaluation)."""
    curves, rows = [], []
    for seed, gain in enumerate(of_seed):
        each = [gain] * len(PROMPTS) if isinstance(gain, float) else gain
        first = {(prompt, 0): start + 0.1 * int(prompt) for prompt in PROMPTS}
        last = {key: value + more for (key, value), more in zip(first.items(), each, strict=True)}
        heights = [sum(values.values()) / len(values) for values in (first, last)]
        curves += curve("ddpo", seed, [0, 10], heights)
        rows += [*paired_rows("ddpo", seed, first, point=0), *paired_rows("ddpo", seed, last)]
        if base and seed < seeds_of_base:
            curves += curve("base", seed, [0], heights[:1])
            rows += paired_rows("base", seed, first, point=0)
    return validate_curves(pd.DataFrame(curves), "steps"), pd.DataFrame(
        rows if by_prompt else [], columns=list(rows[0])
    )


NOISE = [0.3, -0.3, 0.2, -0.2, 0.1, -0.0982]  # a mean of 0.0003
STEADY = [0.5, 0.6, 0.4, 0.5, 0.55, 0.45]


@pytest.mark.parametrize("base", [True, False])
@pytest.mark.parametrize(
    ("seeds", "direction", "clear"),
    [
        ([NOISE], 0, 0),
        ([STEADY], 1, 1),
        ([[-gain for gain in STEADY]], -1, 1),
        ([STEADY, STEADY, NOISE], 0, 2),  # not in every seed, and the seeds do not agree
        ([[0.5 + 3 * n for n in NOISE], [0.51 + 3 * n for n in NOISE], [0.49 + 3 * n for n in NOISE]], 1, 0),
        ([0.0], 0, 0),
    ],
)
def test_a_gain_is_clear_where_the_seeds_agree_or_each_is_clear_by_itself(seeds, direction, clear, base):
    found = gains(*run(*seeds, base=base))["ddpo"]
    assert (found.direction, found.clear_seeds) == (direction, clear)
    assert found.over_seeds.count == len(seeds)


def test_the_issues_own_numbers():
    found = gains(*run(NOISE))["ddpo"]
    assert found.over_seeds.mean == pytest.approx(0.0003)
    assert (found.direction, found.clear_seeds) == (0, 0)


def test_without_values_by_prompt_the_seeds_alone_decide():
    assert gains(*run(STEADY, by_prompt=False))["ddpo"].direction == 0, "one seed"
    several = gains(run([0.5] * 6, [0.6] * 6, [0.55] * 6, by_prompt=False)[0])["ddpo"]
    assert (several.direction, several.clear_seeds) == (1, None)


def test_from_five_seeds_on_the_interval_over_seeds_decides():
    """Each seed is clear by itself, and they do not agree."""
    apart = [[sign * 2.0 + 0.01 * n for n in range(6)] for sign in (1, 1, 1, -1, 1)]
    found = gains(*run(*apart))["ddpo"]
    assert (found.direction, found.clear_seeds) == (0, 5)


def test_rounding_is_no_gain():
    assert gains(*run(*[[1e-6] * 6] * 3, start=87.3))["ddpo"].direction == 0


def test_seeds_are_paired_with_those_of_base():
    curves, evaluation = run(STEADY, STEADY, seeds_of_base=2)
    shifted = curves["value"] + 5 * (curves["seed"] == 1)
    assert gains(curves.assign(value=shifted), evaluation)["ddpo"].over_seeds.high == pytest.approx(0.5)


def test_a_value_that_is_not_a_number_is_no_gain():
    curves, evaluation = run(STEADY, STEADY)
    last = (curves["trial"] == "ddpo-s1") & (curves["point"] == 1)
    found = gains(curves.assign(value=curves["value"].mask(last, math.nan)), evaluation)["ddpo"]
    assert (found.direction, found.over_seeds.missing) == (0, 1)


def test_a_trial_that_is_not_done_gains_nothing():
    curves, evaluation = run(STEADY)
    assert gains(curves.assign(status="running"), evaluation) == {}


def test_nothing_is_measured_against_a_baseline_that_learned_nothing():
    for seeds, beats in (([NOISE], False), ([STEADY], True)):
        curves, evaluation = run(*seeds)
        found = baseline(curves, META, gains(curves, evaluation))
        assert (found.variant, found.beats, found.usable) == ("ddpo", beats, "ddpo" if beats else None)


def test_what_gains_are_measured_from_has_a_name():
    assert untrained_words(run(STEADY)[0]) == "the base model"
    assert untrained_words(run(STEADY, base=False)[0]) == "the untrained model"
