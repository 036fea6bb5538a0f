"""What a gate compares: one value a seed of each statistic, and of the curve's statistics one a prompt too."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.choices import PRIMARY
from reports.frame import axis_words, select
from reports.statistics.curve import cost_to_target, normalised_area

COSTS = ("nfe", "flops", "peak_memory_bytes", "train_seconds")
MACHINES_OWN = ("peak_memory_bytes", "train_seconds")
"""Shown between like machines, and never a regression: on a shared machine they measure the neighbours."""

TO_TARGET = "cost_to_target"


@dataclass(frozen=True)
class Measured:
    """One variant of a run.

    Attributes:
        values: statistic -> seed -> value; NaN where it could not be taken.
        prompts: prompt -> seed -> the value of one statistic on this prompt alone, its images averaged.
        span: the stretch of the axis that every seed has seen.
        censored: seeds that never reached the target; all that they spent stands in for its cost, a lower bound.
    """

    values: dict[str, dict[int, float]]
    prompts: dict[str, dict[int, float]]
    span: tuple[float, float] | None
    censored: frozenset[int] = frozenset()


def direction(statistic: str) -> str:
    """ "higher" or "lower": which is better."""
    return "higher" if statistic in PRIMARY else "lower"


def words(statistic: str, axis: str = "cost") -> str:
    """A statistic as a table calls it."""
    known = {
        "area": "area under the reward",
        "final": "final reward",
        "heldout": "held-out reward",
        TO_TARGET: f"{axis_words(axis)} to the target",
    }
    return known.get(statistic) or f"{axis_words(statistic)} in all"


def axis_of(statistic: str, axis: str) -> str:
    """The axis that a cost is counted on; "" for what is no cost.

    Args:
        axis: the budget's.
    """
    return axis if statistic == TO_TARGET else statistic if statistic in COSTS else ""


def measure(
    curves: pd.DataFrame,
    evaluation: pd.DataFrame,
    axis: str,
    span: tuple[float, float] | None = None,
    target: float | None = None,
    by_prompt: str | None = None,
) -> Measured:
    """Every statistic of one variant's finished trials.

    Args:
        curves: that variant's rows.
        evaluation: likewise; may be empty.
        axis: the budget's.
        span: where areas are taken; the stretch that all its trials have seen unless given.
        target: whose cost is taken; a seed that never reached it counts with all that it spent, a lower bound.
        by_prompt: the statistic of `choices.PRIMARY` to take prompt by prompt too.
    """
    train, heldout = (select(curves, "reward", split) for split in ("train", "heldout"))
    own = span or shared_span(train, axis)
    values: dict[str, dict[int, float]] = {name: {} for name in (*PRIMARY, TO_TARGET, *COSTS)}
    censored = set()
    for seed, curve in by_seed(train):
        x, y = curve[axis].to_numpy(float), curve["value"].to_numpy(float)
        values["area"][seed] = _area(x, y, own)
        values["final"][seed] = _last(y)
        if target is not None:
            reached = cost_to_target(x, y, target)
            censored |= {seed} if reached is None else set()
            values[TO_TARGET][seed] = math.nan if np.isnan(y).any() else x[-1] if reached is None else reached
        for cost in COSTS:
            if cost in curve and curve[cost].notna().all():
                values[cost][seed] = float(curve[cost].iloc[-1])
    for seed, curve in by_seed(heldout):
        values["heldout"][seed] = _last(curve["value"].to_numpy(float))
    prompts: dict[str, dict[int, float]] = {}
    if by_prompt in PRIMARY:
        curve = heldout if by_prompt == "heldout" else train
        prompts = _per_prompt(curve, evaluation, axis, own, by_prompt)
    return Measured({name: of_seed for name, of_seed in values.items() if of_seed}, prompts, own, frozenset(censored))


def by_seed(rows: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    """The rows of each seed; a variant has one trial a seed."""
    for seed in sorted(set(rows["seed"])):
        yield int(seed), rows[rows["seed"] == seed]


def shared_span(train: pd.DataFrame, axis: str) -> tuple[float, float] | None:
    """The stretch of `axis` that every trial of `train` has seen; None where there is none."""
    ends = train.groupby("trial")[axis].agg(["min", "max"])
    if ends.empty:
        return None
    low, high = float(ends["min"].max()), float(ends["max"].min())
    return (low, high) if high > low else None


def _area(x: NDArray[np.float64], y: NDArray[np.float64], span: tuple[float, float] | None) -> float:
    """A variant that trains nothing has one point: its area is its value."""
    if span is None:
        return _last(y)
    found = normalised_area(x, y, *span)
    return math.nan if found is None else found


def _last(values: NDArray[np.float64]) -> float:
    """The last value; NaN where any is not finite, as what came after a NaN stands for nothing."""
    return float(values[-1]) if np.isfinite(values).all() else math.nan


def _per_prompt(
    curve: pd.DataFrame, evaluation: pd.DataFrame, axis: str, span: tuple[float, float] | None, statistic: str
) -> dict[str, dict[int, float]]:
    """An area is linear in the curve, so the mean over prompts is the curve's own. Empty where a point is lacking."""
    if evaluation.empty or curve.empty:
        return {}
    split = "heldout" if statistic == "heldout" else "train"
    rows = evaluation[(evaluation["metric"] == "reward") & (evaluation["split"] == split)]
    heights = rows.groupby(["seed", "prompt", "point"])["value"].mean().unstack("point")
    found: dict[str, dict[int, float]] = {}
    for seed, of_seed in by_seed(curve):
        if seed not in heights.index or not set(of_seed["point"]) <= set(heights.columns):
            return {}
        x = of_seed[axis].to_numpy(float)
        grid = heights.loc[seed]
        for prompt, y in zip(grid.index, grid[list(of_seed["point"])].to_numpy(float), strict=True):
            found.setdefault(str(prompt), {})[seed] = _area(x, y, span) if statistic == "area" else _last(y)
    return found


def on_both(before: Mapping[int, float], after: Mapping[int, float]) -> tuple[dict[int, float], dict[int, float]]:
    """Both sides, cut to the seeds that both have."""
    seeds = sorted(set(before) & set(after))
    return {seed: before[seed] for seed in seeds}, {seed: after[seed] for seed in seeds}


def seed_losses(before: Mapping[int, float], after: Mapping[int, float], better: str) -> dict[int, float]:
    """seed -> how much worse, over the seeds that both have."""
    sign = 1.0 if better == "higher" else -1.0
    before, after = on_both(before, after)
    return {seed: sign * (value - after[seed]) for seed, value in before.items()}
