"""Statistics over the whole frame: per trial, per variant, against a baseline, and paired.

Trials that are not done have no final value; they stay in every count ("2 of 3 seeds").
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports.evidence import crossed_interval
from reports.frame import DONE, finished, runs_of, select, trials_in, untrained_variants
from reports.statistics import SEEDS_FOR_AN_INTERVAL, Summary, crossing, normalised_area, summarise, t_interval


def common_range(curves: pd.DataFrame, axis: str) -> tuple[float, float] | None:
    """The stretch of the axis that every trained trial has seen; failed ones do not narrow it, running ones do.

    None where there is no such stretch.
    """
    trained = curves[~curves["variant"].isin(untrained_variants(curves))]
    alive = trained[trained["status"].isin((DONE, "running"))]
    ends = (trained if alive.empty else alive).groupby("trial")[axis].agg(["min", "max"])
    if ends.empty:
        return None
    low, high = float(ends["min"].max()), float(ends["max"].min())
    return (low, high) if high > low else None


def final_values(curves: pd.DataFrame, metric: str, split: str) -> pd.DataFrame:
    """The value of each finished trial at its last point: trial, method, variant, seed, point, value."""
    last = select(finished(curves), metric, split).groupby("trial").tail(1)
    return last[["trial", "method", "variant", "seed", "point", "value"]].reset_index(drop=True)


def final_summaries(curves: pd.DataFrame, metric: str, split: str) -> dict[str, Summary]:
    """The final values by variant, over seeds."""
    return _by_variant(final_values(curves, metric, split), "value")


def areas(curves: pd.DataFrame, axis: str, metric: str = "reward", split: str = "train") -> pd.DataFrame:
    """Normalised area under each finished trial's curve inside `common_range`: trial, variant, seed, value.

    A variant that trains nothing stands still, so its area is its value. A trial that does not span the range has none.
    """
    span = common_range(curves, axis)
    rows = select(finished(curves), metric, split)
    still = untrained_variants(curves)
    found = []
    for trial, variant, seed, curve in trials_in(rows, (axis, "value")):
        if variant in still:
            area: float | None = float(curve["value"][-1])
        else:
            area = None if span is None else normalised_area(curve[axis], curve["value"], *span)
        if area is not None:
            found.append((trial, variant, seed, area))
    return pd.DataFrame(found, columns=["trial", "variant", "seed", "value"])


def area_summaries(curves: pd.DataFrame, axis: str) -> dict[str, Summary]:
    return _by_variant(areas(curves, axis), "value")


def costs_to_target(
    curves: pd.DataFrame, target: float, axes: Sequence[str], metric: str = "reward", split: str = "train"
) -> pd.DataFrame:
    """What each trained, finished trial had spent where its curve first reached the target: +inf if it never did.

    Axes are interpolated at the same place between the same two points. Peak memory does not accumulate, so it is
    the peak at the later of the two points. Columns: trial, variant, seed, reached, and one an axis.
    """
    rows = select(finished(curves), metric, split)
    rows = rows[~rows["variant"].isin(untrained_variants(curves))]
    found = []
    for trial, variant, seed, curve in trials_in(rows, (*axes, "value")):
        place = crossing(curve["value"], target)
        row: dict[str, object] = {"trial": trial, "variant": variant, "seed": seed, "reached": place is not None}
        for axis in axes:
            if place is None:
                row[axis] = math.inf
            else:
                peak = axis == "peak_memory_bytes"
                row[axis] = float(curve[axis][place.index]) if peak else place.at(curve[axis])
        found.append(row)
    return pd.DataFrame(found, columns=["trial", "variant", "seed", "reached", *axes])


@dataclass(frozen=True)
class Ratio:
    """How many times less than the baseline a variant spent, over the seeds that both have."""

    summary: Summary
    at_least: bool  # a baseline seed never reached the target: what it had spent stands in, so this is a lower bound


def ratios_to_baseline(costs: pd.DataFrame, spent: pd.DataFrame, baseline: str, axis: str) -> dict[str, Ratio]:
    """Baseline's cost / variant's cost, seed by seed; a seed in which the variant never got there counts as 0.

    Args:
        costs: as `costs_to_target` returns them.
        spent: what each trial had spent at its end: trial and one column an axis.
        baseline: the variant to divide.
        axis: which cost.
    """
    ends = spent.set_index("trial")[axis]
    reference = costs[costs["variant"] == baseline].drop_duplicates("seed").set_index("seed")
    rows = costs[costs["seed"].isin(reference.index) & (costs["variant"] != baseline)]
    others = reference.loc[rows["seed"]]
    numerators, own = others[axis].to_numpy(float), rows[axis].to_numpy(float)
    bound = np.isinf(numerators)
    numerators = np.where(bound, ends.reindex(others["trial"]).to_numpy(float), numerators)
    ratios = np.divide(numerators, own, out=np.full(len(own), math.nan), where=own > 0)
    together = pd.DataFrame({"variant": rows["variant"].to_numpy(), "ratio": ratios, "bound": bound})
    found = {}
    for variant, of_variant in together.groupby("variant", sort=False):
        summary = summarise(of_variant["ratio"].to_numpy())
        assert summary is not None
        found[str(variant)] = Ratio(summary, bool(of_variant["bound"].any()))
    return found


def pick_baseline(curves: pd.DataFrame, wanted: str | None) -> str | None:
    """The trained, finished variant that ratios refer to: the wanted one, else `ddpo`, else the lowest final reward."""
    finals = final_summaries(curves, "reward", "train")
    still = untrained_variants(curves)
    trained = {v: s for v, s in finals.items() if v not in still}
    for name in (wanted, "ddpo"):
        if name in trained:
            return name
    methods = curves.drop_duplicates("variant").set_index("variant")["method"]
    ddpo = [v for v in trained if methods[v] == "ddpo"]
    if ddpo:
        return ddpo[0]
    finite = {v: s for v, s in trained.items() if not math.isnan(s.median)}
    return min(finite, key=lambda v: finite[v].median) if len(finite) > 1 else None


def start_value(curves: pd.DataFrame) -> float:
    """The reward before any training: the median over trials of the first point; NaN if none was taken at 0."""
    rows = select(curves, "reward", "train").groupby("trial").head(1)
    steps = rows["steps"] if rows["steps"].notna().any() else rows["point"]
    return float(rows.loc[steps == 0, "value"].median())


@dataclass(frozen=True)
class Paired:
    """A variant minus another on the same prompts and the same noise, after training."""

    variant: str
    over_seeds: Summary  # of the mean difference in each seed
    better: float  # share of pairs in which the variant is higher
    pairs: int
    interval: tuple[float, float] | None  # of the mean, over seeds and prompts as crossed factors, from five seeds on
    clear_seeds: int  # seeds whose 95 % Student-t interval over prompts lies above or below zero


def paired_difference(
    evaluation: pd.DataFrame, variant: str, other: str, metric: str = "reward", split: str = "train"
) -> Paired | None:
    """`pair` of two variants, from the whole evaluation."""
    return pair(variant, *(_last_values(evaluation, name, metric, split) for name in (variant, other)))


def pair(variant: str, own: pd.DataFrame, reference: pd.DataFrame) -> Paired | None:
    """Differences at each trial's last point, pair by pair; None where no prompt and noise are shared.

    Seeds are paired with the same seed of the other, or with its only seed if it has one (a model that trains nothing
    needs no more). The samples of a prompt are averaged before the interval over prompts is taken.

    Args:
        variant: whose name the result has.
        own: its rows of `last_values`, of one metric on one split.
        reference: the other's.
    """
    own, reference = (rows[["seed", "prompt", "sample", "value"]] for rows in (own, reference))
    shared = reference["seed"].nunique() == 1
    on = ["prompt", "sample"] if shared else ["seed", "prompt", "sample"]
    pairs = own.merge(reference.drop(columns="seed") if shared else reference, on=on, suffixes=("", "_other"))
    if pairs.empty:
        return None
    pairs["difference"] = pairs["value"] - pairs["value_other"]
    clear = 0
    prompts = pairs.groupby(["seed", "prompt"], observed=True)["difference"].mean()
    values = prompts.to_numpy()
    for start, end in zip(*runs_of(prompts.index.get_level_values("seed").to_numpy()), strict=True):
        interval = t_interval(values[start:end])
        clear += interval is not None and (interval[0] > 0 or interval[1] < 0)
    means = pairs.groupby("seed")["difference"].apply(lambda d: d.mean(skipna=False))
    summary = summarise(means.to_numpy())
    assert summary is not None
    better = float((pairs["difference"] > 0).mean())
    return Paired(variant, summary, better, len(pairs), _interval(pairs), clear)


def _interval(pairs: pd.DataFrame) -> tuple[float, float] | None:
    """Seeded, so that the same frames give the same page; None under five seeds or where a seed lacks a prompt."""
    wide = pairs.pivot_table(index="seed", columns="prompt", values="difference", observed=True, dropna=False)
    values = wide.to_numpy(dtype=float)
    if len(values) < SEEDS_FOR_AN_INTERVAL or not np.isfinite(values).all():
        return None
    return crossed_interval(values)


def last_values(evaluation: pd.DataFrame) -> pd.DataFrame:
    """The rows of each trial's last point by metric and split, the only ones that pairing looks at."""
    last = evaluation.groupby(["trial", "metric", "split"], observed=True)["point"].transform("max")
    return evaluation[evaluation["point"] == last]


def _last_values(evaluation: pd.DataFrame, variant: str, metric: str, split: str) -> pd.DataFrame:
    chosen = (evaluation["variant"] == variant) & (evaluation["metric"] == metric) & (evaluation["split"] == split)
    return last_values(evaluation[chosen])


def spent(curves: pd.DataFrame) -> pd.DataFrame:
    """The last row of every trial, for its axes: what it spent in all."""
    return curves.sort_values("point", kind="stable").groupby("trial").tail(1).reset_index(drop=True)


def _by_variant(values: pd.DataFrame, column: str) -> dict[str, Summary]:
    found = {str(v): summarise(np.asarray(rows[column])) for v, rows in values.groupby("variant", sort=False)}
    return {variant: summary for variant, summary in found.items() if summary is not None}
