"""The search for the methods' settings, and its cost."""

from collections.abc import Mapping
from typing import Any

from reports.formatting import NOTHING, listing, number, plural, scale_for
from reports.meta import Meta
from reports.names import TUNING_AXES, axis_words
from reports.tables.table import Cell, Table, number_cell, range_cell

ALGORITHMS = {"random": "random search", "optuna": "Optuna's TPE", "asha": "ASHA"}


def table(meta: Meta) -> Table | None:
    """A row for each method: configurations tried, settings chosen, cost. None where no settings were searched for."""
    if meta.tuning is None:
        return None
    search, methods = meta.tuning["search"], meta.tuning["methods"]
    scales = {axis: scale_for(axis, [method["cost"][axis] for method in methods]) for axis in TUNING_AXES}
    rows = []
    for method in methods:
        scores = [row["score"] for row in method["configurations"] if row["score"] is not None]
        row: dict[str, str | Cell] = {
            "method": method["variant"],
            "configurations": number(len(method["configurations"])),
            "not finished": _unfinished(method["statuses"]),
            "chosen": ", ".join(f"{name} {_shown(value)}" for name, value in method["chosen"].items()),
            "score (all)": range_cell(method["score"], min(scores), max(scores)),
        }
        for axis, scale in scales.items():
            row[scale.label(axis_words(axis)).replace(" ", "\n", 1)] = number_cell(method["cost"][axis], scale)
        rows.append(row)
    return Table.of("Tuning", rows, _note(search), text=("method", "not finished", "chosen"))


def _unfinished(statuses: Mapping[str, int]) -> str:
    others = [f"{count} {status}" for status, count in statuses.items() if status != "done"]
    return ", ".join(others) or NOTHING


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _note(search: Mapping[str, Any]) -> str:
    split = "held-out" if search["metric"] == "heldout_reward" else "training"
    own = "prompts of their own" if search.get("prompts") else "the comparison's training prompts"
    seeds = f"{'seed' if len(search['seeds']) == 1 else 'seeds'} {listing(map(str, search['seeds']))}"
    untuned = f" Not tuned: {listing(search['untuned'])}." if search.get("untuned") else ""
    algorithm = ALGORITHMS.get(search["algorithm"], search["algorithm"])  # runs of earlier versions know others
    return (
        f"Before the comparison, by {algorithm}: {plural(search['samples'], 'configuration')} of each "
        f"method on {own}, {seeds}, which are not reported. Chosen by the last reward on {split} prompts; the "
        f"range is that of all that finished.{untuned} The cost is that of all of a method's tuning and is "
        "in no other table."
    )
