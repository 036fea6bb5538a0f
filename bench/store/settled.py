"""What a trial's record and curve are, whatever has become of their files.

When a trial comes to its end, `settled.json` keeps its record and its curve once more. What either file has lost is
taken from there. A trial whose curve cannot be had in full is not done: it reads as interrupted, and runs again.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import ValidationError

from bench.errors import one_line
from bench.store.curve import Curve, Fault, curve_of
from bench.store.damage import Damage, DamagedFileError, unreadable
from bench.store.files import Line, read_lines
from bench.store.frames import points_of, read_table
from bench.store.records import Settled, TrialRecord, Whole, read_record, wrong_fields
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


@dataclass(frozen=True)
class Reading:
    """A trial's record and curve, as far as they can be had from its files.

    Attributes:
        record: `trial.json`; where the curve is not what its status promises, the status is "interrupted".
        curve: the points that are whole or recovered.
        damage: what was the matter with either.
    """

    record: TrialRecord
    curve: Curve
    damage: list[Damage]


def reading_of(folder: Folder, found: Any, lines: list[Line]) -> Reading:
    """Checks a trial's record and curve, and mends them in memory where `settled.json` can mend them.

    Args:
        found: what `trial.json` holds, None where it is not there or no JSON.
        lines: of `curve.jsonl`, read after it: a status is written after the points that it speaks of.
    """
    damage: list[Damage] = []
    try:
        record = TrialRecord.model_validate(found)
    except ValidationError as error:
        record, damage = _mended_record(folder, found, wrong_fields(error), lines)
    curve = curve_of(lines, record.axis)
    if record.status.settled:
        curve, more = _mended_curve(folder, record, curve)
    else:
        more = [_named(fault, fault.rest or "what is whole is shown") for fault in curve.faults]
    lost = next((each for each in more if each.lost), None)
    if lost:
        record = record.model_copy()
        record.status, record.cause = Status.INTERRUPTED, f"{lost.file} {lost.what}; run the sweep again"
    return Reading(record, curve, damage + more)


def keep(folder: Folder, record: TrialRecord) -> Settled:
    """A settled trial's record and curve as they are kept once more; the record gains `whole`, which shows a loss."""
    points = curve_of(read_lines(folder.curve_path), record.axis).ordered
    adapter = sorted(path.name for path in folder.adapter.iterdir()) if folder.adapter.is_dir() else []
    whole = record.model_copy()
    whole.whole = Whole(points=len(points), rows=_rows(folder.evaluation_path), adapter=adapter)
    return Settled(record=whole, curve=points)


def of_evaluation(record: TrialRecord, rows: int | None, why: str = "") -> Damage | None:
    """What a trial's evaluation lacks of what the trial's record says that it has.

    Args:
        record: as `TrialFolder.read` gives it.
        rows: that the evaluation has; None where there is no file or it cannot be read.
        why: what is the matter with the file, where that is known.
    """
    settled = record.status.settled
    expected = record.whole.rows if settled and record.whole else None
    if not why and expected is not None and rows != expected:
        why = "is missing" if rows is None else f"has {rows:,} of {expected:,} rows"
    if not why:
        return None
    return Damage(EVALUATION, why, AGAIN if settled else ANEW, lost=settled)


def of_adapter(folder: Folder, record: TrialRecord) -> list[Damage]:
    """Files of a trained adapter that cannot be loaded. A user may remove the folder: it is large."""
    from safetensors import SafetensorError, safe_open

    if record.status != Status.DONE or not folder.adapter.exists():
        return []
    if folder.adapter.is_file():
        return [Damage(ADAPTER, "is no folder", AGAIN, lost=True)]
    found = []
    names = set(record.whole.adapter) if record.whole else set()
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


def _mended_record(folder: Folder, found: Any, wrong: list[str], lines: list[Line]) -> tuple[TrialRecord, list[Damage]]:
    """What the record can be taken to be, where `trial.json` is none.

    Args:
        found: the JSON of the file, None where it is not there or no JSON.
        wrong: its fields that are missing or none of a record.
        lines: of the curve.
    """
    why = unreadable(folder.path / RECORD)
    fields = found if isinstance(found, dict) else {}
    rest = TrialRecord.model_validate(
        {"status": Status.PLANNED, **{name: value for name, value in fields.items() if name not in wrong}}
    )
    curve = curve_of(lines, rest.axis)
    kept = _kept(folder)
    if why == "is missing" and not curve.points and kept is None:
        return TrialRecord(trial=folder.key, status=Status.PLANNED, cause=None), []
    if isinstance(found, dict):
        why = f"has a {' and a '.join(map(repr, wrong))} that is none" if "status" in found else "has no status"
    what = why or ("is damaged" if found is None else "is no record of a trial")
    if kept is not None:
        return kept.record, [Damage(RECORD, what, FROM_KEPT)]
    if isinstance(found, dict) and "status" not in wrong:
        return rest, [Damage(RECORD, what, "the rest of it is used")]
    if _came_to_its_end(folder, curve):
        done = "the other files show that the trial was done; its settings and where it ran are lost"
        return TrialRecord(trial=folder.key, status=Status.DONE, cause=None), [Damage(RECORD, what, done)]
    if why == "is missing":
        go_on = "`bench run` goes on from what is there"
        return TrialRecord(trial=folder.key, status=Status.PLANNED, cause=None), [Damage(RECORD, what, go_on)]
    cause = f"{RECORD} {what}; run the sweep again to continue"
    damage = Damage(RECORD, what, "`bench run` goes on from the last checkpoint, or trains the trial again")
    return TrialRecord(trial=folder.key, status=Status.INTERRUPTED, cause=cause), [damage]


def _came_to_its_end(folder: Folder, curve: Curve) -> bool:
    """Whether a trial without a record was done: its adapter goes last, and then its checkpoints are dropped."""
    if not curve.points or curve.faults or curve.torn or folder.checkpoints.exists():
        return False
    trained = curve.ordered[-1].axes.get("updates", 1) > 0
    return curve.unbroken == set(range(len(curve.points))) and (not trained or folder.adapter.is_dir())


def _mended_curve(folder: Folder, record: TrialRecord, curve: Curve) -> tuple[Curve, list[Damage]]:
    """A settled trial's whole curve, and what was the matter with it."""
    expected = record.whole.points if record.whole else None
    if expected is None and record.status != Status.PRUNED:  # of older versions
        expected = _evaluated(folder.evaluation_path)
    missing = set(range(max([*curve.points, (expected or 0) - 1], default=-1) + 1)) - set(curve.points)
    harmless = [_named(fault, fault.rest) for fault in curve.faults if fault.rest]
    faults = [fault for fault in curve.faults if not fault.rest]
    if folder.curve_path.is_dir():
        faults.append(Fault(None, "is a folder"))
    if curve.torn and (missing or (expected is None and record.status == Status.DONE)):
        faults.append(curve.torn)
    if not faults and not missing:
        return curve, harmless
    kept = _kept(folder)
    known = {point.point: point for point in kept.curve} if kept else {}
    named = faults or [Fault(None, unreadable(folder.curve_path) or f"lacks {_points(missing)}")]
    if missing <= set(known) and kept is not None:
        points = {**known, **curve.points}
        return Curve(points), harmless + [_named(fault, FROM_KEPT) for fault in named]
    return curve, harmless + [_named(fault, AGAIN, lost=True) for fault in named]


def _kept(folder: Folder) -> Settled | None:
    """`settled.json`, where it is whole."""
    try:
        return Settled.model_validate(read_record(folder.path / KEPT))
    except ValidationError:
        return None


def _named(fault: Fault, done: str, lost: bool = False) -> Damage:
    return Damage(CURVE if fault.line is None else f"{CURVE}:{fault.line}", fault.what, done, lost)


def _points(numbers: set[int]) -> str:
    first = ", ".join(map(str, sorted(numbers)[:4]))
    more = f" and {len(numbers) - 4} more" if len(numbers) > 4 else ""
    return f"point{'s' if len(numbers) > 1 else ''} {first}{more}"


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
