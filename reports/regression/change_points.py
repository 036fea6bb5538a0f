"""The places where a series of results changed its level: E-divisive change points.

Matteson and James 2014 (J. Am. Stat. Assoc. 109:334), as Daly et al. 2020 (ICPE, arXiv 2003.00584) use it on the
history of a performance suite. The energy statistic of a split into X (n values) and Y (m values),

    Q = nm / (n + m) · [ 2/(nm) Σ |x_i − y_j| − 1/C(n,2) Σ_{i<k} |x_i − x_k| − 1/C(m,2) Σ_{j<k} |y_j − y_k| ],

is largest at the best split. The split is kept if few permutations of the values within the present segments reach as
large a statistic; the search then goes on in both parts, until a split is not significant. A permutation costs O(n²).
The search finds steps that two noisy neighbours do not show, and reports a slow drift as a step in its middle.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

SIGNIFICANCE = 0.01
"""Largest p-value of a split; it is strict, as each of a history's dozen statistics is searched."""

PERMUTATIONS = 999
LEAST_SEGMENT = 2
"""Fewest results in a segment; a single result is an outlier, not a level."""

LEAST_RESULTS = 10
"""Fewest results of a series. With nine no split is significant: 4 against 5 allow 126 orders, of which two are as
extreme as any."""


@dataclass(frozen=True)
class ChangePoint:
    """The index at which a new level begins, and the share of permutations with as large a step."""

    index: int
    p: float


def change_points(
    values: ArrayLike, significance: float = SIGNIFICANCE, permutations: int = PERMUTATIONS, seed: int = 0
) -> list[ChangePoint]:
    """The change points of a series in time order.

    Args:
        values: finite, `[n]`.
        significance: largest p-value of a split.
        seed: random seed of the permutations; a fixed one gives the same change points every time.
    """
    series = np.asarray(values, dtype=float)
    generator = np.random.default_rng(seed)
    cuts: list[int] = [0, series.size]
    found: list[ChangePoint] = []
    while True:
        statistic, cut = _best(series, cuts)
        if cut is None or statistic <= 0:
            break
        reached = sum(
            _best(_shuffled(series, cuts, generator), cuts)[0] >= statistic - 1e-12 for _ in range(permutations)
        )
        p = (1 + reached) / (1 + permutations)
        if p > significance:
            break
        found.append(ChangePoint(cut, p))
        cuts = sorted([*cuts, cut])
    return sorted(found, key=lambda point: point.index)


def _best(series: NDArray[np.float64], cuts: list[int]) -> tuple[float, int | None]:
    """The largest statistic over all splits of all segments, and the index of that split."""
    best, where = 0.0, None
    for start, end in pairwise(cuts):
        statistics = _energy(series[start:end])
        if statistics.size and statistics.max() > best:
            best, where = float(statistics.max()), start + LEAST_SEGMENT + int(statistics.argmax())
    return best, where


def _energy(segment: NDArray[np.float64]) -> NDArray[np.float64]:
    """Q for every split that leaves `LEAST_SEGMENT` values on both sides."""
    size = segment.size
    n = np.arange(LEAST_SEGMENT, size - LEAST_SEGMENT + 1)
    if n.size == 0:
        return np.empty(0)
    apart = np.abs(segment[:, None] - segment[None, :])
    corner = np.cumsum(np.cumsum(apart, axis=0), axis=1)  # corner[i, j]: sum over the first i + 1 rows, j + 1 columns
    first = corner[n - 1, n - 1] / 2
    both = corner[-1, -1] / 2
    cross = corner[n - 1, -1] - corner[n - 1, n - 1]
    second = both - first - cross
    m = size - n
    return n * m / size * (2 * cross / (n * m) - first / (n * (n - 1) / 2) - second / (m * (m - 1) / 2))


def _shuffled(series: NDArray[np.float64], cuts: list[int], generator: np.random.Generator) -> NDArray[np.float64]:
    return np.concatenate([generator.permutation(series[a:b]) for a, b in pairwise(cuts)])
