"""Curves compared point by point: on one machine, versions and threads, an unchanged method repeats them bitwise."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports.frame import select
from reports.regression.baseline import Curves
from reports.regression.measures import by_seed

RELATIVE, ABSOLUTE = 1e-5, 1e-8
"""Points are equal where |a − b| ≤ 1e-5 |b| + 1e-8, twice the error of rounding stored points to six digits."""


@dataclass(frozen=True)
class Agreement:
    """The agreement of two sets of curves.

    Attributes:
        equal: whether every point of every seed is equal within the tolerance.
        points: how many points were compared.
        largest: the largest difference between them.
        words: a clause on the first difference; "" without one.
    """

    equal: bool
    points: int
    largest: float
    words: str = ""


def agreement(baseline: Curves, rows: pd.DataFrame, axis: str) -> Agreement:
    """Compares axis and rewards of every seed that the baseline has.

    Args:
        rows: one variant's rows of the curves frame.
        axis: the budget's column.
    """
    points, largest, words = 0, 0.0, ""
    for split, stored in (("train", baseline.train), ("heldout", baseline.heldout)):
        curves = dict(by_seed(select(rows, "reward", split)))
        for seed, values in stored.items():
            if seed not in curves:
                continue
            new = curves[seed]
            if len(new) != len(values) or not np.allclose(new[axis], baseline.axis[seed], RELATIVE, ABSOLUTE):
                words = words or f"seed {seed} was evaluated at other points"
                continue
            apart = np.abs(new["value"].to_numpy(float) - values)
            points += len(values)
            largest = max(largest, float(apart.max()))
            wrong = np.flatnonzero(~(apart <= RELATIVE * np.abs(values) + ABSOLUTE))
            if wrong.size and not words:
                words = f"seed {seed} differs from point {wrong[0]} on"
    if words and largest:
        words += f" (by up to {largest:.2g})"
    return Agreement(not words and points > 0, points, largest, words)
