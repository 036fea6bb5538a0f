"""Reading of a trial's record and curve, with recovery from damage.

When a trial ends, `settled.json` keeps a second copy of its record and its curve. Whatever either file has lost is
taken from there. A trial whose curve cannot be recovered in full is not done: it reads as interrupted, and runs again.
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
from bench.store.records import Contents, SettledCopy, TrialRecord, read_record, wrong_fields
from bench.store.status import Status


class TrialFiles(Protocol):
    """The paths in a trial's folder that are read here (see `bench.store.trial_folder.TrialFolder`)."""

    path: Path
    curve_path: Path
    evaluation_path: Path
    adapter: Path
    checkpoints: Path

    @property
    def key(self) -> str: ...


RECORD, CURVE, EVALUATION, ADAPTER, SETTLED = (
    "trial.json",
    "curve.jsonl",
    "evaluation.parquet",
    "adapter",
    "settled.json",
)
AGAIN = "`bench run` trains the trial again"
FROM_THE_START = "`bench run` starts the trial over, as its checkpoints cannot be used without it"
FROM_COPY = f"recovered from {SETTLED}"


@dataclass(frozen=True)
class Reading:
    """A trial's record and curve, read from its files.

    Attributes:
        record: the record; its status is "interrupted" if the curve of a settled trial is incomplete.
        curve: the valid and the recovered points.
        damage: damage to the files of the record and the curve.
    """

    record: TrialRecord
    curve: Curve
    damage: list[Damage]


def reading_of(folder: TrialFiles, content: Any, lines: list[Line]) -> Reading:
    """Validates a trial's record and curve, and mends them in memory from `settled.json` where necessary.

    Args:
        folder: the trial's folder.
        content: the JSON value of `trial.json`; None if it is missing or no JSON.
        lines: the lines of `curve.jsonl`, read after `trial.json`: a status is written after the points it covers.
    """
    damage: list[Damage] = []
    try:
        record = TrialRecord.model_validate(content)
    except ValidationError as error:
        record, damage = _mended_record(folder, content, wrong_fields(error), lines)
    curve = curve_of(lines, record.axis)
    if record.status.settled:
        curve, curve_damage = _mended_curve(folder, record, curve)
    else:
        curve_damage = [_damage(fault, fault.remedy or "the valid points are shown") for fault in curve.faults]
    lost = next((item for item in curve_damage if item.lost), None)
    if lost:
        record = record.model_copy()
        record.status, record.cause = Status.INTERRUPTED, f"{lost.file} {lost.what}; run the sweep again"
    return Reading(record, curve, damage + curve_damage)


def settled_copy(folder: TrialFiles, record: TrialRecord) -> SettledCopy:
    """The content of `settled.json` for a settled trial: its curve, and its record with the expected contents."""
    points = curve_of(read_lines(folder.curve_path), record.axis).ordered
    adapter = sorted(path.name for path in folder.adapter.iterdir()) if folder.adapter.is_dir() else []
    complete = record.model_copy()
    complete.whole = Contents(points=len(points), rows=_rows(folder.evaluation_path), adapter=adapter)
    return SettledCopy(record=complete, curve=points)


def evaluation_damage(record: TrialRecord, rows: int | None, why: str = "") -> Damage | None:
    """The damage of a trial's evaluation; None if the file is intact.

    Args:
        record: the record, as `TrialFolder.read` returns it.
        rows: the number of rows in the evaluation; None if there is no file or it cannot be read.
        why: why the file cannot be read; "" if it can.
    """
    settled = record.status.settled
    expected = record.whole.rows if settled and record.whole else None
    if not why and expected is not None and rows != expected:
        why = "is missing" if rows is None else f"has {rows:,} of {expected:,} rows"
    if not why:
        return None
    return Damage(EVALUATION, why, AGAIN if settled else FROM_THE_START, lost=settled)


def adapter_damage(folder: TrialFiles, record: TrialRecord) -> list[Damage]:
    """The damage of a trained adapter. A missing folder is none: users may remove it, as it is large."""
    from safetensors import SafetensorError, safe_open

    if record.status != Status.DONE or not folder.adapter.exists():
        return []
    if folder.adapter.is_file():
        return [Damage(ADAPTER, "is no folder", AGAIN, lost=True)]
    result = []
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
            result.append(Damage(f"{ADAPTER}/{name}", why, AGAIN, lost=True))
    return result


def _mended_record(
    folder: TrialFiles, content: Any, wrong: list[str], lines: list[Line]
) -> tuple[TrialRecord, list[Damage]]:
    """The record that replaces an invalid `trial.json`, and the damage of that file.

    Args:
        content: the JSON value of the file; None if it is missing or no JSON.
        wrong: names of the fields that are missing or invalid.
        lines: the lines of the curve.
    """
    why = unreadable(folder.path / RECORD)
    fields = content if isinstance(content, dict) else {}
    valid_fields = TrialRecord.model_validate(
        {"status": Status.PLANNED, **{name: value for name, value in fields.items() if name not in wrong}}
    )
    curve = curve_of(lines, valid_fields.axis)
    copy = _stored_copy(folder)
    if why == "is missing" and not curve.points and copy is None:
        return TrialRecord(trial=folder.key, status=Status.PLANNED, cause=None), []
    if isinstance(content, dict):
        why = f"has an invalid {' and '.join(map(repr, wrong))}" if "status" in content else "has no status"
    what = why or ("is damaged" if content is None else "is no record of a trial")
    if copy is not None:
        return copy.record, [Damage(RECORD, what, FROM_COPY)]
    if isinstance(content, dict) and "status" not in wrong:
        return valid_fields, [Damage(RECORD, what, "the rest of it is used")]
    if _was_done(folder, curve):
        done = "the other files show that the trial was done; its settings and where it ran are lost"
        return TrialRecord(trial=folder.key, status=Status.DONE, cause=None), [Damage(RECORD, what, done)]
    if why == "is missing":
        go_on = "`bench run` continues from the remaining files"
        return TrialRecord(trial=folder.key, status=Status.PLANNED, cause=None), [Damage(RECORD, what, go_on)]
    cause = f"{RECORD} {what}; run the sweep again to continue"
    damage = Damage(RECORD, what, "`bench run` continues from the last checkpoint, or trains the trial again")
    return TrialRecord(trial=folder.key, status=Status.INTERRUPTED, cause=cause), [damage]


def _was_done(folder: TrialFiles, curve: Curve) -> bool:
    """Whether a trial without a record was done.

    A trial writes its adapter last and then drops its checkpoints, so a done trial has an adapter and no checkpoints.
    """
    if not curve.points or curve.faults or curve.torn or folder.checkpoints.exists():
        return False
    trained = curve.ordered[-1].axes.get("updates", 1) > 0
    return curve.unbroken == set(range(len(curve.points))) and (not trained or folder.adapter.is_dir())


def _mended_curve(folder: TrialFiles, record: TrialRecord, curve: Curve) -> tuple[Curve, list[Damage]]:
    """A settled trial's curve, completed from `settled.json` where necessary, and the damage of `curve.jsonl`."""
    expected = record.whole.points if record.whole else None
    if expected is None and record.status != Status.PRUNED:  # records of older versions lack `whole`
        expected = _evaluated(folder.evaluation_path)
    missing = set(range(max([*curve.points, (expected or 0) - 1], default=-1) + 1)) - set(curve.points)
    harmless = [_damage(fault, fault.remedy) for fault in curve.faults if fault.remedy]
    faults = [fault for fault in curve.faults if not fault.remedy]
    if folder.curve_path.is_dir():
        faults.append(Fault(None, "is a folder"))
    if curve.torn and (missing or (expected is None and record.status == Status.DONE)):
        faults.append(curve.torn)
    if not faults and not missing:
        return curve, harmless
    copy = _stored_copy(folder)
    copied = {point.point: point for point in copy.curve} if copy else {}
    faults = faults or [Fault(None, unreadable(folder.curve_path) or f"lacks {_points(missing)}")]
    if missing <= set(copied) and copy is not None:
        points = {**copied, **curve.points}
        return Curve(points), harmless + [_damage(fault, FROM_COPY) for fault in faults]
    return curve, harmless + [_damage(fault, AGAIN, lost=True) for fault in faults]


def _stored_copy(folder: TrialFiles) -> SettledCopy | None:
    """The content of `settled.json`; None if it is missing or damaged."""
    try:
        return SettledCopy.model_validate(read_record(folder.path / SETTLED))
    except ValidationError:
        return None


def _damage(fault: Fault, done: str, lost: bool = False) -> Damage:
    """A fault of the curve as damage of its file."""
    return Damage(CURVE if fault.line is None else f"{CURVE}:{fault.line}", fault.what, done, lost)


def _points(numbers: set[int]) -> str:
    first = ", ".join(map(str, sorted(numbers)[:4]))
    more = f" and {len(numbers) - 4} more" if len(numbers) > 4 else ""
    return f"point{'s' if len(numbers) > 1 else ''} {first}{more}"


def _rows(path: Path) -> int | None:
    """The number of rows of an evaluation; None if the file is missing or damaged."""
    try:
        table = read_table(path, ("point",))
    except DamagedFileError:
        return None
    return None if table is None else len(table)


def _evaluated(path: Path) -> int | None:
    """The number of points of an evaluation; None if it has none or is damaged."""
    try:
        points = points_of(path)
    except DamagedFileError:
        return None
    return max(points) + 1 if points else None
