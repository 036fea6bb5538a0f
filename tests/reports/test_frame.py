"""Frames that break their schema are refused with the place of the fault."""

import math

import pandas as pd
import pytest

from reports.frame import (
    base_variant,
    metrics_in,
    untrained_variants,
    validate_curves,
    validate_evaluation,
    validate_trials,
)
from reports.meta import Meta


def test_a_good_frame_passes(run):
    curves, evaluation, trials = run
    assert len(validate_curves(curves, "reward_queries")) == len(curves)
    assert len(validate_evaluation(evaluation)) == len(evaluation)
    assert len(validate_trials(trials, curves)) == 12
    assert untrained_variants(curves) == {"base"}
    assert base_variant(curves) == "base"
    assert metrics_in(curves) == ["reward", "reward/emoji-alignment", "gold", "diversity", "drift"]


def test_an_empty_frame_is_refused():
    with pytest.raises(ValueError, match="no trial has written a point"):
        validate_curves(pd.DataFrame(), "steps")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.drop(columns="variant"), "lacks variant"),
        (lambda c: c.assign(split="test"), r"unknown split \['test'\]"),
        (lambda c: c.assign(status="finished"), "unknown status"),
        (lambda c: c.assign(metric="reward/"), "unknown metrics"),
        (lambda c: c.assign(value="high"), "value is not a number"),
        (lambda c: pd.concat([c, c.head(1)]), "1 repeated rows, the first at trial base-s0"),
        (lambda c: c.assign(reward_queries=-c["reward_queries"]), "runs backwards in trial alignprop-s0"),
        (lambda c: c.assign(reward_queries=math.nan), "budget axis, is missing"),
    ],
)
def test_a_broken_frame_is_refused_with_the_fault(run, change, words):
    with pytest.raises(ValueError, match=words):
        validate_curves(change(run[0]), "reward_queries")


def test_axes_that_were_not_logged_become_nan(run):
    checked = validate_curves(run[0].drop(columns="flops"), "reward_queries")
    assert checked["flops"].isna().all()


def test_nan_values_are_kept(run):
    curves = run[0].assign(value=math.nan)
    assert validate_curves(curves, "reward_queries")["value"].isna().all()


def test_a_trial_that_only_its_curve_knows_is_added(run):
    curves, _, trials = run
    checked = validate_trials(trials.iloc[1:], curves)
    assert len(checked) == 12
    assert "only its curve" in checked["cause"].iloc[-1]


def test_two_records_of_a_trial_are_refused(run):
    curves, _, trials = run
    with pytest.raises(ValueError, match="repeated"):
        validate_trials(pd.concat([trials, trials]), curves)


def test_an_unknown_budget_axis_is_refused():
    with pytest.raises(ValueError, match="'epochs' is not an axis"):
        Meta("x", budget_axis="epochs")
    assert Meta("x", budget_axis="seconds").budget_column == "budget_seconds"
