"""Ablations: the variants of one method side by side, with the settings in which they differ."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reports.formatting import NOTHING, measured, number, scale_for
from reports.frame import finished, untrained_variants
from reports.machines import speed_classes
from reports.meta import Meta
from reports.names import ABLATION_AXES, MACHINES_OWN, axis_words
from reports.statistics import comparison
from reports.tables.table import (
    VALUE,
    Cell,
    Table,
    axis_header,
    cost_cell,
    metric_header,
    ranked_variants,
    seed_counts,
    spread_note,
    target_cell,
    value_cell,
)

MEASURES = (("reward", "train"), ("reward", "heldout"), ("gold", "train"), ("diversity", "train"))


def tables(curves: pd.DataFrame, trials: pd.DataFrame, meta: Meta) -> list[Table]:
    """A table for each method that has several trained variants, in the order of the ranking."""
    if curves.empty:
        return []
    untrained = untrained_variants(curves)
    order = [variant for variant, _ in ranked_variants(curves, trials, meta) if variant not in untrained]
    methods = trials.drop_duplicates("variant").set_index("variant")["method"].astype(str)
    grouped: dict[str, list[str]] = {}
    for variant in order:
        grouped.setdefault(methods[variant], []).append(variant)
    return [_table(method, group, curves, trials, meta) for method, group in grouped.items() if len(group) > 1]


def differing(settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The names of the settings that differ between variants, in their order; a setting that one lacks differs."""
    names = list(dict.fromkeys(name for values in settings.values() for name in values))
    return [name for name in names if len({repr(values.get(name)) for values in settings.values()}) > 1]


def settings_of(trials: pd.DataFrame) -> dict[str, Mapping[str, Any]]:
    """Variant -> its settings by dotted name, from the column `settings`, which may be absent."""
    if "settings" not in trials:
        return {}
    pairs = zip(trials["variant"].astype(str), trials["settings"], strict=True)
    return {variant: values for variant, values in pairs if isinstance(values, Mapping)}


def _table(method: str, variants: Sequence[str], curves: pd.DataFrame, trials: pd.DataFrame, meta: Meta) -> Table:
    known = settings_of(trials)
    settings = {variant: known.get(variant, {}) for variant in variants}
    names = differing(settings)
    found = {pair: comparison.final_summaries(curves, *pair) for pair in MEASURES}
    axes = [axis for axis in dict.fromkeys((meta.budget_column, *ABLATION_AXES)) if curves[axis].notna().any()]
    if speed_classes(trials):  # seconds and memory of two machines do not share a column
        axes = [axis for axis in axes if axis not in MACHINES_OWN or axis == meta.budget_column]
    ends = comparison.spent(finished(curves))
    scales = {axis: scale_for(axis, ends[axis]) for axis in axes}
    budget, costs = meta.budget_column, None
    if meta.target is not None:
        costs = comparison.cost_summaries(comparison.costs_to_target(curves, meta.target, [budget]), budget)
    rows = []
    for variant in variants:
        row: dict[str, str | Cell] = {
            "method": variant,
            **{_header(name): _shown(settings[variant].get(name)) for name in names},
        }
        for (metric, split), summaries in found.items():
            if summaries:
                row[metric_header(metric, split, meta)] = value_cell(summaries.get(variant))
        if costs is not None:
            header = scales[budget].label(f"{axis_words(budget)}\nto {measured(meta.target)}")
            row[header] = target_cell(costs.get(variant), scales[budget])
        for axis in axes:
            own = comparison.summarise(ends.loc[ends["variant"] == variant, axis].to_numpy())
            row[axis_header(axis, scales[axis])] = cost_cell(own, scales[axis])
        rows.append(row)
    counts = seed_counts(trials)
    same = "Settings that are the same in all are left out. " if names else ""
    note = f"The variants of {method}, after training. {same}Costs are of the whole trial, median over seeds (range). "
    return Table.of(f"Ablation of {method}", rows, note + spread_note([counts[v][0] for v in variants]))


def _header(name: str) -> str:
    return name.removeprefix("settings.").replace(".", "\n", 1).replace("_", " ")


def _shown(value: Any) -> str | Cell:
    if value is None:
        return NOTHING
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int | float):
        return Cell(number(value), {VALUE: float(value)})
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
