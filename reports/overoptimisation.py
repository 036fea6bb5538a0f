"""Goodhart's law in numbers: where gold fell while the reward that stands for it rose.

Gao, Schulman and Hilton 2022 (arXiv 2210.10760) call it over-optimisation, and the measure that the reward stands for
gold. Every point of a curve is of the same prompts and the same noise, so a trial is compared with its own start.
"""

from dataclasses import dataclass
from statistics import median

import pandas as pd

from reports.formatting import listing, measured, number
from reports.frame import axis_words, finished, select, untrained_variants
from reports.meta import Meta
from reports.statistics import best_of

MARGIN = 0.05
"""Gold has fallen where it is lower by this share of what it was: less is the noise of a few dozen images."""


@dataclass(frozen=True)
class Course:
    """What became of a variant's gold on training prompts.

    Attributes:
        variant: whose.
        seeds: finished trials that measured reward and gold.
        fell: in how many of them gold ended below its own start while the reward ended above its own.
        turned: in how many gold fell from a peak after the start.
        start: mean over seeds before training.
        end: mean over seeds after training.
        peak: median over seeds of the axis where gold was highest.
    """

    variant: str
    seeds: int
    fell: int
    turned: int
    start: float
    end: float
    peak: float


def courses(curves: pd.DataFrame, axis: str) -> dict[str, Course]:
    """Each trained variant's; empty where gold was not measured."""
    done = finished(curves)
    gold, reward = (dict(list(select(done, metric, "train").groupby("trial"))) for metric in ("gold", "reward"))
    still = untrained_variants(curves)
    found: dict[str, list[tuple[bool, bool, float, float, float]]] = {}
    for trial, course in gold.items():
        variant = str(course["variant"].iloc[0])
        best = best_of(course[axis], course["value"])
        if variant in still or best is None or trial not in reward:
            continue
        start, end = float(course["value"].iloc[0]), float(course["value"].iloc[-1])
        rewards = reward[trial]["value"]
        fell = _below(end, start) and float(rewards.iloc[-1]) > float(rewards.iloc[0])
        turned = _below(end, best[0]) and best[1] > float(course[axis].min())
        found.setdefault(variant, []).append((fell, turned, start, end, best[1]))
    return {variant: _course(variant, rows) for variant, rows in found.items()}


def warning(curves: pd.DataFrame, meta: Meta) -> str | None:
    """Which variants were over-optimised in most of their seeds, and which turned in all; None where none was.

    A peak is the highest of many noisy points, so one seed's alone says little.
    """
    found = courses(curves, meta.budget_column).values()
    fell = [
        f"{course.variant} (gold from {measured(course.start)} to {measured(course.end)}, "
        f"{_share(course.fell, course)})"
        for course in found
        if 2 * course.fell > course.seeds
    ]
    turned = [
        f"{course.variant} (peak at {number(course.peak)} {axis_words(meta.budget_column)}, "
        f"{_share(course.turned, course)})"
        for course in found
        if course.turned == course.seeds and 2 * course.fell <= course.seeds
    ]
    told = [
        f"Gold fell while the reward rose: {listing(fell)}." if fell else "",
        f"Gold rose and fell again: {listing(turned)}." if turned else "",
    ]
    return " ".join(part for part in told if part) or None


def _below(value: float, reference: float) -> bool:
    return value < reference - MARGIN * abs(reference)


def _course(variant: str, rows: list[tuple[bool, bool, float, float, float]]) -> Course:
    fell, turned, starts, ends, peaks = zip(*rows, strict=True)
    seeds = len(rows)
    return Course(variant, seeds, sum(fell), sum(turned), sum(starts) / seeds, sum(ends) / seeds, median(peaks))


def _share(number_of: int, course: Course) -> str:
    return "one seed" if course.seeds == 1 else f"{number_of} of {course.seeds} seeds"
