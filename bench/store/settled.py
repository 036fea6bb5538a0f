"""A trial's record and curve as they should be understood, whatever has become of their files.

When a trial comes to its end, `settled.json` keeps its record and its curve once more. What either file has lost is
taken from there. A trial whose curve cannot be had in full is not done: it reads as interrupted, and runs again.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.errors import one_line
from bench.store.curve import Curve, Fault, Point, curve_of, wrong_point
from bench.store.damage import Check, Damage, DamagedFileError, is_finite, of, optional, unreadable, wrong_fields
from bench.store.files import Line, read_json, read_lines
from bench.store.frames import points_of, read_table
from bench.store.status import Status


class Folder(Protocol):
    """What is looked at of a trial's folder (see `bench.store.trial_folder`)."""

    path: Path
    curve_path: Path
    evaluation_path: Path
    adapter: Path
    checkpoints: Path

    @property
    def key(self) -> str: ...


RECORD, CURVE, EVALUATION, ADAPTER, KEPT = (
    "trial.json",
    "curve.jsonl",
    "evaluation.parquet",
    "adapter",
    "settled.json",
)
AGAIN = "`bench run` trains the trial again"
ANEW = "`bench run` begins the trial again, as its checkpoints are of no use without it"
FROM_KEPT = f"recovered from {KEPT}"

FIELDS: dict[str, Check] = {
    "status": lambda value: isinstance(value, str) and value in tuple(Status),
    "cause": optional(of(str)),
    **dict.fromkeys(("updated", "started", "finished", "seconds"), optional(is_finite)),
    **dict.fromkeys(("spec", "origin", "whole"), optional(of(dict))),
    "provenance": lambda value: (
        value is None
        or (
            isinstance(value, dict)
            and all(isinstance(value.get(name) or {}, dict) for name in ("versions", "hardware"))
        )
    ),
    "memory": lambda value: value is None or (isinstance(value, list) and all(isinstance(row, dict) for row in value)),
    "attempts": lambda value: isinstance(value, int),
    "warnings": lambda value: (
        isinstance(value, dict)
        and all(isinstance(told, dict) and isinstance(told.get("text"), str) for told in value.values())
        and all(isinstance(told.get("point"), int) for told in value.values())
    ),
    "mended": lambda value: isinstance(value, list) and all(isinstance(text, str) for text in value),
}
"""What the fields of `trial.json` are that calculations or tables are made with."""


@dataclass(frozen=True)
class Seen:
    """A trial as its files tell it.

    Attributes:
        record: `trial.json`; a status that the curve belies is "interrupted".
        curve: the points that are whole or recovered.
        damage: what was the matter with either.
    """

    record: dict[str, Any]
    curve: Curve
    damage: list[Damage]


def understood(folder: Folder, found: Any, lines: list[Line]) -> Seen:
    """A trial's record and curve, mended in memory where `settled.json` can mend them.

    Args:
        found: what `trial.json` holds, None where it is not there or no JSON.
        lines: of `curve.jsonl`, read after it: a status is written after the points that it speaks of.
    """
    wrong = wrong_fields({"status": None, **found}, FIELDS) if isinstance(found, dict) else []
    if isinstance(found, dict) and not wrong:
        record: dict[str, Any] = found
        damage: list[Damage] = []
    else:
        record, damage = _mended_record(folder, found, wrong, curve_of(lines, _axis(found)))
    record = {**record, "status": Status(record["status"])}
    curve = curve_of(lines, _axis(record))
    if record["status"].settled:
        curve, more = _mended_curve(folder, record, curve)
    else:
        more = [_named(fault, fault.rest or "what is whole is shown") for fault in curve.faults]
    damage += more
    lost = next((each for each in more if each.lost), None)
    if lost:
        record = {**record, "status": Status.INTERRUPTED, "cause": f"{lost.file} {lost.what}; run the sweep again"}
    return Seen(record, curve, damage)


def keep(folder: Folder, record: dict[str, Any]) -> dict[str, Any]:
    """The record with what a whole trial is, as `whole`; written to `settled.json` together with the curve."""
    points = curve_of(read_lines(folder.curve_path), _axis(record)).ordered
    adapter = sorted(path.name for path in folder.adapter.iterdir()) if folder.adapter.is_dir() else []
    whole = {"points": len(points), "rows": _rows(folder.evaluation_path), "adapter": adapter}
    return {**record, "whole": whole, "curve": points}


def of_evaluation(record: dict[str, Any], rows: int | None, why: str = "") -> Damage | None:
    """What a trial's evaluation lacks, by what the trial's record says of it.

    Args:
        record: `trial.json`, as `TrialFolder.read` gives it.
        rows: that it has; None where there is no file or it cannot be read.
        why: what is the matter with it, where that is known.
    """
    settled = Status(record["status"]).settled
    expected = _number(record.get("whole"), "rows") if settled else None
    if not why and expected is not None and rows != expected:
        why = "is missing" if rows is None else f"has {rows:,} of {expected:,} rows"
    if not why:
        return None
    return Damage(EVALUATION, why, AGAIN if settled else ANEW, lost=settled)


def of_adapter(folder: Folder, record: dict[str, Any]) -> list[Damage]:
    """Files of a trained adapter that cannot be loaded. A user may remove the folder: it is large."""
    from safetensors import SafetensorError, safe_open

    if record["status"] != Status.DONE or not folder.adapter.exists():
        return []
    if folder.adapter.is_file():
        return [Damage(ADAPTER, "is no folder", AGAIN, lost=True)]
    found = []
    known = (record.get("whole") or {}).get("adapter")
    names = {str(name) for name in known} if isinstance(known, list) else set()
    for name in sorted(names | {path.name for path in folder.adapter.iterdir() if path.suffix == ".safetensors"}):
        path = folder.adapter / name
        why = unreadable(path)
        if why is None and path.suffix == ".safetensors":
            try:
                with safe_open(path, framework="np"):
                    pass
            except SafetensorError as error:
                why = f"is damaged ({one_line(str(error), 80)})"
        if why:
            found.append(Damage(f"{ADAPTER}/{name}", why, AGAIN, lost=True))
    return found


def _mended_record(folder: Folder, found: Any, wrong: list[str], curve: Curve) -> tuple[dict[str, Any], list[Damage]]:
    why = unreadable(folder.path / RECORD)
    nothing = {"trial": folder.key, "status": Status.PLANNED, "cause": None}
    kept = _kept(folder)
    if why == "is missing" and not curve.points and kept is None:
        return nothing, []
    if isinstance(found, dict):
        why = f"has a {' and a '.join(map(repr, wrong))} that is none" if "status" in found else "has no status"
    what = why or ("is damaged" if found is None else "is no record of a trial")
    if kept is not None:
        return kept["record"], [Damage(RECORD, what, FROM_KEPT)]
    if isinstance(found, dict) and "status" not in wrong:
        return {name: value for name, value in found.items() if name not in wrong}, [
            Damage(RECORD, what, "the rest of it is used")
        ]
    if _came_to_its_end(folder, curve):
        done = "the other files show that the trial was done; its settings and where it ran are lost"
        return {**nothing, "status": Status.DONE}, [Damage(RECORD, what, done)]
    if why == "is missing":
        return nothing, [Damage(RECORD, what, "`bench run` goes on from what is there")]
    cause = f"{RECORD} {what}; run the sweep again to continue"
    damage = Damage(RECORD, what, "`bench run` goes on from the last checkpoint, or trains the trial again")
    return {**nothing, "status": Status.INTERRUPTED, "cause": cause}, [damage]


def _came_to_its_end(folder: Folder, curve: Curve) -> bool:
    """Whether a trial without a record was done: its adapter goes last, and then its checkpoints are dropped."""
    if not curve.points or curve.faults or curve.torn or folder.checkpoints.exists():
        return False
    trained = curve.ordered[-1]["axes"].get("updates", 1) > 0
    return curve.unbroken == set(range(len(curve.points))) and (not trained or folder.adapter.is_dir())


def _mended_curve(folder: Folder, record: dict[str, Any], curve: Curve) -> tuple[Curve, list[Damage]]:
    """A settled trial's whole curve, and what was the matter with it."""
    expected = _number(record.get("whole"), "points")
    if expected is None and record["status"] != Status.PRUNED:  # of older versions
        expected = _evaluated(folder.evaluation_path)
    missing = set(range(max([*curve.points, (expected or 0) - 1], default=-1) + 1)) - set(curve.points)
    harmless = [_named(fault, fault.rest) for fault in curve.faults if fault.rest]
    faults = [fault for fault in curve.faults if not fault.rest]
    if folder.curve_path.is_dir():
        faults.append(Fault(None, "is a folder"))
    if curve.torn and (missing or (expected is None and record["status"] == Status.DONE)):
        faults.append(curve.torn)
    if not faults and not missing:
        return curve, harmless
    kept = _kept(folder)
    known: dict[int, Point] = {point["point"]: point for point in kept["curve"]} if kept else {}
    named = faults or [Fault(None, unreadable(folder.curve_path) or f"lacks {_points(missing)}")]
    if missing <= set(known) and kept is not None:
        points = {**known, **curve.points}
        return Curve(points), harmless + [_named(fault, FROM_KEPT) for fault in named]
    return curve, harmless + [_named(fault, AGAIN, lost=True) for fault in named]


def _kept(folder: Folder) -> dict[str, Any] | None:
    """`settled.json`, where it is whole."""
    found = read_json(folder.path / KEPT)
    if not isinstance(found, dict) or not isinstance(found.get("record"), dict):
        return None
    record, points = found["record"], found.get("curve")
    if wrong_fields({"status": None, **record}, FIELDS) or not isinstance(points, list):
        return None
    return None if any(map(wrong_point, points)) else found


def _named(fault: Fault, done: str, lost: bool = False) -> Damage:
    return Damage(CURVE if fault.line is None else f"{CURVE}:{fault.line}", fault.what, done, lost)


def _points(numbers: set[int]) -> str:
    first = ", ".join(map(str, sorted(numbers)[:4]))
    more = f" and {len(numbers) - 4} more" if len(numbers) > 4 else ""
    return f"point{'s' if len(numbers) > 1 else ''} {first}{more}"


def _axis(record: Any) -> str | None:
    """The budget's, where the record knows it."""
    for name in ("spec", "budget", "axis"):
        record = record.get(name) if isinstance(record, dict) else None
    return record if isinstance(record, str) else None


def _number(found: Any, name: str) -> int | None:
    value = found.get(name) if isinstance(found, dict) else None
    return value if isinstance(value, int) else None


def _rows(path: Path) -> int | None:
    """Rows of an evaluation, None where it has none to count."""

    try:
        table = read_table(path, ("point",))
    except DamagedFileError:
        return None
    return None if table is None else len(table)


def _evaluated(path: Path) -> int | None:
    """How many points an evaluation has rows of; None where it cannot say."""

    try:
        points = points_of(path)
    except DamagedFileError:
        return None
    return max(points) + 1 if points else None
