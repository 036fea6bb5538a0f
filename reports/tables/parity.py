"""Implementation parity: another implementation of a method beside ours, seed by seed."""

from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from reports.formatting import NOTHING, number, plural, scale_for, with_range
from reports.frame import finished, untrained_variants
from reports.machines import speed_classes
from reports.meta import Meta, MethodFacts
from reports.names import DONE, MACHINES_OWN, PARITY_AXES, PEAK_MEMORY, SPLIT_WORDS, axis_words
from reports.statistics import comparison
from reports.statistics.curve import summarise
from reports.tables.table import Cell, Table, cost_cell, ranged, value_cell

MEASURES = (("reward", "train"), ("reward", "heldout"), ("gold", "train"), ("diversity", "train"), ("drift", "train"))


def pairs(curves: pd.DataFrame, methods: Mapping[str, MethodFacts]) -> list[tuple[str, str]]:
    """(ours, the peer's) for every trained variant of a peer's method whose counterpart ran too.

    Of several variants of ours, the one whose name differs from the peer's as the methods' names do.
    """
    if curves.empty:
        return []
    known = curves.drop_duplicates("variant").set_index("variant")["method"].astype(str)
    untrained = untrained_variants(curves)
    found = []
    for variant, method in known.items():
        peer_of = methods[method].peer_of if method in methods else None
        if peer_of is None or variant in untrained:
            continue
        ours = [v for v in known.index if known[v] == peer_of and v not in untrained]
        same = [v for v in ours if v == str(variant).removeprefix(method.removesuffix(peer_of))]
        if ours:
            found.append((str((same or ours)[0]), str(variant)))
    return found


def tables(curves: pd.DataFrame, trials: pd.DataFrame, meta: Meta) -> list[Table]:
    """A table for each pair: final rewards with their difference, costs of a step with their ratio."""
    return [_table(ours, peer, curves, trials, meta) for ours, peer in pairs(curves, meta.methods)]


def _table(ours: str, peer: str, curves: pd.DataFrame, trials: pd.DataFrame, meta: Meta) -> Table:
    rows = []
    for metric, split in MEASURES:
        values = _by_seed(comparison.final_values(curves, metric, split), "value", ours, peer)
        if values is not None:
            name = f"{meta.metric_words(metric)}, {SPLIT_WORDS[split]}"
            rows.append(_row(name, ours, peer, values, value_cell, lambda a, b: b - a, signed=True))
    ends = comparison.spent(finished(curves))
    classes = speed_classes(trials)
    machines = {classes.get(str(t)) for t in ends.loc[ends["variant"].isin((ours, peer)), "trial"]}
    for axis in PARITY_AXES:
        if ends[axis].isna().all() or (axis in MACHINES_OWN and len(machines) > 1):
            continue
        per = 1.0 if axis == PEAK_MEMORY else ends["steps"].where(ends["steps"] > 0)
        values = _by_seed(ends.assign(cost=ends[axis] / per), "cost", ours, peer)
        if values is None:
            continue
        scale = scale_for(axis, values.to_numpy().ravel())
        words = axis_words(axis) if axis == PEAK_MEMORY else f"{axis_words(axis)} a step"
        rows.append(_row(scale.label(words), ours, peer, values, lambda s, c=scale: cost_cell(s, c),
                         lambda a, b: b / a, suffix="×"))  # fmt: skip
    seeds = trials.loc[trials["variant"].isin((ours, peer)) & (trials["status"] == DONE)].groupby("variant")["seed"]
    common = set.intersection(*map(set, seeds.agg(list))) if seeds.ngroups == 2 else set()
    note = (
        f"{peer} is another implementation of the same method. The last column is {peer} minus {ours} for rewards and "
        f"{peer} divided by {ours} for costs, seed by seed over {plural(len(common), 'seed')} that both finished: "
        "median (range). Rewards are means over seeds (range)."
    )
    if len(machines) > 1:
        note += " They ran on different machines, so their seconds and memory are not compared."
    elif not meta.seconds_comparable:
        note += " Trials shared the machine, so the ratio of seconds is rough."
    return Table.of(f"Implementation parity: {peer} beside {ours}", rows, note, text=("measure",))


def _row(
    name: str,
    ours: str,
    peer: str,
    values: pd.DataFrame,
    cell: Callable,
    difference: Callable,
    signed: bool = False,
    suffix: str = "",
) -> dict[str, str | Cell]:
    both = values.dropna()
    summary = summarise(np.asarray(difference(both[ours], both[peer]), dtype=float)) if len(both) else None
    difference_cell: str | Cell = NOTHING
    if summary is not None:
        found = (summary.median, summary.low, summary.high)
        numbers = ranged(*found, name="ratio" if suffix else "difference")  # the column holds ratios and differences
        difference_cell = Cell(with_range(*(number(v, signed=signed) + suffix for v in found)), numbers)
    shown = {v: cell(summarise(values[v].dropna().to_numpy())) for v in (ours, peer)}
    return {"measure": name, **shown, "peer against ours": difference_cell}


def _by_seed(rows: pd.DataFrame, column: str, ours: str, peer: str) -> pd.DataFrame | None:
    """The values of the two variants, a row a seed; None where there is no value."""
    kept = rows[rows["variant"].isin((ours, peer))]
    wide = kept.pivot_table(index="seed", columns="variant", values=column, aggfunc="first", dropna=False)
    return wide.reindex(columns=[ours, peer]) if len(wide) and wide.notna().to_numpy().any() else None
