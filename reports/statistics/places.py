"""Which places of a ranking the seeds leave open.

Two rows are told apart as `bench compare` tells two runs apart: by Student's t over seeds, two-sided, on the
differences of the seeds that both have where there are five, else by the two-sample t; by Holm's procedure over all
that a row is compared with. A model that trains nothing has no luck of its own, so the differences from it are tested
whatever their number; one seed tells nothing apart.

A row's place lies between 1 + the rows that are clearly above it and the number of rows that are not clearly below it,
the marginal confidence set of a rank (Mogstad, Romano, Shaikh and Wilhelm 2024, Rev. Econ. Stud. 91, 476).
"""

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import special

from reports.statistics.evidence import ALPHA, SEEDS_FOR_PAIRING

ROUNDING = 1e-6
"""Of the size of two values: a smaller difference is that of their arithmetic."""

Values = Mapping[str, Mapping[int, float]]
"""Row -> seed -> a finite number, higher is better."""


def places(values: Values, still: Collection[str] = (), alpha: float = ALPHA) -> dict[str, tuple[int, int]]:
    """Row -> its first and its last possible place; equal where the seeds leave no doubt.

    Args:
        values: of the rows that are ranked.
        still: rows of models that train nothing.
    """
    names = list(values)
    if not names:
        return {}
    p, difference = _tests(values, np.isin(names, list(still)))
    adjusted = _holm(p)
    apart = np.maximum(adjusted, adjusted.T) <= alpha  # what a row shares with another, the other shares with it
    above, below = (apart & (difference > 0)).sum(0), (apart & (difference < 0)).sum(0)
    return {n: (1 + int(a), len(names) - int(b)) for n, a, b in zip(names, above, below, strict=True)}


def _tests(values: Values, still: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Two-sided p-values, 1 where nothing can be said, and differences: row minus column."""
    seeds = sorted({seed for of_row in values.values() for seed in of_row})
    grid = np.array([[of_row.get(seed, np.nan) for seed in seeds] for of_row in values.values()])
    known = np.isfinite(grid)
    count, mean = known.sum(1), np.nanmean(grid, axis=1)
    squares = np.nansum((grid - mean[:, None]) ** 2, axis=1)
    grid = np.where(still[:, None] & ~known, mean[:, None], grid)  # its value is the same with every seed
    p, difference = np.ones((len(grid), len(grid))), mean[:, None] - mean
    for row in range(len(grid)):  # one against all: a thousand rows take no room, and a second
        apart = grid[row] - grid
        shared = np.isfinite(apart).sum(1)
        paired = still | still[row] | (shared >= SEEDS_FOR_PAIRING)
        middle = np.nansum(apart, axis=1) / np.maximum(shared, 1)
        spread = np.nansum((apart - middle[:, None]) ** 2, axis=1)
        degrees = np.where(paired, shared - 1, count + count[row] - 2)
        variance = np.where(
            paired, spread / np.maximum(shared, 1), (squares + squares[row]) * (1 / count + 1 / count[row])
        )
        shift = np.where(paired, middle, difference[row])
        p[row] = _two_sided(shift, np.sqrt(variance / np.maximum(degrees, 1)), degrees)
        p[row, still & still[row]] = 0.0
        p[row, np.abs(difference[row]) <= ROUNDING * np.maximum(np.abs(mean), np.abs(mean[row]))] = 1.0
    return p, difference


def _two_sided(
    shift: NDArray[np.float64], error: NDArray[np.float64], degrees: NDArray[np.int64]
) -> NDArray[np.float64]:
    """p of Student's t; 0 where nothing varies and there is a difference."""
    varies = error > ROUNDING * np.abs(shift)
    t = np.divide(np.abs(shift), error, out=np.full(len(shift), np.inf), where=varies)
    return np.where(degrees < 1, 1.0, 2 * special.stdtr(np.maximum(degrees, 1), -t))


def _holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """`evidence.holm` with equal weights, of each row without its diagonal, which stays 1."""
    count = len(p)
    off = np.where(np.eye(count, dtype=bool), np.inf, p)
    order = off.argsort(axis=1)[:, : count - 1]
    steps = np.take_along_axis(off, order, 1) * np.arange(count - 1, 0, -1)
    adjusted = np.ones_like(p)
    np.put_along_axis(adjusted, order, np.minimum(np.maximum.accumulate(steps, axis=1), 1.0), 1)
    return adjusted
