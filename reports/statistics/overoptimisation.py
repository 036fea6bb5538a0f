"""Goodhart's law in numbers: where gold fell while the reward that stands for it rose.

Gao, Schulman and Hilton 2022 (arXiv 2210.10760) call it over-optimisation, and the measure that the reward stands for
gold. Every point of a curve is of the same prompts and the same noise, so a trial is compared with its own start.
"""

from dataclasses import dataclass
from statistics import median

import pandas as pd

from reports.formatting import listing, measured, number
from reports.frame import axis_words, finished, metrics_in, select, trials_in, untrained_variants
from reports.meta import Meta
from reports.statistics.curve import best_of

MARGIN = 0.05
"""Gold has fallen where it is lower by this share of what it was: less is the noise of a few dozen images."""


@dataclass(frozen=True)
class Course:
    """What became of gold, or of another measure, on training prompts.

    Attributes:
        variant: whose.
        seeds: finished trials that measured reward and gold.
        fell: in how many of them it ended below its own start while the reward ended above its own.
        turned: in how many it fell from a peak after the start.
        start: mean over seeds before training.
        end: mean over seeds after training.
        peak: median over seeds of the axis where it was highest.
    """

    variant: str
    seeds: int
    fell: int
    turned: int
    start: float
    end: float
    peak: float

    @property
    def mostly_fell(self) -> bool:
        """Whether in more than half of the seeds."""
        return 2 * self.fell > self.seeds


def courses(curves: pd.DataFrame, axis: str, metric: str = "gold") -> dict[str, Course]:
    """Each trained variant's, of gold or of another measure beside the reward; empty where it was not measured."""
    done = finished(curves)
    reward = {trial: curve["value"] for trial, _, _, curve in trials_in(select(done, "reward", "train"), ["value"])}
    still = untrained_variants(curves)
    found: dict[str, list[tuple[bool, bool, float, float, float]]] = {}
    for trial, variant, _, course in trials_in(select(done, metric, "train"), [axis, "value"]):
        best = best_of(course[axis], course["value"])
        if variant in still or best is None or trial not in reward:
            continue
        start, end = float(course["value"][0]), float(course["value"][-1])
        fell = _below(end, start) and float(reward[trial][-1]) > float(reward[trial][0])
        turned = _below(end, best[0]) and best[1] > float(course[axis].min())
        found.setdefault(variant, []).append((fell, turned, start, end, best[1]))
    return {variant: _course(variant, rows) for variant, rows in found.items()}


def warning(curves: pd.DataFrame, meta: Meta) -> str | None:
    """Which variants were over-optimised in most of their seeds, and which turned in all; None where none was.

    A peak is the highest of many noisy points, so one seed's alone says little. Where gold did not fall, another reward
    beside it may have: the file is smaller, and the animal gone.
    """
    axis = meta.budget_column
    gold = courses(curves, axis).values()
    fell = [course for course in gold if course.mostly_fell]
    turned = [
        f"{course.variant} (peak at {number(course.peak)} {axis_words(axis)}, {_share(course.turned, course)})"
        for course in gold
        if course.turned == course.seeds and course not in fell
    ]
    told = [f"Gold fell while the reward rose: {_listed(fell, axis)}."] if fell else []
    told += [f"Gold rose and fell again: {listing(turned)}."] if turned else []
    known = {course.variant for course in fell}
    for metric in metrics_in(curves):
        if metric.startswith("reward/"):
            others = courses(curves, axis, metric).values()
            lost = [course for course in others if course.mostly_fell and course.variant not in known]
            told += [f"{meta.metric_words(metric)} fell while the reward rose: {_listed(lost, axis)}."] if lost else []
    return " ".join(told) or None


def _listed(found: list[Course], axis: str) -> str:
    return listing(
        f"{course.variant} (from {measured(course.start)} to {measured(course.end)}{_peak(course, axis)}, "
        f"{_share(course.fell, course)})"
        for course in found
    )


def _peak(course: Course, axis: str) -> str:
    """Where it turned: nothing where it was highest before training."""
    return f", highest at {number(course.peak)} {axis_words(axis)}" if course.peak > 0 else ""


def _below(value: float, reference: float) -> bool:
    return value < reference - MARGIN * abs(reference)


def _course(variant: str, rows: list[tuple[bool, bool, float, float, float]]) -> Course:
    fell, turned, starts, ends, peaks = zip(*rows, strict=True)
    seeds = len(rows)
    return Course(variant, seeds, sum(fell), sum(turned), sum(starts) / seeds, sum(ends) / seeds, median(peaks))


def _share(number_of: int, course: Course) -> str:
    return "one seed" if course.seeds == 1 else f"{number_of} of {course.seeds} seeds"
