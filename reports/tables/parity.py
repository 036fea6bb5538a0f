"""Implementation parity: a peer's trainer (`trl-alignprop`, `trl-ddpo`) beside ours, seed by seed."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from reports.formatting import NOTHING, number, plural, scale_for, with_range
from reports.frame import DONE, SPLIT_WORDS, axis_words, finished, untrained_variants
from reports.machines import speed_classes
from reports.meta import Meta
from reports.statistics import comparison
from reports.statistics.curve import summarise
from reports.tables.table import Cell, Table, cost_cell, ranged, value_cell

PEERS = ("trl-",)
MEASURES = (("reward", "train"), ("reward", "heldout"), ("gold", "train"), ("diversity", "train"), ("drift", "train"))
PER_STEP = ("reward_queries", "nfe", "flops", "train_seconds")


def pairs(curves: pd.DataFrame) -> list[tuple[str, str]]:
    """(ours, the peer's) for every trained variant of a peer's method whose counterpart ran too."""
    if curves.empty:
        return []
    known = curves.drop_duplicates("variant").set_index("variant")["method"].astype(str)
    still = untrained_variants(curves)
    found = []
    for variant, method in known.items():
        prefix = next((p for p in PEERS if method.startswith(p)), None)
        if prefix is None or variant in still:
            continue
        ours = [v for v in known.index if known[v] == method.removeprefix(prefix) and v not in still]
        same = [v for v in ours if v == str(variant).removeprefix(prefix)]
        if ours:
            found.append((str((same or ours)[0]), str(variant)))
    return found


def tables(curves: pd.DataFrame, trials: pd.DataFrame, meta: Meta) -> list[Table]:
    """A table a pair: final rewards with their difference, and what a step costs with the ratio."""
    return [_table(ours, peer, curves, trials, meta) for ours, peer in pairs(curves)]


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
    for axis in (*PER_STEP, "peak_memory_bytes"):
        ownmachine = axis in ("train_seconds", "peak_memory_bytes")
        if ends[axis].isna().all() or (ownmachine and len(machines) > 1):
            continue
        per = 1.0 if axis == "peak_memory_bytes" else ends["steps"].where(ends["steps"] > 0)
        values = _by_seed(ends.assign(cost=ends[axis] / per), "cost", ours, peer)
        if values is None:
            continue
        scale = scale_for(axis, values.to_numpy().ravel())
        words = axis_words(axis) if axis == "peak_memory_bytes" else f"{axis_words(axis)} a step"
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
    told: str | Cell = NOTHING
    if summary is not None:
        found = (summary.median, summary.low, summary.high)
        numbers = ranged(*found, name="ratio" if suffix else "difference")  # one column has both
        told = Cell(with_range(*(number(v, signed=signed) + suffix for v in found)), numbers)
    shown = {v: cell(summarise(values[v].dropna().to_numpy())) for v in (ours, peer)}
    return {"measure": name, **shown, "peer against ours": told}


def _by_seed(rows: pd.DataFrame, column: str, ours: str, peer: str) -> pd.DataFrame | None:
    """A row a seed, a column each of the two; None where neither has a value."""
    kept = rows[rows["variant"].isin((ours, peer))]
    wide = kept.pivot_table(index="seed", columns="variant", values=column, aggfunc="first", dropna=False)
    return wide.reindex(columns=[ours, peer]) if len(wide) and wide.notna().to_numpy().any() else None
