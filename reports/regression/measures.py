"""The statistics that a gate compares: one value a seed, and of one statistic a value for each prompt too."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.choices import PRIMARY
from reports.frame import select
from reports.names import GATE_AXES, axis_words
from reports.statistics.comparison import shared_span
from reports.statistics.curve import cost_to_target, normalised_area

TO_TARGET = "cost_to_target"


@dataclass(frozen=True)
class Measured:
    """The statistics of one variant of a run.

    Attributes:
        values: statistic -> seed -> value; NaN where it could not be computed.
        prompts: prompt -> seed -> the value of one statistic on this prompt alone, averaged over its images.
        span: the stretch of the axis over which areas are taken.
        censored: seeds that never reached the target; their total cost is a lower bound of the target's.
    """

    values: dict[str, dict[int, float]]
    prompts: dict[str, dict[int, float]]
    span: tuple[float, float] | None
    censored: frozenset[int] = frozenset()


def direction(statistic: str) -> str:
    """ "higher" or "lower", whichever is better."""
    return "higher" if statistic in PRIMARY else "lower"


def words(statistic: str, axis: str = "cost") -> str:
    """The name of a statistic in a table."""
    known = {
        "area": "area under the reward",
        "final": "final reward",
        "heldout": "held-out reward",
        TO_TARGET: f"{axis_words(axis)} to the target",
    }
    return known.get(statistic) or f"{axis_words(statistic)} in all"


def axis_of(statistic: str, axis: str) -> str:
    """The axis of a cost; "" for a statistic that is no cost.

    Args:
        axis: the budget's column.
    """
    return axis if statistic == TO_TARGET else statistic if statistic in GATE_AXES else ""


def measure(
    curves: pd.DataFrame,
    evaluation: pd.DataFrame,
    axis: str,
    span: tuple[float, float] | None = None,
    target: float | None = None,
    by_prompt: str | None = None,
) -> Measured:
    """Computes every statistic of one variant's finished trials.

    Args:
        curves: the variant's rows.
        evaluation: the variant's rows; may be empty.
        axis: the budget's column.
        span: the stretch over which areas are taken; by default the one that all its trials cover.
        target: the reward whose cost is taken; a seed that never reached it counts with its total cost, a lower bound.
        by_prompt: the statistic of `choices.PRIMARY` that is computed prompt by prompt too.
    """
    train, heldout = (select(curves, "reward", split) for split in ("train", "heldout"))
    own = span or shared_span(train, axis)
    values: dict[str, dict[int, float]] = {name: {} for name in (*PRIMARY, TO_TARGET, *GATE_AXES)}
    censored = set()
    for seed, curve in by_seed(train):
        x, y = curve[axis].to_numpy(float), curve["value"].to_numpy(float)
        values["area"][seed] = _area(x, y, own)
        values["final"][seed] = _last(y)
        if target is not None:
            reached = cost_to_target(x, y, target)
            censored |= {seed} if reached is None else set()
            values[TO_TARGET][seed] = math.nan if np.isnan(y).any() else x[-1] if reached is None else reached
        for cost in GATE_AXES:
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
    """Yields each seed with its rows; a variant has one trial a seed."""
    for seed in sorted(set(rows["seed"])):
        yield int(seed), rows[rows["seed"] == seed]


def _area(x: NDArray[np.float64], y: NDArray[np.float64], span: tuple[float, float] | None) -> float:
    """The area over `span`; the last value where there is no span, as an untrained variant has only one point."""
    if span is None:
        return _last(y)
    found = normalised_area(x, y, *span)
    return math.nan if found is None else found


def _last(values: NDArray[np.float64]) -> float:
    """The last value; NaN where any value is not finite, as values after a NaN are meaningless."""
    return float(values[-1]) if np.isfinite(values).all() else math.nan


def _per_prompt(
    curve: pd.DataFrame, evaluation: pd.DataFrame, axis: str, span: tuple[float, float] | None, statistic: str
) -> dict[str, dict[int, float]]:
    """Prompt -> seed -> the statistic on this prompt; empty where the evaluation lacks a point.

    An area is linear in the curve, so the mean over prompts is the area of the whole curve.
    """
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
    """Both sides, restricted to the seeds that both have."""
    seeds = sorted(set(before) & set(after))
    return {seed: before[seed] for seed in seeds}, {seed: after[seed] for seed in seeds}


def seed_losses(before: Mapping[int, float], after: Mapping[int, float], better: str) -> dict[int, float]:
    """Seed -> loss, for the seeds that both sides have."""
    sign = 1.0 if better == "higher" else -1.0
    before, after = on_both(before, after)
    return {seed: sign * (value - after[seed]) for seed, value in before.items()}
