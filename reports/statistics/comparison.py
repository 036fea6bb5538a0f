"""Statistics over the whole frame: per trial, per variant, against a baseline, and paired.

A trial that is not done has no final value, and counts among the planned seeds all the same ("2 of 3 seeds").
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports.frame import finished, runs_of, select, trials_in, untrained_variants
from reports.names import PEAK_MEMORY
from reports.statistics.curve import SEEDS_FOR_AN_INTERVAL, Summary, crossing, normalised_area, summarise, t_interval
from reports.statistics.evidence import crossed_interval


def common_range(curves: pd.DataFrame, axis: str) -> tuple[float, float] | None:
    """The stretch of `axis` that every trained, finished trial covers; areas are taken over it. None without one."""
    return shared_span(finished(curves[~curves["variant"].isin(untrained_variants(curves))]), axis)


def shared_span(rows: pd.DataFrame, axis: str) -> tuple[float, float] | None:
    """The stretch of `axis` that every trial of `rows` covers; None where there is none."""
    ends = rows.groupby("trial")[axis].agg(["min", "max"])
    if ends.empty:
        return None
    low, high = float(ends["min"].max()), float(ends["max"].min())
    return (low, high) if high > low else None


def final_values(curves: pd.DataFrame, metric: str, split: str) -> pd.DataFrame:
    """The value at each finished trial's last point. Columns: trial, method, variant, seed, point, value."""
    last = select(finished(curves), metric, split).groupby("trial").tail(1)
    return last[["trial", "method", "variant", "seed", "point", "value"]].reset_index(drop=True)


def final_summaries(curves: pd.DataFrame, metric: str, split: str) -> dict[str, Summary]:
    """Variant -> summary of its final values over seeds."""
    return by_variant(final_values(curves, metric, split), "value")


def areas(curves: pd.DataFrame, axis: str, metric: str = "reward", split: str = "train") -> pd.DataFrame:
    """The normalised area under each finished trial's curve over `common_range`. Columns: trial, variant, seed, value.

    An untrained variant's curve is constant, so its area is its value. A trial that does not cover the range has none.
    """
    span = common_range(curves, axis)
    rows = select(finished(curves), metric, split)
    untrained = untrained_variants(curves)
    found = []
    for trial, variant, seed, curve in trials_in(rows, (axis, "value")):
        if variant in untrained:
            area: float | None = float(curve["value"][-1])
        else:
            area = None if span is None else normalised_area(curve[axis], curve["value"], *span)
        if area is not None:
            found.append((trial, variant, seed, area))
    return pd.DataFrame(found, columns=["trial", "variant", "seed", "value"])


def area_summaries(curves: pd.DataFrame, axis: str) -> dict[str, Summary]:
    return by_variant(areas(curves, axis), "value")


def trained_rows(curves: pd.DataFrame) -> dict[str, Summary]:
    """Variant -> summary over finished trials of the denoiser rows with a gradient for each reward query."""
    ends = spent(finished(curves))
    ends = ends[(ends["reward_queries"] > 0) & ends["nfe_backward"].notna()]
    return by_variant(ends.assign(rows=ends["nfe_backward"] / ends["reward_queries"]), "rows")


def costs_to_target(
    curves: pd.DataFrame, target: float, axes: Sequence[str], metric: str = "reward", split: str = "train"
) -> pd.DataFrame:
    """The cost of each trained, finished trial where its curve first reached the target; +inf if it never did.

    All axes are interpolated at the same place between the same two points. Up to the first evaluation nothing is
    interpolated: the cost at that evaluation is an upper bound (`Crossing.only_by`), marked in `at_most`. A cost of 0
    belongs to a curve that began at the target. Peak memory does not accumulate, so it is the peak at the later point.
    Columns: trial, variant, seed, reached, at_most, and one an axis.
    """
    rows = select(finished(curves), metric, split)
    rows = rows[~rows["variant"].isin(untrained_variants(curves))]
    found = []
    for trial, variant, seed, curve in trials_in(rows, (*axes, "value")):
        place = crossing(curve["value"], target)
        row: dict[str, object] = {"trial": trial, "variant": variant, "seed": seed, "reached": place is not None}
        row["at_most"] = place is not None and (place.only_by or (place.index == 0 and curve[axes[0]][0] > 0))
        for axis in axes:
            if place is None:
                row[axis] = math.inf
            else:
                later = place.only_by or axis == PEAK_MEMORY
                row[axis] = float(curve[axis][place.index]) if later else place.at(curve[axis])
        found.append(row)
    return pd.DataFrame(found, columns=["trial", "variant", "seed", "reached", "at_most", *axes])


def cost_summaries(costs: pd.DataFrame, axis: str) -> dict[str, Summary]:
    """Variant -> summary over seeds of the costs from `costs_to_target`, with which figures are upper bounds."""
    return by_variant(costs, axis, None if axis == PEAK_MEMORY else "at_most")


@dataclass(frozen=True)
class Ratio:
    """The baseline's cost divided by a variant's, over the seeds that both have."""

    summary: Summary
    at_least: bool
    """Whether it is a lower bound: a seed of the baseline never reached the target, so its total cost is taken instead,
    or a seed of the variant reached the target before its first evaluation."""
    at_most: bool = False
    """Whether it is an upper bound: a seed of the baseline reached the target before its first evaluation."""


def ratios_to_baseline(costs: pd.DataFrame, spent: pd.DataFrame, baseline: str, axis: str) -> dict[str, Ratio]:
    """Variant -> baseline's cost / variant's cost, seed by seed; 0 for a seed in which the variant missed the target.

    A seed in which both reached the target before their first evaluation has no ratio (NaN). A variant with a lower
    bound in one seed and an upper bound in another is left out, as its median could lie anywhere.

    Args:
        costs: the result of `costs_to_target`.
        spent: the total cost of each trial: trial and one column an axis.
        baseline: the variant whose cost is divided.
        axis: the cost that is compared.
    """
    ends = spent.set_index("trial")[axis]
    reference = costs[costs["variant"] == baseline].drop_duplicates("seed").set_index("seed")
    rows = costs[costs["seed"].isin(reference.index) & (costs["variant"] != baseline)]
    others = reference.loc[rows["seed"]]
    numerators, own = others[axis].to_numpy(float), rows[axis].to_numpy(float)
    never, early, late = np.isinf(numerators), rows["at_most"].to_numpy(bool), others["at_most"].to_numpy(bool)
    numerators = np.where(never, ends.reindex(others["trial"]).to_numpy(float), numerators)
    known = (own > 0) & ~(early & late)
    ratios = np.divide(numerators, own, out=np.full(len(own), math.nan), where=known)
    together = pd.DataFrame(
        {"variant": rows["variant"].to_numpy(), "ratio": ratios, "least": never | early, "most": late & (ratios > 0)}
    )
    bounds = together.groupby("variant")[["least", "most"]].any()
    return {
        variant: Ratio(summary, bool(bounds["least"][variant]), bool(bounds["most"][variant]))
        for variant, summary in by_variant(together, "ratio").items()
        if not (bounds["least"][variant] and bounds["most"][variant])
    }


def pick_baseline(curves: pd.DataFrame, wanted: str | None, reference: str | None) -> str | None:
    """The trained, finished variant that ratios refer to; None where fewer than two could be compared.

    It is `wanted`, else the variant named like the method `reference`, else another variant of that method, else the
    variant with the lowest final reward.
    """
    finals = final_summaries(curves, "reward", "train")
    untrained = untrained_variants(curves)
    trained = {v: s for v, s in finals.items() if v not in untrained}
    methods = curves.drop_duplicates("variant").set_index("variant")["method"]
    for name in (wanted, reference, *(v for v in trained if methods[v] == reference)):
        if name in trained:
            return name
    finite = {v: s for v, s in trained.items() if not math.isnan(s.median)}
    return min(finite, key=lambda v: finite[v].median) if len(finite) > 1 else None


def start_value(curves: pd.DataFrame) -> float:
    """The reward before any training: the median over trials of their point at step 0; NaN where none has one."""
    rows = select(curves, "reward", "train").groupby("trial").head(1)
    steps = rows["steps"] if rows["steps"].notna().any() else rows["point"]
    return float(rows.loc[steps == 0, "value"].median())


@dataclass(frozen=True)
class Paired:
    """A variant minus another on the same prompts and the same noise, after training."""

    variant: str
    over_seeds: Summary  # of each seed's mean difference
    better: float  # share of pairs in which the variant is higher
    pairs: int
    interval: tuple[float, float] | None  # of the mean, over seeds and prompts as crossed factors, from five seeds on
    above: int  # seeds whose 95 % Student-t interval over prompts lies above zero
    below: int  # and those whose interval lies below it

    @property
    def clear_seeds(self) -> int:
        """How many seeds have an interval over prompts that excludes zero."""
        return self.above + self.below


def paired_with(rows: pd.DataFrame, reference: pd.DataFrame, on: Sequence[str] | None = None) -> dict[str, Paired]:
    """Variant -> its paired differences from the reference at the last point, over shared prompts and noise.

    Seeds are paired with the same seed of the reference, or with its only seed where it has one (an untrained model
    needs no more). The samples of a prompt are averaged before the interval over prompts is taken.

    Args:
        rows: rows of `last_values`, of one metric on one split.
        reference: the same of the variant that is subtracted.
        on: the columns that pair the two; by default seed, prompt and sample.
    """
    if on is None:
        on = ["prompt", "sample"] if reference["seed"].nunique() == 1 else ["seed", "prompt", "sample"]
    kept = list(dict.fromkeys([*on, "variant", "seed", "prompt", "sample", "value"]))
    pairs = rows[kept].merge(reference[[*on, "value"]], on=list(on), suffixes=("", "_other"))
    if pairs.empty:
        return {}
    pairs["difference"] = pairs["value"] - pairs["value_other"]
    pairs["better"] = pairs["difference"] > 0
    pairs["missing"] = pairs["difference"].isna()
    by_seed = pairs.groupby(["variant", "seed"], observed=True, as_index=False).agg(
        mean=("difference", "mean"), missing=("missing", "any")
    )
    by_seed["mean"] = by_seed["mean"].mask(by_seed["missing"])
    by_prompt = pairs.groupby(["variant", "seed", "prompt"], observed=True, as_index=False).agg(
        difference=("difference", "mean"), missing=("missing", "any")
    )
    by_prompt["difference"] = by_prompt["difference"].mask(by_prompt["missing"])
    counted = pairs.groupby("variant", observed=True)
    better, counts = counted["better"].mean().mask(counted["missing"].any()), counted.size()
    values, variants = by_prompt["difference"].to_numpy(), by_prompt["variant"].astype(str).to_numpy()
    above, below = Counter[str](), Counter[str]()
    for start, end in zip(*runs_of(by_prompt.groupby(["variant", "seed"], observed=True).ngroup().to_numpy()),
                          strict=True):  # fmt: skip
        interval = t_interval(values[start:end])
        if interval is not None:
            above[variants[start]] += interval[0] > 0
            below[variants[start]] += interval[1] < 0
    found = {}
    for variant, summary in by_variant(by_seed, "mean").items():
        many = summary.count >= SEEDS_FOR_AN_INTERVAL
        interval = _interval(by_prompt[variants == variant]) if many else None
        found[variant] = Paired(
            variant, summary, float(better[variant]), int(counts[variant]), interval, above[variant], below[variant]
        )  # fmt: skip
    return found


def _interval(differences: pd.DataFrame) -> tuple[float, float] | None:
    """The crossed bootstrap's interval, from a fixed random seed; None where a seed lacks a prompt."""
    values = differences.pivot(index="seed", columns="prompt", values="difference").to_numpy(dtype=float)
    return crossed_interval(values) if np.isfinite(values).all() else None


def last_values(evaluation: pd.DataFrame) -> pd.DataFrame:
    """The rows of each trial's last point, by metric and split."""
    last = evaluation.groupby(["trial", "metric", "split"], observed=True)["point"].transform("max")
    return evaluation[evaluation["point"] == last]


def spent(curves: pd.DataFrame) -> pd.DataFrame:
    """The last row of every trial, whose axes are its total cost."""
    return curves.sort_values("point", kind="stable").groupby("trial").tail(1).reset_index(drop=True)


def by_variant(values: pd.DataFrame, column: str, bounds: str | None = None) -> dict[str, Summary]:
    """Variant -> summary of a column over seeds, variants in the order of the rows.

    Args:
        bounds: the Boolean column that marks upper bounds.
    """
    numbers, places = values[column].to_numpy(dtype=float), values.groupby("variant").indices
    at_most = np.zeros(len(values), bool) if bounds is None else values[bounds].to_numpy(bool)
    found = {str(v): summarise(numbers[places[v]], at_most[places[v]]) for v in values["variant"].unique()}
    return {variant: summary for variant, summary in found.items() if summary is not None}
