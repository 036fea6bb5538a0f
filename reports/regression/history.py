"""Steps in the statistics of many stored results, in the order of their times."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports.formatting import number
from reports.regression import measures
from reports.regression.change_points import LEAST_RESULTS, SIGNIFICANCE, change_points
from reports.regression.units import Unit
from reports.tables.table import Table

COLUMNS = ("result", "time", "commit", "variant", "statistic", "value")
LEAST_STEP = 0.01


@dataclass(frozen=True)
class Step:
    """A step in the level of one statistic.

    Attributes:
        result: the first result of the new level.
        previous: the last result of the old level.
        before, after: means of the old and of the new level, up to the neighbouring steps.
        verdict: "better" or "worse".
    """

    variant: str
    statistic: str
    result: str
    previous: str
    commit: str | None
    before: float
    after: float
    p: float
    verdict: str


@dataclass(frozen=True)
class History:
    """The steps, newest first, and numbers of results, of series, and of series too short to search."""

    steps: tuple[Step, ...]
    results: int
    series: int
    too_short: int


def find_steps(results: pd.DataFrame, significance: float = SIGNIFICANCE, least: float = LEAST_STEP) -> History:
    """The steps of every (variant, statistic).

    Args:
        results: `COLUMNS`, a row for each statistic of a result; `value` is its mean over seeds.
        significance: largest p-value of a step.
        least: smallest step, as a share of the old level.
    """
    steps: list[Step] = []
    short = series = 0
    for (variant, statistic), rows in results.groupby(["variant", "statistic"], sort=False):
        rows = rows[np.isfinite(rows["value"].astype(float))].sort_values("time", kind="stable")
        series += 1
        if len(rows) < LEAST_RESULTS:
            short += 1
            continue
        steps += _steps(str(variant), str(statistic), rows, significance, least)
    order = {name: place for place, name in enumerate(results.sort_values("time", kind="stable")["result"])}
    steps.sort(key=lambda step: order[step.result], reverse=True)
    return History(tuple(steps), int(results["result"].nunique()), series, short)


def _steps(variant: str, statistic: str, rows: pd.DataFrame, significance: float, least: float) -> list[Step]:
    values = rows["value"].to_numpy(float)
    points = change_points(values, significance)
    edges = [0, *(point.index for point in points), len(values)]
    found = []
    for place, point in enumerate(points):
        before = float(values[edges[place] : point.index].mean())
        after = float(values[point.index : edges[place + 2]].mean())
        if abs(after - before) < least * abs(before):
            continue
        rose = after > before
        better = rose == (measures.direction(statistic) == "higher")
        row, previous = rows.iloc[point.index], rows.iloc[point.index - 1]
        commit = row["commit"] if isinstance(row["commit"], str) else None
        found.append(
            Step(variant, statistic, str(row["result"]), str(previous["result"]), commit, before, after, point.p,
                 "better" if better else "worse")
        )  # fmt: skip
    return found


def steps_table(history: History, axis: str) -> Table:
    """The table of steps, the newest first."""
    rows = []
    for step in history.steps:
        unit = Unit.of(measures.axis_of(step.statistic, axis), (step.before, step.after))
        change = 100 * (step.after - step.before) / abs(step.before) if step.before else None
        rows.append(
            {
                "since": step.result,
                "commit": (step.commit or "")[:12],
                "method": step.variant,
                "statistic": unit.label(measures.words(step.statistic, axis)),
                "before": unit.text(step.before),
                "after": unit.text(step.after),
                "change": "" if change is None else f"{number(change, 2, signed=True)} %",
                "p": f"{step.p:.3f}",
                "verdict": step.verdict,
            }
        )
    columns = ["since", "commit", "method", "statistic", "before", "after", "change", "p", "verdict"]
    return Table(
        "Steps",
        pd.DataFrame(rows, columns=columns),
        "E-divisive change points (Matteson and James 2014), tested by permutation.",
        ("since", "commit", "method", "statistic", "verdict"),
    )
