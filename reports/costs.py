"""Tables of what was spent: the cost of reaching each target, and every trial with its status, cause and cost."""

from dataclasses import dataclass

import pandas as pd

from reports import comparison
from reports.formatting import NOTHING, Scale, measured, number, scale_for, with_range
from reports.frame import BROKEN, GOING, SECONDS, axis_words, untrained_variants
from reports.meta import Meta
from reports.statistics import Summary, summarise
from reports.tables import Table, cost_cell, ranked_variants, seed_counts

EFFICIENCY_AXES = ("steps", "reward_queries", "nfe", "flops", "train_seconds", "peak_memory_bytes")
TRIAL_AXES = ("steps", "reward_queries", "nfe", "flops", "train_seconds", "eval_seconds", "peak_memory_bytes")


@dataclass(frozen=True)
class Target:
    """A reward whose cost is compared, and how it is called in a sentence."""

    words: str
    value: float
    of: str | None = None  # the variant whose final reward it is


def targets(curves: pd.DataFrame, meta: Meta) -> list[Target]:
    """The sweep's own target if it has one, then the baseline's final median reward if it rose above its start."""
    found = [] if meta.target is None else [Target("the target", meta.target)]
    baseline = comparison.pick_baseline(curves, meta.baseline)
    finals = comparison.final_summaries(curves, "reward", "train")
    if baseline in finals and len(finals) > 1:
        value, start = finals[baseline].median, comparison.start_value(curves)
        if value == value and not value <= start:  # neither NaN nor a run that ended where it began
            found.append(Target(f"{baseline}’s final reward", value, of=baseline))
    return found


def efficiency(curves: pd.DataFrame, trials: pd.DataFrame, meta: Meta, target: Target) -> Table | None:
    """Steps, queries, NFE, FLOPs, seconds and peak memory to the target, and how many times less than the baseline.

    None where no trained trial is done.
    """
    axes = [axis for axis in EFFICIENCY_AXES if curves[axis].notna().any()]
    costs = comparison.costs_to_target(curves, target.value, axes)
    if costs.empty:
        return None
    baseline = comparison.pick_baseline(curves, meta.baseline)
    ends = comparison.spent(curves)
    found = {axis: _by_variant(costs, axis) for axis in axes}
    summed = [axis for axis in axes if axis != "peak_memory_bytes"]  # a peak is not spent, so it has no "times less"
    ratios = {axis: comparison.ratios_to_baseline(costs, ends, baseline, axis) for axis in summed} if baseline else {}
    seen = costs[costs["reached"]] if costs["reached"].any() else ends
    scales = {axis: scale_for(axis, seen[axis]) for axis in axes}
    headers = {axis: scales[axis].label(axis_words(axis).replace(" ", "\n", 1)) for axis in axes}
    counts = seed_counts(trials)
    still = untrained_variants(curves)
    order = [variant for variant, _ in ranked_variants(curves, trials, meta) if variant not in still]
    rows, best = [], set()
    for variant in order:
        reached = int(costs.loc[costs["variant"] == variant, "reached"].sum())
        row = {"method": variant, "seeds that\nreached it": f"{reached} of {counts[variant][1]}"}
        for axis in axes:
            row[headers[axis]] = _cell(found[axis].get(variant), ratios.get(axis, {}).get(variant), scales[axis])
        rows.append(row)
    for axis in axes:
        if axis in SECONDS and not meta.seconds_comparable:
            continue
        medians = {v: s.median for v, s in found[axis].items() if s.median < float("inf")}
        best |= {
            (order.index(v), headers[axis]) for v, m in medians.items() if m == min(medians.values()) and len(order) > 1
        }
    title = f"Cost to {target.words}, {measured(target.value)}"
    return Table(title, pd.DataFrame(rows), _efficiency_note(meta, baseline), best=frozenset(best))


def _cell(cost: Summary | None, ratio: comparison.Ratio | None, scale: Scale) -> str:
    text = cost_cell(cost, scale)
    if cost is None or ratio is None or ratio.summary.missing or cost.median == float("inf"):
        return text
    summary, bound = ratio.summary, "≥ " if ratio.at_least else ""
    ratios = with_range(f"{bound}{number(summary.median)}×", number(summary.low), number(summary.high))
    return f"{text}\n{ratios}"


def _efficiency_note(meta: Meta, baseline: str | None) -> str:
    note = (
        "Median over seeds (range) of what had been spent where the reward on training prompts first reached it, by "
        "linear interpolation between evaluated points; a seed that never did counts as infinite (∞). Evaluation is "
        "not included. The lowest cost of a column is bold."
    )
    if baseline:
        note += (
            f" The second line is how many times less than {baseline}, seed by seed, with the range; ≥ where a seed of "
            f"{baseline} never reached it and all that it spent stands in."
        )
    return note if meta.seconds_comparable else f"{note} {SECONDS_NOTE}"


SECONDS_NOTE = "Seconds are not ranked: trials shared the machine, so they measure each other too."


def trials_table(curves: pd.DataFrame, trials: pd.DataFrame, meta: Meta) -> Table:
    """Every trial: the broken ones first, then those still going, then the finished; status, cause and cost."""
    ends = comparison.spent(curves).set_index("trial") if not curves.empty else pd.DataFrame()
    spent = {axis: _spent(trials, ends, axis) for axis in TRIAL_AXES}
    spent = {axis: values for axis, values in spent.items() if values.notna().any()}
    scales = {axis: scale_for(axis, values.dropna()) for axis, values in spent.items()}
    last = _last_rewards(curves)
    order = trials.assign(_place=trials["status"].map(_place)).sort_values(["_place", "variant", "seed"], kind="stable")
    rows = []
    for index, trial in zip(order.index, order.to_dict("records"), strict=True):
        row = {
            "method": str(trial["variant"]),
            "seed": str(trial["seed"]),
            "status": str(trial["status"]),
            "cause": _text(trial["cause"]),
            "last\nreward": measured(last.get(trial["trial"])),
        }
        for axis, values in spent.items():
            value = values[index]
            header = scales[axis].label(axis_words(axis).replace(" ", "\n", 1))
            row[header] = NOTHING if pd.isna(value) else number(value / scales[axis].divisor)
        row["trial"] = str(trial["trial"])
        rows.append(row)
    cells = pd.DataFrame(rows)
    if not (cells["cause"] != "").any():
        cells = cells.drop(columns="cause")
    note = "" if meta.seconds_comparable else SECONDS_NOTE
    return Table("Trials", cells, note, ("method", "status", "cause", "trial"))


def _place(status: str) -> int:
    return 0 if status in BROKEN else 1 if status in GOING else 2


def _spent(trials: pd.DataFrame, ends: pd.DataFrame, axis: str) -> pd.Series:
    """From the trial's own record where it has one, else from its last point."""
    own = trials["axes"].map(lambda axes: axes.get(axis) if isinstance(axes, dict) else None)
    seen = trials["trial"].map(ends[axis]) if axis in ends else pd.Series(float("nan"), index=trials.index)
    return pd.to_numeric(own, errors="coerce").astype(float).fillna(seen)


def _last_rewards(curves: pd.DataFrame) -> dict[str, float]:
    if curves.empty:
        return {}
    rows = curves[(curves["metric"] == "reward") & (curves["split"] == "train")]
    last = rows.sort_values("point", kind="stable").groupby("trial")["value"].agg(lambda v: v.iloc[-1])
    return {str(trial): float(value) for trial, value in last.items()}


def _text(cause: object) -> str:
    return "" if cause is None or (isinstance(cause, float) and cause != cause) else str(cause)


def _by_variant(costs: pd.DataFrame, axis: str) -> dict[str, Summary]:
    found = {str(v): summarise(rows[axis].to_numpy()) for v, rows in costs.groupby("variant")}
    return {variant: summary for variant, summary in found.items() if summary is not None}
