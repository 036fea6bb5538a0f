"""Tables of costs: the cost of reaching each target, and every trial with its status, cause and cost."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from reports.formatting import NOTHING, Scale, measured, number, scale_for, with_range
from reports.frame import select, untrained_variants
from reports.machines import class_words, origins, speed_classes
from reports.meta import Meta
from reports.names import EFFICIENCY_AXES, GOING, MACHINES_OWN, PEAK_MEMORY, SECONDS, STOPPED, TRIAL_AXES
from reports.statistics import comparison, gains
from reports.statistics.curve import Summary
from reports.statistics.gains import Gain
from reports.tables.table import (
    VALUE,
    Cell,
    Table,
    axis_header,
    cost_cell,
    number_cell,
    ranged,
    ranked_variants,
    seed_counts,
    target_cell,
)


@dataclass(frozen=True)
class Target:
    """A reward whose cost is compared, and its name in a sentence."""

    words: str
    value: float
    of: str | None = None  # the variant whose final reward it is


def targets(curves: pd.DataFrame, meta: Meta, gained: Mapping[str, Gain] | None = None) -> list[Target]:
    """The sweep's target if it has one, then the baseline's final median reward if its gain is clear.

    Args:
        gained: the result of `gains.gains`; None computes it without values by prompt.
    """
    found = [] if meta.target is None else [Target("the target", meta.target)]
    baseline = gains.baseline(curves, meta, gains.gains(curves) if gained is None else gained).usable
    finals = comparison.final_summaries(curves, "reward", "train")
    if baseline in finals and len(finals) > 1:
        value, start = finals[baseline].median, comparison.start_value(curves)
        if value == value and not value <= start:  # neither NaN nor a run that ended where it began
            found.append(Target(f"{baseline}’s median final reward", value, of=baseline))
    return found


def efficiency(
    curves: pd.DataFrame,
    trials: pd.DataFrame,
    meta: Meta,
    target: Target,
    gained: Mapping[str, Gain] | None = None,
) -> Table | None:
    """The table of each variant's cost to a target, and how many times less that is than the baseline's.

    Seconds and memory of different kinds of machine stand in columns of their own. No cost is divided by that of a
    baseline without a clear gain. None where no trained trial is done.
    """
    axes = [axis for axis in EFFICIENCY_AXES if curves[axis].notna().any()]
    costs = comparison.costs_to_target(curves, target.value, axes)
    if costs.empty:
        return None
    baseline = gains.baseline(curves, meta, gains.gains(curves) if gained is None else gained)
    ends = comparison.spent(curves)
    columns = [
        column
        for axis in axes
        for column in _columns(axis, costs, ends, baseline.usable, speed_classes(trials))
    ]  # fmt: skip
    counts = seed_counts(trials)
    complete = {variant for variant, (done, planned) in counts.items() if done == planned}
    untrained = untrained_variants(curves)
    order = [variant for variant, _ in ranked_variants(curves, trials, meta) if variant not in untrained]
    reaching = costs.groupby("variant")["reached"].sum()
    trained = comparison.trained_rows(curves)
    rows, best = [], set()
    for variant in order:
        reached = int(reaching.get(variant, 0))
        row: dict[str, str | Cell] = {"method": variant, "seeds that\nreached it": f"{reached} of {counts[variant][1]}"}
        for column in columns:
            row[column.header] = _cell(column.found.get(variant), column.ratios.get(variant), column.scale)
        row["denoiser rows\ntrained a query"] = cost_cell(trained.get(variant), Scale(1, ""))
        rows.append(row)
    for column in columns:
        if column.axis in SECONDS and not meta.seconds_comparable:
            continue
        # A median over the seeds that survived is no median over all seeds: they may be the lucky ones.
        whole = {v: s for v, s in column.found.items() if v in complete}
        if len(column.found) > 1:
            best |= {(order.index(v), column.header) for v in _lowest(whole)}
    title = f"Cost to {target.words}, {measured(target.value)}"
    note = _efficiency_note(meta, baseline, gains.untrained_words(curves), class_words(trials))
    return Table.of(title, rows, note, best=frozenset(best))


def _lowest(found: Mapping[str, Summary]) -> list[str]:
    """The variants with the lowest finite median; empty where an upper bound leaves open which they are."""
    medians = {v: s.median for v, s in found.items() if s.median < float("inf")}
    best = [v for v, median in medians.items() if median == min(medians.values())]
    bounds = [v for v in medians if "median" in found[v].at_most]
    return best if not bounds or (bounds == best and len(best) == 1) else []


@dataclass(frozen=True)
class _Column:
    """One axis; of an axis that depends on the machine, one kind of machine."""

    axis: str
    header: str
    scale: Scale
    found: Mapping[str, Summary]
    ratios: Mapping[str, comparison.Ratio]


def _columns(
    axis: str, costs: pd.DataFrame, ends: pd.DataFrame, baseline: str | None, classes: Mapping[str, str]
) -> list[_Column]:
    kinds = sorted(set(classes.values())) if axis in MACHINES_OWN and classes else [None]
    found = []
    for kind in kinds:
        own = costs if kind is None else costs[costs["trial"].map(classes) == kind]
        if own.empty:
            continue
        reached = own[own["reached"]] if own["reached"].any() else ends[ends["trial"].isin(own["trial"])]
        scale = scale_for(axis, reached[axis])
        # A peak is no cost that adds up, so it is not divided.
        ratios = {}
        if baseline is not None and axis != PEAK_MEMORY:
            ratios = comparison.ratios_to_baseline(own, ends, baseline, axis)
        header = axis_header(axis, scale) + ("" if kind is None else f"\non {kind}")
        found.append(_Column(axis, header, scale, comparison.cost_summaries(own, axis), ratios))
    return found


def _cell(cost: Summary | None, ratio: comparison.Ratio | None, scale: Scale) -> str | Cell:
    cell = target_cell(cost, scale)
    if isinstance(cell, str) or cost is None or ratio is None or ratio.summary.missing or cost.median == float("inf"):
        return cell
    summary, sign = ratio.summary, "≥ " if ratio.at_least else "≤ " if ratio.at_most else ""
    ratios = with_range(f"{sign}{number(summary.median)}×", number(summary.low), number(summary.high))
    name = "times less" + (", at least" if ratio.at_least else ", at most" if ratio.at_most else "")
    return cell.beside(ratios, ranged(summary.median, summary.low, summary.high, name))


def _efficiency_note(meta: Meta, baseline: gains.Baseline, untrained: str, machines: Mapping[str, str]) -> str:
    note = (
        "Median over finished seeds (range) of what had been spent where the reward on training prompts first reached "
        "it, by linear interpolation between evaluated points; ≤ where that was before the first evaluation, of which "
        "no more is known; a finished seed that never did counts as infinite (∞). Evaluation and logging are in the "
        "device time alone. The lowest cost of a column is bold, among methods whose seeds are all done, where no ≤ "
        "leaves it open. Denoiser rows trained a query: rows with a gradient, over the whole run, for each image that "
        "the reward scored."
    )
    if baseline.beats:
        note += (
            f" The second line is how many times less than {baseline.variant}, seed by seed, with the range; ≥ where a "
            f"seed of {baseline.variant} never reached it and all that it spent stands in, or where the method reached "
            f"it before its first evaluation; ≤ where {baseline.variant} did; there is none where both did."
        )
    elif baseline.variant:
        note += f" {baseline.variant} did not clearly beat {untrained}, so nothing is divided by its costs."
    note += "".join(f" {letter}: {words}." for letter, words in sorted(machines.items()))
    return note if meta.seconds_comparable else f"{note} {SECONDS_NOTE}"


SECONDS_NOTE = "Seconds are not ranked: trials shared the machine, so they measure each other too."


def trials_table(curves: pd.DataFrame, trials: pd.DataFrame, meta: Meta) -> Table:
    """The table of all trials with status, cause and cost: broken trials first, then unfinished, then finished ones."""
    ends = comparison.spent(curves).set_index("trial") if not curves.empty else pd.DataFrame()
    spent = {axis: _spent(trials, ends, axis) for axis in TRIAL_AXES}
    spent = {axis: values for axis, values in spent.items() if values.notna().any()}
    scales = {axis: scale_for(axis, values.dropna()) for axis, values in spent.items()}
    last = _last_rewards(curves)
    numbers, provenances = origins(trials)
    order = trials.assign(_place=trials["status"].map(_place)).sort_values(["_place", "variant", "seed"], kind="stable")
    rows = []
    for index, trial in zip(order.index, order.to_dict("records"), strict=True):
        reward = last.get(trial["trial"])
        row: dict[str, str | Cell] = {
            "method": str(trial["variant"]),
            "seed": str(trial["seed"]),
            "status": str(trial["status"]),
            "cause": _text(trial["cause"]),
            "last\nreward": NOTHING if reward is None else Cell(measured(reward), {VALUE: reward}),
        }
        for axis, values in spent.items():
            row[axis_header(axis, scales[axis])] = number_cell(values[index], scales[axis])
        if provenances:
            row["ran on"] = numbers.get(str(trial["trial"]), NOTHING)
        row["trial"] = str(trial["trial"])
        row["to run it again"] = command_of(trial, meta)
        rows.append(row)
    note = " ".join(f"{number_of}: {words}." for number_of, words in provenances.items())
    note = f"{_evaluation_share(ends)} Ran on {note}" if note else _evaluation_share(ends)
    if not meta.seconds_comparable:
        note = f"{SECONDS_NOTE} {note}".strip()
    table = Table.of("Trials", rows, note, text=("method", "status", "cause", "trial", "to run it again"))
    return table.without(*(name for name in ("cause", "to run it again") if not (table.cells[name] != "").any()))


def _evaluation_share(ends: pd.DataFrame) -> str:
    """A sentence on evaluation's share of the trials' seconds; empty if their time is not known.

    Args:
        ends: what each trial has spent, by axis.
    """
    if not {"eval_seconds", "wall_seconds"} <= set(ends.columns) or not ends["wall_seconds"].sum() > 0:
        return ""
    share = ends["eval_seconds"].sum() / ends["wall_seconds"].sum()
    return f"Evaluation took {share:.0%} of the trials’ time."


def command_of(trial: Mapping[Any, Any], meta: Meta) -> str:
    """The command that started the trial; the run's command for a trial that has not begun."""
    record = trial["provenance"]
    command = record.get("command") if isinstance(record, Mapping) else None
    if not command:
        return meta.command
    return command if isinstance(command, str) else shlex.join(map(str, command))


def _place(status: str) -> int:
    return 0 if status in STOPPED else 1 if status in GOING else 2


def _spent(trials: pd.DataFrame, ends: pd.DataFrame, axis: str) -> pd.Series:
    """Each trial's total on an axis: from its record where it has one, else from its last point."""
    own = trials["axes"].map(lambda axes: axes.get(axis) if isinstance(axes, dict) else None)
    at_end = trials["trial"].map(ends[axis]) if axis in ends else pd.Series(float("nan"), index=trials.index)
    return pd.to_numeric(own, errors="coerce").astype(float).fillna(at_end)


def _last_rewards(curves: pd.DataFrame) -> dict[str, float]:
    if curves.empty:
        return {}
    last = select(curves, "reward", "train").groupby("trial")["value"].last(skipna=False)
    return {str(trial): float(value) for trial, value in last.items()}


def _text(cause: object) -> str:
    return "" if cause is None or (isinstance(cause, float) and cause != cause) else str(cause)
