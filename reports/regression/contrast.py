"""Two runs side by side: per method and metric the difference with its uncertainty, and a word for it.

The difference is taken over seeds; prompts and evaluation noise are the same on both sides. The test is that of
`evidence.py`, two-sided, with Holm's procedure over the methods of a metric. Under five seeds the range over seeds is
shown and no interval is claimed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from reports import evidence
from reports.formatting import measured, with_range
from reports.frame import SPLIT_WORDS, finished, metrics_in, select, untrained_variants
from reports.regression import measures
from reports.regression.gate_text import crossed_note, figure
from reports.tables import Table

BETTER, WORSE, SAME, NOT_COMPARABLE = "better", "worse", "no difference shown", "not comparable"

CURVE = ("area", measures.TO_TARGET, "nfe", "flops")
LOWER_IS_BETTER = ("drift train", "drift heldout", measures.TO_TARGET, "nfe", "flops")

Values = dict[str, dict[int, float]]
"""metric -> seed -> value; a metric is "reward train", "gold heldout" or one of `CURVE`."""


@dataclass(frozen=True)
class Side:
    """A run's validated frames."""

    curves: pd.DataFrame
    evaluation: pd.DataFrame


@dataclass(frozen=True)
class Contrast:
    """One metric of one method, B against A.

    Attributes:
        first, second: means over seeds; None where a run has none.
        difference: B − A.
        spread: the 95 % Student-t interval of the difference where `interval`, else its range over shared seeds.
        crossed: bootstrap interval over seeds and prompts, from five seeds on.
        p: two-sided, adjusted.
        seeds: finished, on each side.
        why: of "not comparable".
    """

    variant: str
    metric: str
    words: str
    first: float | None
    second: float | None
    seeds: tuple[int, int]
    difference: float | None = None
    spread: tuple[float, float] | None = None
    interval: bool = False
    crossed: tuple[float, float] | None = None
    p: float | None = None
    verdict: str = NOT_COMPARABLE
    why: str = ""


def compare(
    first: Side, second: Side, axis: str, target: float | None, alpha: float = evidence.ALPHA
) -> list[Contrast]:
    """Every metric of every method that either run has.

    Args:
        first, second: A and B.
        axis: the budget's.
        target: whose cost is compared; None where the runs have none in common.
    """
    variants = list(dict.fromkeys(map(str, [*first.curves["variant"], *second.curves["variant"]])))
    still = untrained_variants(first.curves) | untrained_variants(second.curves)
    pairs = {
        variant: _values(variant, first, second, axis, None if variant in still else target) for variant in variants
    }
    found: list[Contrast] = []
    for metric in dict.fromkeys(metric for before, after in pairs.values() for metric in [*before, *after]):
        family = [
            _contrast(variant, metric, axis, before.get(metric, {}), after.get(metric, {}), variant in still)
            for variant, (before, after) in pairs.items()
            if metric in before or metric in after
        ]
        found += [_with_crossed(contrast, first, second) for contrast in _judged(family, alpha)]
    return sorted(found, key=lambda contrast: variants.index(contrast.variant))


def _values(variant: str, first: Side, second: Side, axis: str, target: float | None) -> tuple[Values, Values]:
    """Of the finished trials of each side; areas on the stretch that both have seen."""
    rows = [finished(side.curves) for side in (first, second)]
    rows = [curves[curves["variant"] == variant] for curves in rows]
    spans = [measures.shared_span(select(curves, "reward", "train"), axis) for curves in rows]
    span = None
    if spans[0] is not None and spans[1] is not None:
        span = (max(spans[0][0], spans[1][0]), min(spans[0][1], spans[1][1]))
    before, after = (_side_values(curves, axis, span, target) for curves in rows)
    return before, after


def _side_values(rows: pd.DataFrame, axis: str, span: tuple[float, float] | None, target: float | None) -> Values:
    found: Values = {}
    for metric in metrics_in(rows):
        for split in SPLIT_WORDS:
            last = {seed: float(c["value"].iloc[-1]) for seed, c in measures.by_seed(select(rows, metric, split))}
            if last:
                found[f"{metric} {split}"] = last
    taken = measures.measure(rows, rows.iloc[:0], axis, span, target).values
    wanted = CURVE if span is not None and span[1] > span[0] else ()
    return found | {name: taken[name] for name in wanted if name in taken}


def _contrast(
    variant: str, metric: str, axis: str, before: Mapping[int, float], after: Mapping[int, float], still: bool
) -> Contrast:
    means = [float(np.mean(list(values.values()))) if values else None for values in (before, after)]
    plain = Contrast(variant, metric, _words(metric, axis), means[0], means[1], (len(before), len(after)))
    if means[0] is None or means[1] is None:
        return replace(plain, why=f"no finished trial of it in {'A' if not before else 'B'}")
    if not np.isfinite([*before.values(), *after.values()]).all():
        return replace(plain, why="a value is NaN or infinite")
    rises = {seed: -loss for seed, loss in measures.seed_losses(before, after, "higher").items()}
    difference = means[1] - means[0]
    if still:  # no seed's luck is in it
        return replace(plain, difference=difference, p=float(difference == 0), verdict=SAME)
    paired = len(rises) >= evidence.SEEDS_FOR_PAIRING
    seen = (
        evidence.paired(list(rises.values()))
        if paired
        else evidence.pooled(list(before.values()), list(after.values()), -1.0)
    )
    span = (min(rises.values()), max(rises.values())) if rises else None
    return replace(
        plain,
        difference=seen.loss,
        spread=seen.interval or span,
        interval=seen.interval is not None,
        p=min(1.0, 2 * min(seen.p, seen.p_gain)),
        verdict=SAME,
    )


def _judged(family: list[Contrast], alpha: float) -> list[Contrast]:
    """Holm over the methods of one metric."""
    known = [contrast for contrast in family if contrast.p is not None]
    adjusted = evidence.holm([contrast.p or 0.0 for contrast in known], [1.0] * len(known))
    judged = [_named(contrast, p, alpha) for contrast, p in zip(known, adjusted, strict=True)]
    return [*judged, *(contrast for contrast in family if contrast.p is None)]


def _named(contrast: Contrast, p: float, alpha: float) -> Contrast:
    difference = contrast.difference or 0.0
    if p > alpha or difference == 0:
        return replace(contrast, p=p)
    better = (difference < 0) == (contrast.metric in LOWER_IS_BETTER)
    return replace(contrast, p=p, verdict=BETTER if better else WORSE)


def _with_crossed(contrast: Contrast, first: Side, second: Side) -> Contrast:
    """Adds the interval over seeds and prompts, where prompts were measured one by one."""
    metric, _, split = contrast.metric.rpartition(" ")
    if not contrast.interval or not metric:
        return contrast
    grids = [_last_by_prompt(side.evaluation, contrast.variant, metric, split) for side in (first, second)]
    apart = (grids[1] - grids[0]).dropna(how="all").dropna(axis=1, how="all").to_numpy(float)
    if apart.shape[0] < evidence.SEEDS_FOR_PAIRING or apart.shape[1] < 2 or not np.isfinite(apart).all():
        return contrast
    return replace(contrast, crossed=evidence.crossed_interval(apart))


def _last_by_prompt(evaluation: pd.DataFrame, variant: str, metric: str, split: str) -> pd.DataFrame:
    """Seeds × prompts, at each trial's last point."""
    rows = select(evaluation[evaluation["variant"] == variant], metric, split)
    last = rows[rows["point"] == rows.groupby("trial")["point"].transform("max")]
    return last.groupby(["seed", "prompt"])["value"].mean().unstack("prompt")


def _words(metric: str, axis: str) -> str:
    name, _, split = metric.rpartition(" ")
    if not name:
        return measures.words(metric, axis)
    return f"{name.removeprefix('reward/')}, {SPLIT_WORDS[split]}"


def contrast_table(contrasts: list[Contrast], names: tuple[str, str], only_changed: bool = False) -> Table:
    """A line a metric.

    Args:
        names: of A and B.
        only_changed: leaves out what shows no difference.
    """
    shown = [contrast for contrast in contrasts if not only_changed or contrast.verdict != SAME]
    rows, last = [], None
    for contrast in shown:
        rows.append(
            {
                "method": contrast.variant if contrast.variant != last else "",
                "metric": contrast.words,
                "A": figure(contrast.first),
                "B": figure(contrast.second),
                "difference": _difference(contrast),
                "p": "" if contrast.p is None else "<0.001" if contrast.p < 1e-3 else f"{contrast.p:.3f}",
                "seeds": "/".join(map(str, contrast.seeds)),
                "verdict": f"{contrast.verdict}: {contrast.why}" if contrast.why else contrast.verdict,
            }
        )
        last = contrast.variant
    columns = ["method", "metric", "A", "B", "difference", "p", "seeds", "verdict"]
    return Table(
        f"{names[0]} (A) and {names[1]} (B)",
        pd.DataFrame(rows, columns=columns),
        _note(contrasts),
        ("method", "metric", "verdict"),
    )


def _difference(contrast: Contrast) -> str:
    if contrast.difference is None:
        return ""
    told = figure(contrast.difference, signed=True)
    if contrast.spread is None or contrast.spread[0] == contrast.spread[1]:
        return told
    if contrast.interval:
        return f"{told} ± {figure((contrast.spread[1] - contrast.spread[0]) / 2)}"
    return with_range(told, figure(contrast.spread[0], signed=True), figure(contrast.spread[1], signed=True))


def _note(contrasts: list[Contrast]) -> str:
    few = any(contrast.spread is not None and not contrast.interval for contrast in contrasts)
    many = any(contrast.interval for contrast in contrasts)
    parts = ["Means over seeds after training; difference is B − A on the same prompts and noise"]
    if few:
        parts.append("in brackets its range over the seeds that both have (under five, no interval is claimed)")
    if many:
        parts.append("± half of its 95 % Student-t interval over seeds")
    parts.append("p: two-sided, over seeds, adjusted by Holm's procedure over methods")
    crossed = [
        f"{contrast.variant}, {contrast.words}: {measured(contrast.crossed[0], signed=True)} to "
        f"{measured(contrast.crossed[1], signed=True)}"
        for contrast in contrasts
        if contrast.crossed is not None and contrast.metric.startswith("reward ")
    ]
    told = (
        f" Bootstrap of seeds and prompts as crossed factors{crossed_note()}: {'; '.join(crossed)}." if crossed else ""
    )
    return f"{'; '.join(parts)}.{told}"
