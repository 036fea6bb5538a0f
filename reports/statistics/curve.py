"""Arithmetic on one curve, or on one value a seed; `comparison.py` applies it to frames.

In every function an axis is a sequence that does not decrease, the values belong to its points, and higher is better.
Nothing is extrapolated beyond the observed points.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

SEEDS_FOR_AN_INTERVAL = 5
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Crossing:
    """The place where a curve first reaches a target: `fraction` of the way from point `index` - 1 to point `index`.

    Attributes:
        between_known: whether the point before is finite, so that the place between the two can be estimated.
    """

    index: int
    fraction: float
    between_known: bool = True

    def at(self, axis: ArrayLike) -> float:
        """The axis at that place, by linear interpolation between the two points."""
        axis = np.asarray(axis, dtype=float)
        if self.index == 0:
            return float(axis[0])
        before, after = axis[self.index - 1], axis[self.index]
        return float(before + self.fraction * (after - before))

    @property
    def only_by(self) -> bool:
        """Whether the place is only known to lie before point `index`.

        Between the untrained model and the first evaluation no interpolation holds: a straight line would give 0.6
        queries to a method that has learned nothing.
        """
        return self.index == 1 or (self.index > 1 and not self.between_known)


def crossing(values: ArrayLike, target: float) -> Crossing | None:
    """The first place where the piecewise linear curve reaches `target`, or None.

    No line is drawn from or to a point that is not finite: a curve that is above the target after such a point has
    reached it at the later point.
    """
    values = np.asarray(values, dtype=float)
    reached = np.flatnonzero(np.isfinite(values) & (values >= target))
    if reached.size == 0:
        return None
    index = int(reached[0])
    before = values[index - 1] if index else math.nan
    if not math.isfinite(before):
        return Crossing(index, 1.0, between_known=False)
    return Crossing(index, float((target - before) / (values[index] - before)))


def cost_to_target(axis: ArrayLike, values: ArrayLike, target: float) -> float | None:
    """The axis where the curve first reaches the target; None if it never does."""
    found = crossing(values, target)
    return None if found is None else found.at(axis)


def normalised_area(axis: ArrayLike, values: ArrayLike, low: float, high: float) -> float | None:
    """The mean height of the piecewise linear curve over [low, high]: (1 / (high - low)) ∫ value d axis.

    None if the curve does not cover the range, NaN if a point within it is NaN. Where two points share a place on the
    axis, the later one counts from there on.
    """
    axis, values = np.asarray(axis, dtype=float), np.asarray(values, dtype=float)
    if axis.size == 0 or not high > low or axis[0] > low or axis[-1] < high:
        return None
    inside = (axis > low) & (axis < high)
    left, right = np.interp([low, high], axis, values)
    grid = np.concatenate([[low], axis[inside], [high]])
    heights = np.concatenate([[left], values[inside], [right]])
    return float(np.trapezoid(heights, grid) / (high - low))


def best_of(axis: ArrayLike, values: ArrayLike) -> tuple[float, float] | None:
    """The highest finite value of the curve and the axis where it stands first; None if no value is finite."""
    axis, values = np.asarray(axis, dtype=float), np.asarray(values, dtype=float)
    if not np.isfinite(values).any():
        return None
    index = int(np.nanargmax(np.where(np.isfinite(values), values, np.nan)))
    return float(values[index]), float(axis[index])


@dataclass(frozen=True)
class Summary:
    """Statistics of one value a seed. A NaN among the values is not dropped: it makes every statistic NaN.

    Attributes:
        count: of all values.
        missing: how many of them are NaN.
        low, high: the range.
        interval: Student-t interval of the mean, from five seeds on.
        at_most: which of "median", "low" and "high" are upper bounds, as they depend on a seed that is one.
    """

    count: int
    missing: int
    mean: float
    median: float
    low: float
    high: float
    interval: tuple[float, float] | None
    at_most: frozenset[str] = frozenset()


def summarise(
    values: Sequence[float] | NDArray[np.float64], bounds: Sequence[bool] | NDArray[np.bool_] | None = None
) -> Summary | None:
    """The summary of one value a seed; None for no values. +inf is allowed ("not reached") and moves median and range.

    Args:
        bounds: which values are upper bounds of numbers above zero.
    """
    array = np.asarray(values, dtype=float)
    if array.size == 0:
        return None
    missing = int(np.isnan(array).sum())
    if missing:
        return Summary(array.size, missing, math.nan, math.nan, math.nan, math.nan, None)
    low, high = float(array.min()), float(array.max())
    interval = t_interval(array) if array.size >= SEEDS_FOR_AN_INTERVAL else None
    # np.median averages the middle two: with one of them infinite, the median is infinite too, which is right.
    found = Summary(array.size, 0, float(array.mean()), float(np.median(array)), low, high, interval)
    if bounds is None or not np.any(bounds):
        return found
    least = np.where(bounds, 0.0, array)
    sure = {"median": np.median(least), "low": least.min(), "high": least.max()}
    return replace(found, at_most=frozenset(name for name, value in sure.items() if value != getattr(found, name)))


def t_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
    """mean ± t_{n-1} · s / √n; None for fewer than two values or where one is not finite."""
    values = np.asarray(values, dtype=float)
    if values.size < 2 or not np.isfinite(values).all():
        return None
    half = _t_quantile((1 + confidence) / 2, values.size - 1) * values.std(ddof=1) / math.sqrt(values.size)
    return float(values.mean() - half), float(values.mean() + half)


@lru_cache(maxsize=1024)
def _t_quantile(probability: float, degrees_of_freedom: int) -> float:
    return float(stats.t.ppf(probability, degrees_of_freedom))


@dataclass(frozen=True)
class Band:
    """Median and range over seeds on a common axis."""

    axis: NDArray[np.float64]
    median: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def band(curves: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], points: int = 200) -> Band | None:
    """The median and range of several curves over the range that all of them cover; None where there is none.

    The common axis holds every observed point in that range, or `points` evenly spaced ones where there are more.
    """
    curves = [(axis, values) for axis, values in curves if len(axis)]
    if not curves:
        return None
    low, high = max(axis[0] for axis, _ in curves), min(axis[-1] for axis, _ in curves)
    if not high > low:
        return None
    observed = np.unique(np.concatenate([axis for axis, _ in curves]))
    grid = np.unique(np.concatenate([[low, high], observed[(observed > low) & (observed < high)]]))
    if grid.size > points:
        grid = np.linspace(low, high, points)
    heights = np.stack([np.interp(grid, axis, values) for axis, values in curves])
    return Band(grid, np.median(heights, axis=0), heights.min(axis=0), heights.max(axis=0))
