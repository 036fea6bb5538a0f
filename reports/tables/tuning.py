"""The search for the methods' settings, and its cost."""

from collections.abc import Mapping, Sequence
from typing import Any

from reports.formatting import NOTHING, amount, listing, number, plural, scale_for
from reports.meta import Meta
from reports.names import TUNING_AXES, axis_words
from reports.tables.table import Cell, Table, axis_header, number_cell, range_cell

ALGORITHMS = {"random": "random search", "optuna": "Optuna's TPE", "asha": "ASHA"}

EDGE = "at an edge"
"""The column of chosen values that are the smallest or the largest tried, in a table that has one."""


def table(meta: Meta) -> Table | None:
    """A row for each choice: configurations tried, settings chosen, cost. None where no settings were searched for.

    A method has a row for its choice by reward, and a second one where gold chose too.
    """
    if meta.tuning is None:
        return None
    search, methods = meta.tuning["search"], meta.tuning["methods"]
    scales = {axis: scale_for(axis, [method["cost"][axis] for method in methods]) for axis in TUNING_AXES}
    rows = []
    for method in methods:
        every = len(method["configurations"])
        counted = method.get("counted") or every  # records of earlier versions do not say
        own: dict[str, str | Cell] = {
            "method": method["variant"],
            "configurations": number(every) if counted == every else f"{number(counted)} of {number(every)}",
            "not finished": _unfinished(method["statuses"]),
            "chosen": _values(method["chosen"]),
            EDGE: _edges(method),
            "score (all)": _score(method, "score", method["score"]),
        }
        for axis, scale in scales.items():
            own[axis_header(axis, scale)] = number_cell(method["cost"][axis], scale)
        rows.append(own)
        by_gold = method.get("by_gold")
        if by_gold:
            cells: dict[str, str | Cell] = {
                "method": by_gold["variant"],
                "chosen": by_gold["cause"] or _values(by_gold["chosen"]),
                EDGE: _edges(by_gold),
                "score (all)": NOTHING if by_gold["gold"] is None else _score(method, "gold", by_gold["gold"]),
            }
            rows.append({name: cells.get(name, NOTHING) for name in own})
    edges = any(row[EDGE] != NOTHING for row in rows)
    note = _note(search, meta.tuning.get("copies", ()), edges)
    found = Table.of("Tuning", rows, note, text=("method", "not finished", "chosen", EDGE))
    return found if edges else found.without(EDGE)


def _values(chosen: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in chosen.items())


def _edges(choice: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}: {edge}" for name, edge in (choice.get("edges") or {}).items()) or NOTHING


def _score(method: Mapping[str, Any], name: str, chosen: float) -> Cell:
    """The chosen configuration's score in the last stage, with the range of all that finished the stage."""
    finals = [row["final"] for row in method["configurations"] if row.get("final")]
    scores = [row[name] for row in finals or method["configurations"] if row[name] is not None]
    return range_cell(chosen, min(scores), max(scores))


def _unfinished(statuses: Mapping[str, int]) -> str:
    others = [f"{count} {status}" for status, count in statuses.items() if status != "done"]
    return ", ".join(others) or NOTHING


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _note(search: Mapping[str, Any], copies: Sequence[str], edges: bool) -> str:
    split = "held-out" if search["metric"] == "heldout_reward" else "training"
    own = "prompts of their own" if search.get("prompts") else "the comparison's training prompts"
    finals, gold = search.get("finals"), "gold" in search.get("criteria", ())
    algorithm = ALGORITHMS.get(search["algorithm"], search["algorithm"])  # runs of earlier versions know others
    short = "".join(
        f" at {amount(limit, axis, axis_words(axis))}" for axis, limit in (search.get("budget") or {}).items()
    )
    sentences = [
        f"Before the comparison, by {algorithm}: {plural(search['samples'], 'configuration')} of each "
        f"method{short} on {own}, {_seeds(search['seeds'])}, which are not reported."
    ]
    if finals:
        by_each = " by reward and by gold" if gold else ""
        sentences.append(
            f"The best {number(finals['best'])} of each method{by_each} then ran at the comparison's budget, "
            f"{_seeds(finals['seeds'])}, and the choice is among these."
        )
    judged = "in these finals" if finals else "that finished"
    sentences.append(f"Chosen by the last reward on {split} prompts; the range is that of all {judged}.")
    if gold:
        sentences.append("A row named -gold is chosen from the same trials by the last gold, which is its score.")
    if edges:
        sentences.append("At an edge: the chosen value is the smallest or the largest that was tried.")
    sentences += [f"{sentence}." for sentence in copies]
    if search.get("untuned"):
        sentences.append(f"Not tuned: {listing(search['untuned'])}.")
    sentences.append("The cost is that of all of a method's tuning and is in no other table.")
    return " ".join(sentences)


def _seeds(seeds: Sequence[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {listing(map(str, seeds))}"
