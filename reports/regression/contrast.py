"""Two runs side by side: for each method and metric the difference, its uncertainty and a verdict.

Differences are taken over seeds; prompts and evaluation noise are the same on both sides. The test is that of
`statistics/evidence.py`, two-sided, adjusted by Holm's procedure over the methods of a metric. Under five seeds the
range over seeds is shown and no interval.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from reports.formatting import measured, p_value, with_range
from reports.frame import finished, metrics_in, select, untrained_variants
from reports.names import GATE_AXES, MACHINES_OWN, SPLIT_WORDS, SPLITS
from reports.regression import measures
from reports.regression.baseline import UNTRAINED_TOLERANCE
from reports.regression.gate_text import crossed_note
from reports.regression.units import Unit
from reports.statistics import evidence
from reports.statistics.comparison import shared_span
from reports.tables.table import Table

BETTER, WORSE, SAME, NOT_COMPARABLE = "better", "worse", "no difference shown", "not comparable"

COSTS = (measures.TO_TARGET, *(axis for axis in GATE_AXES if axis not in MACHINES_OWN))
CURVE = ("area", *COSTS)
LOWER_IS_BETTER = (*(f"drift {split}" for split in SPLITS), *COSTS)

Values = dict[str, dict[int, float]]
"""Metric -> seed -> value; a metric is a name with its split, such as "reward train", or one of `CURVE`."""


@dataclass(frozen=True)
class Side:
    """A run's validated frames."""

    curves: pd.DataFrame
    evaluation: pd.DataFrame


@dataclass(frozen=True)
class Contrast:
    """One metric of one method, B against A.

    Attributes:
        first, second: means over seeds of A and of B, over shared seeds where they are paired; None without a value.
        difference: B − A.
        spread: the 95 % Student-t interval of the difference where `interval`, else its range over shared seeds.
        crossed: bootstrap interval of the difference over seeds and prompts, from five seeds on.
        p: two-sided and adjusted p-value.
        seeds: numbers of finished seeds of A and of B.
        why: the reason for "not comparable".
        axis: the axis of a cost, such as "flops"; "" for a reward.
        bounds: whether each mean is a lower bound, as a seed never reached the target.
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
    axis: str = ""
    bounds: tuple[bool, bool] = (False, False)


def compare(
    first: Side,
    second: Side,
    axis: str,
    target: float | None,
    clashing: Collection[str] = (),
    alpha: float = evidence.ALPHA,
) -> list[Contrast]:
    """The contrasts of every metric of every method that either run has.

    Args:
        first, second: A and B.
        axis: the budget's column.
        target: the reward whose cost is compared; None where the runs do not share one.
        clashing: metrics, such as "gold", that the two runs compute by different rewards; they are not compared.
        alpha: of the verdicts, after adjustment.
    """
    sides = (first, second)
    variants = list(dict.fromkeys(map(str, [*first.curves["variant"], *second.curves["variant"]])))
    untrained = tuple(untrained_variants(side.curves) for side in sides)
    pairs = [_pair(variant, sides, untrained, axis, target) for variant in variants]
    found: list[Contrast] = []
    for metric in dict.fromkeys(metric for pair in pairs for values in pair.values for metric in values):
        same = metric.rpartition(" ")[0] not in clashing
        family = [
            _contrast(pair, metric, axis, same) for pair in pairs if any(metric in values for values in pair.values)
        ]
        found += [_with_crossed(contrast, first, second) for contrast in _judged(family, alpha)]
    return sorted(found, key=lambda contrast: variants.index(contrast.variant))


@dataclass(frozen=True)
class _Pair:
    """One method on both sides.

    Attributes:
        values: of its finished trials, on each side.
        censored: whether a seed never reached the target, on each side.
        trains: whether it trains, on each side; None where a side does not have the method.
    """

    variant: str
    values: tuple[Values, Values]
    censored: tuple[bool, bool]
    trains: tuple[bool | None, bool | None]


def _pair(
    variant: str, sides: tuple[Side, Side], untrained: tuple[set[str], ...], axis: str, target: float | None
) -> _Pair:
    """Measures one method on both sides, with areas over the stretch of the axis that both cover."""
    rows = [side.curves[side.curves["variant"] == variant] for side in sides]
    trains = [variant not in names if len(own) else None for names, own in zip(untrained, rows, strict=True)]
    rows = [finished(own) for own in rows]
    spans = [shared_span(select(own, "reward", "train"), axis) for own in rows]
    span = None
    if spans[0] is not None and spans[1] is not None:
        span = (max(spans[0][0], spans[1][0]), min(spans[0][1], spans[1][1]))
    taken = [measures.measure(own, own.iloc[:0], axis, span, None if False in trains else target) for own in rows]
    wanted = CURVE if span is not None and span[1] > span[0] else ()
    before, after = (
        _last_values(own) | {name: found.values[name] for name in wanted if name in found.values}
        for own, found in zip(rows, taken, strict=True)
    )
    return _Pair(
        variant, (before, after), (bool(taken[0].censored), bool(taken[1].censored)), (trains[0], trains[1])
    )  # fmt: skip


def _last_values(rows: pd.DataFrame) -> Values:
    found: Values = {}
    for metric in metrics_in(rows):
        for split in SPLIT_WORDS:
            last = {seed: float(c["value"].iloc[-1]) for seed, c in measures.by_seed(select(rows, metric, split))}
            if last:
                found[f"{metric} {split}"] = last
    return found


def _contrast(pair: _Pair, metric: str, axis: str, same_measure: bool) -> Contrast:
    before, after = (values.get(metric, {}) for values in pair.values)
    bounds = pair.censored if metric == measures.TO_TARGET else (False, False)
    plain = Contrast(
        pair.variant, metric, _words(metric, axis), _mean(before), _mean(after), (len(before), len(after)),
        axis=measures.axis_of(metric, axis), bounds=bounds,
    )  # fmt: skip
    if plain.first is None or plain.second is None:
        side, values = ("A", pair.values[0]) if plain.first is None else ("B", pair.values[1])
        return replace(plain, why=f"it is not measured in {side}" if values else f"no finished trial of it in {side}")
    if not same_measure:
        return replace(plain, why="it is measured by something else in B")
    if not np.isfinite([*before.values(), *after.values()]).all():
        return replace(plain, why="a value is NaN or infinite")
    if pair.trains[0] != pair.trains[1]:
        return replace(plain, why=f"it trains in {'A' if pair.trains[0] else 'B'} only")
    if all(bounds):
        return replace(plain, why="neither run reaches the target in every seed")
    if not pair.trains[0]:  # an untrained method does not vary with the seed
        difference = plain.second - plain.first
        rounding = UNTRAINED_TOLERANCE * max(abs(plain.first), abs(plain.second))
        return replace(plain, difference=difference, p=float(abs(difference) <= rounding), verdict=SAME)
    rises = {seed: -loss for seed, loss in measures.seed_losses(before, after, "higher").items()}
    if len(rises) >= evidence.SEEDS_FOR_PAIRING:
        found = evidence.paired(list(rises.values()))
        # The means are over the compared seeds alone, so that they differ by the difference shown beside them.
        plain = replace(plain, first=_mean({s: before[s] for s in rises}), second=_mean({s: after[s] for s in rises}))
    else:
        found = evidence.pooled(list(before.values()), list(after.values()), -1.0)
    spread = (min(rises.values()), max(rises.values())) if rises else None
    certain = not any(bounds)
    return replace(
        plain,
        difference=found.loss,
        spread=(found.interval or spread) if certain else None,
        interval=certain and found.interval is not None,
        p=min(1.0, 2 * min(found.p, found.p_gain)),
        verdict=SAME,
    )


def _mean(values: Mapping[int, float]) -> float | None:
    return float(np.mean(list(values.values()))) if values else None


def _judged(family: list[Contrast], alpha: float) -> list[Contrast]:
    """The contrasts of one metric with adjusted p-values and verdicts."""
    known = [contrast for contrast in family if contrast.p is not None]
    adjusted = evidence.holm([contrast.p or 0.0 for contrast in known], [1.0] * len(known))
    judged = [_named(contrast, p, alpha) for contrast, p in zip(known, adjusted, strict=True)]
    return [*judged, *(contrast for contrast in family if contrast.p is None)]


def _named(contrast: Contrast, p: float, alpha: float) -> Contrast:
    difference = contrast.difference or 0.0
    if p > alpha or difference == 0:
        return replace(contrast, p=p)
    if contrast.bounds[0 if difference > 0 else 1]:  # the true value may lie on the other side
        return replace(contrast, p=p)
    better = (difference < 0) == (contrast.metric in LOWER_IS_BETTER)
    return replace(contrast, p=p, verdict=BETTER if better else WORSE)


def _with_crossed(contrast: Contrast, first: Side, second: Side) -> Contrast:
    """The contrast with its interval over seeds and prompts, where there are values by prompt."""
    metric, _, split = contrast.metric.rpartition(" ")
    if not contrast.interval or not metric:
        return contrast
    grids = [_last_by_prompt(side, contrast.variant, metric, split) for side in (first, second)]
    apart = (grids[1] - grids[0]).dropna(how="all").dropna(axis=1, how="all").to_numpy(float)
    if apart.shape[0] < evidence.SEEDS_FOR_PAIRING or apart.shape[1] < 2 or not np.isfinite(apart).all():
        return contrast
    return replace(contrast, crossed=evidence.crossed_interval(apart))


def _last_by_prompt(side: Side, variant: str, metric: str, split: str) -> pd.DataFrame:
    """The values `[seeds, prompts]` at the last point of each finished trial."""
    done = finished(side.curves[side.curves["variant"] == variant])["trial"].unique()
    rows = select(side.evaluation[side.evaluation["trial"].isin(done)], metric, split)
    last = rows[rows["point"] == rows.groupby("trial")["point"].transform("max")]
    return last.groupby(["seed", "prompt"])["value"].mean().unstack("prompt")


def _words(metric: str, axis: str) -> str:
    name, _, split = metric.rpartition(" ")
    if not name:
        return measures.words(metric, axis)
    return f"{name.removeprefix('reward/')}, {SPLIT_WORDS[split]}"


def contrast_table(contrasts: list[Contrast], names: tuple[str, str], only_changed: bool = False) -> Table:
    """The table of contrasts, a row a metric.

    Args:
        names: of A and of B.
        only_changed: leaves out metrics without a shown difference.
    """
    shown = [contrast for contrast in contrasts if not only_changed or contrast.verdict != SAME]
    rows = []
    for contrast in shown:
        known = [value for value in (contrast.first, contrast.second) if value is not None]
        unit = Unit.of(contrast.axis, known)
        rows.append(
            {
                "method": contrast.variant,
                "metric": unit.label(contrast.words),
                "A": f"{'≥ ' if contrast.bounds[0] else ''}{unit.text(contrast.first)}",
                "B": f"{'≥ ' if contrast.bounds[1] else ''}{unit.text(contrast.second)}",
                "difference": _difference(contrast, unit),
                "p": "" if contrast.p is None else p_value(contrast.p),
                "seeds": "/".join(map(str, contrast.seeds)),
                "verdict": f"{contrast.verdict}: {contrast.why}" if contrast.why else contrast.verdict,
            }
        )
    columns = ["method", "metric", "A", "B", "difference", "p", "seeds", "verdict"]
    return Table(
        f"{names[0]} (A) and {names[1]} (B)",
        pd.DataFrame(rows, columns=columns),
        _note(contrasts),
        ("method", "metric", "verdict"),
        grouped="method",
    )


def _difference(contrast: Contrast, unit: Unit) -> str:
    if contrast.difference is None:
        return ""
    sign = "≤ " if contrast.bounds[0] else "≥ " if contrast.bounds[1] else ""
    text = f"{sign}{unit.text(contrast.difference, signed=True)}"
    if contrast.spread is None or contrast.spread[0] == contrast.spread[1]:
        return text
    if contrast.interval:
        return f"{text} ± {unit.text((contrast.spread[1] - contrast.spread[0]) / 2)}"
    return with_range(text, *(unit.text(value, signed=True) for value in contrast.spread))


def _note(contrasts: list[Contrast]) -> str:
    few = any(contrast.spread is not None and not contrast.interval for contrast in contrasts)
    many = any(contrast.interval for contrast in contrasts)
    parts = ["Means over seeds after training; difference is B − A on the same prompts and noise"]
    if few:
        parts.append("in brackets its range over the seeds that both have (under five, no interval is claimed)")
    if many:
        parts.append("± half of its 95 % Student-t interval over seeds")
    if any(any(contrast.bounds) for contrast in contrasts):
        parts.append("≥ where a seed never reached the target, and all that it spent stands in")
    parts.append("p: two-sided, over seeds, adjusted by Holm's procedure over methods")
    crossed = [
        f"{contrast.variant}, {contrast.words}: {measured(contrast.crossed[0], signed=True)} to "
        f"{measured(contrast.crossed[1], signed=True)}"
        for contrast in contrasts
        if contrast.crossed is not None and contrast.metric.startswith("reward ")
    ]
    text = (
        f" Bootstrap of seeds and prompts as crossed factors{crossed_note()}: {'; '.join(crossed)}." if crossed else ""
    )
    return f"{'; '.join(parts)}.{text}"
