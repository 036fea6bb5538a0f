"""Goodhart's law in numbers: trials whose gold fell while the reward that stands for it rose.

Gao, Schulman and Hilton 2022 (arXiv 2210.10760) call this over-optimisation, and call the measure that the reward
stands for gold. Every point of a curve has the same prompts and noise, so a trial is compared with its own first point.
"""

import math
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import numpy as np
import pandas as pd

from reports.formatting import capitalised, listing, measured, number
from reports.frame import finished, metrics_in, select, trials_in, untrained_variants
from reports.meta import Meta
from reports.names import axis_words
from reports.statistics.curve import best_of

MARGIN = 0.05
"""Gold has fallen where it lost this share of its value; a smaller change is the noise of a few dozen images."""

HELDOUT_SHARE = 0.1
"""The held-out reward has fallen where it lost this share of the gain on training prompts."""

COLLAPSE = 0.25
"""Diversity has collapsed where every seed keeps less than this share of its diversity before training.

In the embedded sweeps (docs/results) the methods that paint one picture for every prompt keep 0.09 to 0.20 in each
seed, and every other method keeps more than 0.25 in some seed. A share of a half would accuse the method that trains
nothing and selects the best of several samples: it keeps 0.31 to 0.38 and has the highest gold of all.
"""

FAR = 0.25
"""The model is far from the untrained one where the drift of every seed is above this.

Drift is the mean square by which the predicted noise moved; noise itself has a mean square of one. In the embedded
sweeps (docs/results) drift is 0.35 to 1.9 for the methods whose gold is gone, and at most 0.21 for every other method.
"""


@dataclass(frozen=True)
class Course:
    """The course of gold, or of another metric, over one variant's trials.

    Attributes:
        variant: the variant's name.
        seeds: how many finished trials measured both the reward and the metric.
        fell: in how many of them the metric ended below its start while the reward ended above its start.
        turned: in how many the metric fell from a peak after the start.
        start: mean over seeds before training.
        end: mean over seeds after training.
        peak: median over seeds of the place on the axis where the metric was highest.
        rose: in how many seeds the metric ended above its start.
        shares: lowest and highest over seeds of end / start; NaN where a seed starts at 0.
        ends: lowest and highest end over seeds.
        peaks: lowest and highest over seeds of the place where the metric was highest.
    """

    variant: str
    seeds: int
    fell: int
    turned: int
    start: float
    end: float
    peak: float
    rose: int
    shares: tuple[float, float]
    ends: tuple[float, float]
    peaks: tuple[float, float]

    @property
    def mostly_fell(self) -> bool:
        """Whether the metric fell in more than half of the seeds."""
        return 2 * self.fell > self.seeds


def courses(curves: pd.DataFrame, axis: str, metric: str = "gold", split: str = "train") -> dict[str, Course]:
    """Variant -> the course of a metric beside the training reward, for every trained variant that measured both.

    The held-out reward (`metric` "reward", `split` "heldout") has fallen by `HELDOUT_SHARE`, other metrics by `MARGIN`.
    """
    done = finished(curves)
    reward = {trial: curve["value"] for trial, _, _, curve in trials_in(select(done, "reward", "train"), ["value"])}
    untrained = untrained_variants(curves)
    found: dict[str, list[_Seed]] = {}
    for trial, variant, _, course in trials_in(select(done, metric, split), [axis, "value"]):
        best = best_of(course[axis], course["value"])
        if variant in untrained or best is None or trial not in reward:
            continue
        start, end = float(course["value"][0]), float(course["value"][-1])
        gain = float(reward[trial][-1]) - float(reward[trial][0])
        lost = start - end > HELDOUT_SHARE * gain if metric == "reward" else _below(end, start)
        fell = lost and gain > 0
        turned = _below(end, best[0]) and best[1] > float(course[axis].min())
        found.setdefault(variant, []).append(_Seed(fell, turned, _below(start, end), start, end, best[1]))
    return {variant: _course(variant, rows) for variant, rows in found.items()}


def collapsed(curves: pd.DataFrame, axis: str) -> dict[str, Course]:
    """Variant -> the course of its diversity, for variants whose diversity collapsed in every seed."""
    return {v: c for v, c in courses(curves, axis, "diversity").items() if c.start > 0 and c.shares[1] < COLLAPSE}


def far_off(curves: pd.DataFrame, axis: str) -> dict[str, Course]:
    """Variant -> the course of its drift, for variants far from the untrained model in every seed."""
    return {v: c for v, c in courses(curves, axis, "drift").items() if c.ends[0] > FAR}


def warning(curves: pd.DataFrame, meta: Meta) -> str | None:
    """The sentences on variants over-optimised in most of their seeds; None where there is none.

    A peak is the highest of many noisy points, so a variant whose gold only turned is named where it turned in every
    seed. Of variants whose gold did not fall, other rewards that fell are named, collapsed diversity and large drift.
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
    sentences = [f"Gold fell while the reward rose: {_listed(fell, axis)}."] if fell else []
    sentences += [f"Gold rose and fell again: {listing(turned)}."] if turned else []
    heldout = [course for course in courses(curves, axis, "reward", "heldout").values() if course.mostly_fell]
    if heldout:
        sentences.append(f"The reward rose on training prompts and fell on held-out ones: {_listed(heldout, axis)}.")
    known = {course.variant for course in fell}
    for metric in metrics_in(curves):
        if metric.startswith("reward/"):
            others = courses(curves, axis, metric).values()
            lost = [course for course in others if course.mostly_fell and course.variant not in known]
            sentences += (
                [f"{meta.metric_words(metric)} fell while the reward rose: {_listed(lost, axis)}."] if lost else []
            )
    same = [course for variant, course in collapsed(curves, axis).items() if variant not in known]
    if same:
        sentences.append(f"{capitalised(meta.metric_words('diversity'))} collapsed: {_kept(same)}.")
    gone = [course for variant, course in far_off(curves, axis).items() if variant not in known]
    if gone:
        sentences.append(f"The model went far from the untrained one: {_drifted(gone)}.")
    return " ".join(sentences) or None


def _kept(found: list[Course]) -> str:
    return listing(f"{c.variant} (from {measured(c.start)} to {measured(c.end)}, {_share(c.seeds, c)})" for c in found)


def _drifted(found: list[Course]) -> str:
    return listing(f"{c.variant} (drift {measured(c.end)}, {_share(c.seeds, c)})" for c in found)


def _listed(found: list[Course], axis: str) -> str:
    return listing(
        f"{course.variant} (from {measured(course.start)} to {measured(course.end)}{_peak(course, axis)}, "
        f"{_share(course.fell, course)})"
        for course in found
    )


def _peak(course: Course, axis: str) -> str:
    """A clause on where the metric was highest; "" where that was before training."""
    return f", highest at {number(course.peak)} {axis_words(axis)}" if course.peak > 0 else ""


def _median(course: Course) -> str:
    return "" if course.seeds == 1 else "a median of "


def _below(value: float, reference: float) -> bool:
    return value < reference - MARGIN * abs(reference)


class _Seed(NamedTuple):
    fell: bool
    turned: bool
    rose: bool
    start: float
    end: float
    peak: float


def _course(variant: str, rows: list[_Seed]) -> Course:
    starts, ends, peaks = ([getattr(row, name) for row in rows] for name in ("start", "end", "peak"))
    shares = [end / start if start else math.nan for start, end in zip(starts, ends, strict=True)]
    return Course(
        variant,
        len(rows),
        fell=sum(row.fell for row in rows),
        turned=sum(row.turned for row in rows),
        start=sum(starts) / len(rows),
        end=sum(ends) / len(rows),
        peak=median(peaks),
        rose=sum(row.rose for row in rows),
        shares=_range(shares),
        ends=_range(ends),
        peaks=_range(peaks),
    )


def _range(values: list[float]) -> tuple[float, float]:
    """(lowest, highest); NaN where a value is NaN."""
    return float(np.min(values)), float(np.max(values))


def _share(number_of: int, course: Course) -> str:
    return "one seed" if course.seeds == 1 else f"{number_of} of {course.seeds} seeds"
