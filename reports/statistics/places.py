"""The places in a ranking that the seeds leave open.

Two rows differ clearly by the same test as in `bench compare`: Student's t over seeds, two-sided, on the differences of
the seeds that both have where there are five, else the two-sample t; adjusted by Holm's procedure over all rows that a
row is compared with. An untrained model does not vary with the seed, so the differences from it are tested whatever
their number. One seed distinguishes nothing.

A row's place lies between 1 + the number of rows that are clearly above it and the number of rows that are not clearly
below it: the marginal confidence set of a rank (Mogstad, Romano, Shaikh and Wilhelm 2024, Rev. Econ. Stud. 91, 476).
"""

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import special

from reports.statistics.evidence import ALPHA, SEEDS_FOR_PAIRING

ROUNDING = 1e-6
"""A difference below this share of the values themselves is rounding."""

Values = Mapping[str, Mapping[int, float]]
"""Row -> seed -> a finite number, higher is better."""


def places(values: Values, untrained: Collection[str] = (), alpha: float = ALPHA) -> dict[str, tuple[int, int]]:
    """Row -> its first and last possible place; the two are equal where the seeds leave no doubt.

    Args:
        values: one value a seed of each ranked row.
        untrained: rows of untrained models.
        alpha: chance that a row's places exclude its true one.
    """
    names = list(values)
    if not names:
        return {}
    p, difference = _tests(values, np.isin(names, list(untrained)))
    adjusted = _holm(p)
    apart = np.maximum(adjusted, adjusted.T) <= alpha  # a place that one row shares with another, the other shares too
    above, below = (apart & (difference > 0)).sum(0), (apart & (difference < 0)).sum(0)
    return {n: (1 + int(a), len(names) - int(b)) for n, a, b in zip(names, above, below, strict=True)}


def _tests(values: Values, untrained: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(two-sided p-values, 1 where there is no test; differences): row minus column, `[rows, rows]`."""
    seeds = sorted({seed for of_row in values.values() for seed in of_row})
    grid = np.array([[of_row.get(seed, np.nan) for seed in seeds] for of_row in values.values()])
    known = np.isfinite(grid)
    count, mean = known.sum(1), np.nanmean(grid, axis=1)
    squares = np.nansum((grid - mean[:, None]) ** 2, axis=1)
    grid = np.where(untrained[:, None] & ~known, mean[:, None], grid)  # an untrained value is the same for every seed
    p, difference = np.ones((len(grid), len(grid))), mean[:, None] - mean
    for row in range(len(grid)):  # one row against all: a thousand rows take a second and little memory
        apart = grid[row] - grid
        shared = np.isfinite(apart).sum(1)
        paired = untrained | untrained[row] | (shared >= SEEDS_FOR_PAIRING)
        middle = np.nansum(apart, axis=1) / np.maximum(shared, 1)
        spread = np.nansum((apart - middle[:, None]) ** 2, axis=1)
        degrees = np.where(paired, shared - 1, count + count[row] - 2)
        variance = np.where(
            paired, spread / np.maximum(shared, 1), (squares + squares[row]) * (1 / count + 1 / count[row])
        )
        shift = np.where(paired, middle, difference[row])
        p[row] = _two_sided(shift, np.sqrt(variance / np.maximum(degrees, 1)), degrees)
        p[row, untrained & untrained[row]] = 0.0
        p[row, np.abs(difference[row]) <= ROUNDING * np.maximum(np.abs(mean), np.abs(mean[row]))] = 1.0
    return p, difference


def _two_sided(
    shift: NDArray[np.float64], error: NDArray[np.float64], degrees: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The p-value of Student's t; 0 for a difference between values that do not vary."""
    varies = error > ROUNDING * np.abs(shift)
    t = np.divide(np.abs(shift), error, out=np.full(len(shift), np.inf), where=varies)
    return np.where(degrees < 1, 1.0, 2 * special.stdtr(np.maximum(degrees, 1), -t))


def _holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """`evidence.holm` with equal weights on each row of p-values, leaving out the diagonal, which stays 1."""
    count = len(p)
    off = np.where(np.eye(count, dtype=bool), np.inf, p)
    order = off.argsort(axis=1)[:, : count - 1]
    steps = np.take_along_axis(off, order, 1) * np.arange(count - 1, 0, -1)
    adjusted = np.ones_like(p)
    np.put_along_axis(adjusted, order, np.minimum(np.maximum.accumulate(steps, axis=1), 1.0), 1)
    return adjusted
