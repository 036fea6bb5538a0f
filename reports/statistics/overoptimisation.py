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


HELDOUT_SHARE = 0.1
"""Of what training gained: so much less on held-out prompts is no noise beside it."""


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


def courses(curves: pd.DataFrame, axis: str, metric: str = "gold", split: str = "train") -> dict[str, Course]:
    """Each trained variant's, of gold or of another measure beside the training reward; empty where there is none.

    The reward itself, on held-out prompts, has fallen where it lost a share of what training gained.
    """
    done = finished(curves)
    reward = {trial: curve["value"] for trial, _, _, curve in trials_in(select(done, "reward", "train"), ["value"])}
    still = untrained_variants(curves)
    found: dict[str, list[tuple[bool, bool, float, float, float]]] = {}
    for trial, variant, _, course in trials_in(select(done, metric, split), [axis, "value"]):
        best = best_of(course[axis], course["value"])
        if variant in still or best is None or trial not in reward:
            continue
        start, end = float(course["value"][0]), float(course["value"][-1])
        gain = float(reward[trial][-1]) - float(reward[trial][0])
        lost = start - end > HELDOUT_SHARE * gain if metric == "reward" else _below(end, start)
        fell = lost and gain > 0
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
        f"{course.variant} (in {_share(course.turned, course)}, from a peak at {_median(course)}{number(course.peak)} "
        f"{axis_words(axis)})"
        for course in gold
        if course.turned == course.seeds and course not in fell
    ]
    told = [f"Gold fell while the reward rose: {_listed(fell, axis)}."] if fell else []
    told += [f"Gold rose and fell again: {listing(turned)}."] if turned else []
    unseen = [course for course in courses(curves, axis, "reward", "heldout").values() if course.mostly_fell]
    if unseen:
        told.append(f"The reward rose on training prompts and fell on held-out ones: {_listed(unseen, axis)}.")
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


def _median(course: Course) -> str:
    return "" if course.seeds == 1 else "a median of "


def _below(value: float, reference: float) -> bool:
    return value < reference - MARGIN * abs(reference)


def _course(variant: str, rows: list[tuple[bool, bool, float, float, float]]) -> Course:
    fell, turned, starts, ends, peaks = zip(*rows, strict=True)
    seeds = len(rows)
    return Course(variant, seeds, sum(fell), sum(turned), sum(starts) / seeds, sum(ends) / seeds, median(peaks))


def _share(number_of: int, course: Course) -> str:
    return "one seed" if course.seeds == 1 else f"{number_of} of {course.seeds} seeds"
