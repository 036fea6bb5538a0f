"""One trial's folder: status, curve, evaluation, samples, adapter, checkpoints. One writer at a time."""

import shutil
import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout
from PIL import Image

from bench.errors import LockedError
from bench.store.checkpoints import DAMAGED, load_checkpoint, save_checkpoint
from bench.store.damage import Damage, DamagedFileError
from bench.store.files import (
    UNFINISHED,
    append_line,
    as_line,
    read_lines,
    remove_unfinished,
    slug,
    write_atomically,
    write_json,
    write_text,
)
from bench.store.frames import points_of, read_table
from bench.store.heartbeat import HEARTBEAT, read_pulse, why_stale, write_pulse
from bench.store.locking import holder, sign
from bench.store.records import Point, Pulse, TrialRecord, TrialWarning, read_record
from bench.store.recovery import (
    ADAPTER,
    CURVE,
    EVALUATION,
    RECORD,
    SETTLED,
    Reading,
    adapter_damage,
    evaluation_damage,
    reading_of,
    settled_copy,
)
from bench.store.status import Status


class TrialFolder:
    """The folder of a trial, `trials/<variant>-s<seed>-<identity8>/`.

    Args:
        path: the folder; it is made at the first write.
        owner: the token of the lock's holder, for a process that writes on its behalf; without a token, writes are not
            checked.
    """

    def __init__(self, path: Path, owner: str | None = None):
        self.path = Path(path)
        self.owner = owner
        self.curve_path = self.path / CURVE
        self.evaluation_path = self.path / EVALUATION
        self.samples = self.path / "samples"
        self.adapter = self.path / ADAPTER
        self.adapters = self.path / "adapters"
        self.checkpoints = self.path / "checkpoint"
        self.error_path = self.path / "error.txt"
        self._record = self.path / RECORD
        self._pulse = self.path / HEARTBEAT
        self._owner = self.path / ".owner"
        self._settled = self.path / SETTLED
        self._beat = threading.Lock()
        self._reading: tuple[tuple[object, ...], Reading] | None = None

    @property
    def key(self) -> str:
        """The name of the trial and of its folder."""
        return self.path.name

    # -- one writer ---------------------------------------------------------------------------------------------

    @contextmanager
    def lock(self, wait: float = 0.0) -> Iterator[None]:
        """Makes this process the trial's only writer; the lock is released when the process ends in any way.

        The lock's holder writes a token of its own. A process that lost the lock without noticing (its file was
        removed, a network file system forgot it, its parent held it and died) finds another token before its next
        write, and stops.

        Raises:
            LockedError: another process still holds the lock after `wait` seconds.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path / ".lock", timeout=wait)
        try:
            lock.acquire()
        except Timeout:
            what = f"another process is writing this trial{holder(self.path / '.lock')}"
            raise LockedError(what, self.key, "wait for it, or stop it; `bench status` shows it") from None
        try:
            sign(self.path / ".lock")
            remove_unfinished(self.path.rglob(UNFINISHED))
            self.owner = uuid.uuid4().hex
            write_text(self._owner, self.owner)
            yield
        finally:
            self.owner = None
            lock.release()

    def check_owner(self) -> None:
        """Checks, before every write, that this process still holds the lock.

        Raises:
            LockedError: another process has taken the trial over, or its folder has been removed.
        """
        if self.owner is None:
            return
        try:
            token = self._owner.read_text(encoding="utf-8")
        except FileNotFoundError:
            token = ""
        if token != self.owner:
            what = "another process has taken this trial over" if token else "its folder has been removed"
            raise LockedError(what, self.key, "this process stops; `bench status` shows the other")

    # -- status -------------------------------------------------------------------------------------------------

    def read(self) -> TrialRecord:
        """The trial's record, with its current status.

        A running trial without heartbeats reads as interrupted, and so does a done trial whose curve is lost (see
        `recovery.py`).

        Raises:
            BenchError: a later version of the package wrote the record.
        """
        record = self._read().record.model_copy()
        if record.status == Status.RUNNING:
            cause = why_stale(self.pulse(), record.updated or 0.0)
            if cause:
                record.status, record.cause = Status.INTERRUPTED, cause
        return record

    def recorded_status(self) -> Status:
        """The status that was last written, though the trial may have been interrupted since."""
        return self._read().record.status

    def write_status(self, status: Status, cause: str | None = None, **fields: Any) -> None:
        """Writes a status to `trial.json`, keeping its other fields.

        With a settled status, a second copy of record and curve is written to `settled.json`.

        Args:
            status: the new status.
            cause: why the trial stopped.
            fields: further fields of `bench.store.records.TrialRecord`.
        """
        self.check_owner()
        self.path.mkdir(parents=True, exist_ok=True)
        fields |= {"status": status, "cause": cause, "updated": time.time()}
        record = self._read().record.changed(trial=self.key, **fields)
        if status != Status.RUNNING:
            self._pulse.unlink(missing_ok=True)  # first: on a full disk, this makes room for the record
        self._write_record(record)
        self._pulse.unlink(missing_ok=True)  # left by an attempt that was killed
        if status == Status.RUNNING:
            self.heartbeat()

    def _write_record(self, record: TrialRecord) -> None:
        if record.status.settled:
            copy = settled_copy(self, record)
            write_json(self._settled, copy.stored())
            record = copy.record
        else:
            record = record.without("whole")
            self._settled.unlink(missing_ok=True)
        write_json(self._record, record.stored())

    def problems(self) -> list[str]:
        """Sentences about present and mended damage to record, curve and checkpoints."""
        reading = self._read()
        return [*reading.record.mended, *map(str, reading.damage)]

    def damage(self) -> list[Damage]:
        """The damage to record, curve, evaluation and adapter; every one of these files is read."""
        reading = self._read()
        table, why = None, ""
        try:
            table = read_table(self.evaluation_path)
        except DamagedFileError as error:
            why = str(error)
        rows = None if table is None else len(table)
        evaluation = evaluation_damage(reading.record, rows, why)
        return [*reading.damage, *([evaluation] if evaluation else []), *adapter_damage(self, reading.record)]

    def mend(self, **fields: Any) -> list[str]:
        """Writes recovered files back, and marks a trial with lost files as interrupted, so that it is trained again.

        Damaged files are set aside as `NAME.damaged`. The caller holds the lock.

        Args:
            fields: fields of `trial.json`, used if the file lacks them.

        Returns:
            Sentences about the damage and what was done; also added to `mended` in `trial.json`.
        """
        damage, reading = self.damage(), self._read()
        texts = list(map(str, damage))
        record = TrialRecord.model_validate({**fields, **reading.record.stored()})
        record.mended = [*record.mended, *texts]
        if any(item.lost for item in damage):
            record.status, record.cause = Status.INTERRUPTED, "; ".join(f"{item.file} {item.what}" for item in damage)
        for name in {item.file.partition(":")[0] for item in damage}:
            _set_aside(self.path / name)
        if reading.curve.points:
            self._write_points(reading.curve.ordered)
        self._write_record(record)
        return texts

    def _read(self) -> Reading:
        """The record and the curve; the files are read again only if they have changed since the last call."""
        stamp = tuple(_stamp(path) for path in (self._record, self.curve_path, self._settled))
        if self._reading is None or self._reading[0] != stamp:
            record = read_record(self._record)
            lines = [] if self.curve_path.is_dir() else read_lines(self.curve_path)
            self._reading = stamp, reading_of(self, record, lines)
        return self._reading[1]

    def warn(self, topic: str, point: int, text: str) -> None:
        """Adds a warning to readers of the trial's numbers to `trial.json`; only the first of each topic is kept.

        Args:
            topic: the warning's topic.
            point: the number of the curve's point at which the warning arose; it is removed with the point.
            text: the warning.
        """
        existing = self.warnings()
        if topic not in existing:
            self._add(warnings={**existing, topic: TrialWarning(point=point, text=text)})

    def warnings(self) -> dict[str, TrialWarning]:
        """Topic -> warning of the trial."""
        return dict(self._read().record.warnings or {})

    def _add(self, **fields: Any) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self._record, self._read().record.changed(trial=self.key, **fields).stored())

    def heartbeat(self, progress: float | None = None, latest: float | None = None) -> None:
        """Writes `heartbeat.json`, which shows that the trial is alive.

        Args:
            progress: the spent fraction of the budget, 0 to 1; None keeps the previous value.
            latest: the latest training reward; None keeps the previous value.
        """
        with self._beat:  # the background thread and the trial itself both call this
            self.check_owner()
            write_pulse(self._pulse, progress, latest)

    def pulse(self) -> Pulse | None:
        """The last heartbeat; None if it is missing or damaged."""
        return read_pulse(self._pulse)

    def stamps(self) -> tuple[object, ...]:
        """What changes whenever record, heartbeat or curve is written."""
        return tuple(_stamp(path) for path in (self._record, self._pulse, self.curve_path))

    # -- the curve ----------------------------------------------------------------------------------------------

    def append_point(
        self,
        point: int,
        axes: dict[str, int | float],
        values: dict[str, dict[str, float]],
        extra: dict[str, Any] | None = None,
    ) -> None:
        """Appends one point of the curve.

        Args:
            point: the point's number, from 0; each number is appended once.
            axes: axis of the meter -> amount spent.
            values: split -> metric -> mean.
            extra: further JSON values to store with the point.
        """
        self.check_owner()
        self._end_torn_line()
        append_line(self.curve_path, Point(point=point, axes=axes, values=values, extra=extra or {}).stored())

    def read_curve(self) -> list[Point]:
        """The points of the curve in order, with recovered ones; a torn last line of an unfinished trial is dropped."""
        return self._read().curve.ordered

    def cut_curve(self, after_point: int) -> None:
        """Drops the points after number `after_point` (−1 drops all)."""
        self._write_points([point for point in self.read_curve() if point.point <= after_point])

    def _write_points(self, points: list[Point]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.curve_path, "".join(as_line(point.stored()) for point in points))

    def _end_torn_line(self) -> None:
        """Removes a torn last line, which would damage the next appended line."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.curve_path.exists():
            return
        content = self.curve_path.read_bytes()
        if content and not content.endswith(b"\n"):
            self.cut_curve(max((point.point for point in self.read_curve()), default=-1))

    # -- evaluation ---------------------------------------------------------------------------------------------

    def write_evaluation(self, rows: pd.DataFrame) -> None:
        """Appends a point's rows (`point, split, metric, prompt, sample, value`), replacing earlier ones."""
        self.check_owner()
        before = self.read_evaluation()
        if before is not None:
            before = before[~before["point"].isin(set(rows["point"]))]
            rows = pd.concat([before, rows], ignore_index=True)
        self._store_evaluation(rows)

    def read_evaluation(self) -> pd.DataFrame | None:
        """The evaluation rows so far; None before the first evaluation."""
        return pd.read_parquet(self.evaluation_path) if self.evaluation_path.exists() else None

    def cut_evaluation(self, after_point: int) -> None:
        """Drops the rows, the samples and the kept adapters of points after number `after_point`."""
        if self._evaluated() is None:
            self.evaluation_path.unlink()  # a damaged file cannot be cut
        rows = self.read_evaluation()
        if rows is not None:
            self._store_evaluation(rows[rows["point"] <= after_point])
        for folder in (*self.samples.glob("point-*"), *self.adapters.glob("point-*")):
            if int(folder.name.removeprefix("point-")) > after_point:
                shutil.rmtree(folder)

    def _store_evaluation(self, rows: pd.DataFrame) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        rows = rows.reset_index(drop=True)
        write_atomically(
            self.evaluation_path,
            lambda temporary: rows.to_parquet(temporary, index=False, write_page_checksum=True),
        )

    # -- samples ------------------------------------------------------------------------------------------------

    def sample_path(self, point: int, split: str, prompt: str, index: int = 0) -> Path:
        """The path of a sample: `samples/point-0003/heldout-a-snail-0.png`."""
        return self.samples / f"point-{point:04d}" / f"{split}-{slug(prompt)}-{index}.png"

    def sample_names(self, point: int) -> set[str]:
        """The file names of a point's samples."""
        try:
            return {path.name for path in (self.samples / f"point-{point:04d}").iterdir()}
        except (FileNotFoundError, NotADirectoryError):
            return set()

    def save_picture(self, point: int, split: str, prompt: str, pixels: Any, index: int = 0) -> None:
        """Writes one sample as PNG.

        Args:
            point: the number of the curve's point.
            split: the split of the prompt.
            prompt: the sample's prompt.
            pixels: uint8 `[H, W, 3]`.
            index: the number of the sample among those of its prompt.
        """
        path = self.sample_path(point, split, prompt, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda temporary: Image.fromarray(pixels).save(temporary, "PNG"), durable=False)

    # -- checkpoints --------------------------------------------------------------------------------------------

    def save_checkpoint(self, payload: dict[str, Any]) -> None:
        """Writes a checkpoint: `payload`, plain values and tensors, is the state after the point `payload["point"]`."""
        self.check_owner()
        save_checkpoint(self.checkpoints, payload)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The payload of the newest usable checkpoint whose point curve and evaluation hold; None if there is none.

        Raises:
            OSError, MemoryError, BenchError: the checkpoint cannot be read here and now (see `checkpoints.py`).
        """
        if not self.checkpoints.exists():
            return None
        # Checkpoints after a missing point are not used: the gap in the curve would stay.
        points = self._read().curve.unbroken & (self._evaluated() or set())
        return load_checkpoint(self.checkpoints, points, self._note_checkpoint)

    def _note_checkpoint(self, name: str, why: str) -> None:
        """Warns that a checkpoint was set aside, and adds it to `mended` in `trial.json`."""
        warnings.warn(f"{self.checkpoints / name} {why}", stacklevel=4)
        record = self._read().record
        if record.status != Status.PLANNED:
            self._add(mended=[*record.mended, f"{self.checkpoints.name}/{name} {why}"])

    def _evaluated(self) -> set[int] | None:
        """The numbers of the points that the evaluation holds; None if it is damaged."""
        try:
            return points_of(self.evaluation_path)
        except DamagedFileError:
            return None

    def cut(self, after_point: int) -> None:
        """Cuts curve, evaluation, samples and warnings back to a checkpoint's point (−1 drops all)."""
        self.check_owner()
        self.cut_curve(after_point)
        self.cut_evaluation(after_point)
        existing = self.warnings()
        remaining = {topic: warning for topic, warning in existing.items() if warning.point <= after_point}
        if remaining != existing:
            self._add(warnings=remaining)

    # -- adapters along the curve -------------------------------------------------------------------------------

    def kept_adapter(self, point: int, only: bool = False) -> Path:
        """The folder for the adapter of a point, `adapters/point-0003`, empty.

        Args:
            point: the number of the point.
            only: whether the adapters of other points are removed.
        """
        self.check_owner()
        folder = self.adapters / f"point-{point:04d}"
        shutil.rmtree(self.adapters if only else folder, ignore_errors=True)
        return folder

    def drop_checkpoints(self) -> None:
        """Removes the checkpoints, which only an unfinished trial needs."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)


def _set_aside(path: Path) -> None:
    aside = path.with_name(f"{path.name}{DAMAGED}")
    if aside.is_dir():
        shutil.rmtree(aside)
    if path.exists():
        path.replace(aside)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
