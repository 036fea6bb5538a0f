"""What a choice among n samples gives, by n: the curve of a method that trains nothing and selects, as a table."""

import pandas as pd

from reports.formatting import number, scale_for
from reports.frame import finished
from reports.meta import Meta
from reports.names import SELECTION
from reports.statistics import comparison
from reports.tables.table import VALUE, Cell, Table, axis_header, cost_cell, metric_header, spread_note, value_cell

MEASURES = (("reward", "train"), ("reward", "heldout"), ("gold", "train"), ("gold", "heldout"), ("diversity", "train"))


def tables(curves: pd.DataFrame, meta: Meta) -> list[Table]:
    """A table for each variant that selects: n, the number of rounds, at 1, 4, 16, … and at the end of the budget."""
    if curves.empty or "family" not in curves:
        return []
    done = finished(curves)
    selecting = done[done["family"] == SELECTION]
    shown = {str(variant): (own, _shown(own)) for variant, own in selecting.groupby("variant")}
    return [_table(variant, own, rounds, meta) for variant, (own, rounds) in shown.items() if rounds]


def _table(variant: str, own: pd.DataFrame, shown: list[int], meta: Meta) -> Table:
    axis = meta.budget_column
    scale = scale_for(axis, own[axis])
    rows: list[dict[str, str | Cell]] = []
    for rounds in shown:
        until = own[own["steps"] <= rounds]
        row: dict[str, str | Cell] = {"n": Cell(number(rounds), {VALUE: float(rounds)})}
        for metric, split in MEASURES:
            if summary := comparison.final_summaries(until, metric, split).get(variant):
                row[metric_header(metric, split, meta)] = value_cell(summary)
        spent = comparison.summarise(comparison.spent(until)[axis].to_numpy())
        rows.append(row | {axis_header(axis, scale): cost_cell(spent, scale)})
    note = "The best of n samples by the reward; n follows from the budget. "
    return Table.of(f"{variant} by n", rows, note + spread_note([own["trial"].nunique()]), text=())


def _shown(own: pd.DataFrame) -> list[int]:
    """The rounds at which every trial has a point: the powers of four, and the last."""
    reached = [set(steps.dropna().astype(int)) for _, steps in own.groupby("trial")["steps"]]
    shared = sorted(set.intersection(*reached) - {0})
    return [rounds for rounds in shared if rounds == shared[-1] or rounds in (4**power for power in range(16))]
