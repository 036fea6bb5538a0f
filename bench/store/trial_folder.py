"""One trial's folder: status, curve, evaluation, samples, adapter, checkpoints. One writer at a time."""

import hashlib
import os
import re
import shutil
import socket
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
from pydantic import ValidationError

from bench.errors import LockedError
from bench.store.checkpoints import DAMAGED, load_checkpoint, save_checkpoint
from bench.store.damage import Damage, DamagedFileError
from bench.store.files import (
    UNFINISHED,
    append_line,
    as_line,
    read_lines,
    remove_unfinished,
    write_atomically,
    write_json,
    write_text,
)
from bench.store.frames import points_of, read_table
from bench.store.locking import holder, sign
from bench.store.records import Point, Pulse, Step, TrialRecord, TrialWarning, read_record
from bench.store.settled import (
    ADAPTER,
    CURVE,
    EVALUATION,
    KEPT,
    RECORD,
    Reading,
    keep,
    of_adapter,
    of_evaluation,
    reading_of,
)
from bench.store.status import Status

STALE_SECONDS = 60.0
"""A running trial that has not been heard of for so long is taken as interrupted; a worker beats every few seconds."""


class TrialFolder:
    """`trials/<variant>-s<seed>-<identity8>/`.

    Args:
        path: the folder; made when something is first written.
        owner: the token of the lock's holder, for a process that writes in its stead; without one, writes are not
            checked.
    """

    def __init__(self, path: Path, owner: str | None = None):
        self.path = Path(path)
        self.owner = owner
        self.curve_path = self.path / CURVE
        self.evaluation_path = self.path / EVALUATION
        self.samples = self.path / "samples"
        self.adapter = self.path / ADAPTER
        self.checkpoints = self.path / "checkpoint"
        self.error_path = self.path / "error.txt"
        self._record = self.path / RECORD
        self._pulse = self.path / "heartbeat.json"
        self._owner = self.path / ".owner"
        self._kept = self.path / KEPT
        self._beat = threading.Lock()
        self._reading: tuple[tuple[object, ...], Reading] | None = None

    @property
    def key(self) -> str:
        return self.path.name

    # -- one writer ---------------------------------------------------------------------------------------------

    @contextmanager
    def lock(self, wait: float = 0.0) -> Iterator[None]:
        """Makes this process the trial's only writer; it is released with the process, however that ends.

        Whoever takes the lock leaves a token of his own. A process that lost the lock without knowing (its file was
        removed, a network file system forgot it, its parent held it and died) finds another's token before its next
        write, and stops.

        Raises:
            LockedError: another process holds it after `wait` seconds.
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
        """Called before anything is written.

        Raises:
            LockedError: another process has taken the trial over.
        """
        if self.owner is None:
            return
        try:
            found = self._owner.read_text(encoding="utf-8")
        except FileNotFoundError:
            found = ""
        if found != self.owner:
            what = "another process has taken this trial over" if found else "its folder has been removed"
            raise LockedError(what, self.key, "this one stops; `bench status` shows the other")

    # -- status -------------------------------------------------------------------------------------------------

    def read(self) -> TrialRecord:
        """The trial's record, with the status that its files show now.

        A stale running trial reads as interrupted, and so does a done one whose curve is lost (see `settled.py`).

        Raises:
            BenchError: a later version of the package wrote it.
        """
        record = self._read().record.model_copy()
        if record.status == Status.RUNNING:
            cause = self._why_stale(record)
            if cause:
                record.status, record.cause = Status.INTERRUPTED, cause
        return record

    def recorded_status(self) -> Status:
        """The status that was last written, stale or not."""
        return self._read().record.status

    def write_status(self, status: Status, cause: str | None = None, **fields: Any) -> None:
        """Records a status, keeping the other fields of `trial.json`.

        With a status that is the trial's end, its record and its curve are kept once more, in `settled.json`.

        Args:
            fields: of `bench.store.records.TrialRecord`.
        """
        self.check_owner()
        self.path.mkdir(parents=True, exist_ok=True)
        fields |= {"status": status, "cause": cause, "updated": time.time()}
        record = self._read().record.changed(trial=self.key, **fields)
        if status != Status.RUNNING:
            self._pulse.unlink(missing_ok=True)  # first: on a full disk its room may be what the status needs
        self._write_record(record)
        self._pulse.unlink(missing_ok=True)  # an attempt that was killed has left its own
        if status == Status.RUNNING:
            self.heartbeat()

    def _write_record(self, record: TrialRecord) -> None:
        if record.status.settled:
            kept = keep(self, record)
            write_json(self._kept, kept.stored())
            record = kept.record
        else:
            record = record.without("whole")
            self._kept.unlink(missing_ok=True)
        write_json(self._record, record.stored())

    def problems(self) -> list[str]:
        """What is and was the matter with record, curve and checkpoints, for people."""
        reading = self._read()
        return [*reading.record.mended, *map(str, reading.damage)]

    def damage(self) -> list[Damage]:
        """What is the matter with the files that numbers come from, and with the adapter: all of them are read."""

        reading = self._read()
        table, why = None, ""
        try:
            table = read_table(self.evaluation_path)
        except DamagedFileError as error:
            why = str(error)
        rows = None if table is None else len(table)
        judged = of_evaluation(reading.record, rows, why)
        return [*reading.damage, *([judged] if judged else []), *of_adapter(self, reading.record)]

    def mend(self, **fields: Any) -> list[str]:
        """Writes back what can be recovered; where something is lost, readies the trial for being trained again.

        Files that are damaged are set aside, as `NAME.damaged`. The caller holds the lock.

        Args:
            fields: of `trial.json`, where it lacks them.

        Returns:
            What was the matter and what was done, for people; kept in `trial.json` as `mended`.
        """
        found, reading = self.damage(), self._read()
        texts = list(map(str, found))
        record = TrialRecord.model_validate({**fields, **reading.record.stored()})
        record.mended = [*record.mended, *texts]
        if any(each.lost for each in found):
            record.status, record.cause = Status.INTERRUPTED, "; ".join(f"{each.file} {each.what}" for each in found)
        for name in {each.file.partition(":")[0] for each in found}:
            _set_aside(self.path / name)
        if reading.curve.points:
            self._write_points(reading.curve.ordered)
        self._write_record(record)
        return texts

    def _read(self) -> Reading:
        """Record and curve; the files are read, and checked, where they have changed since the last call."""
        stamp = tuple(_stamp(path) for path in (self._record, self.curve_path, self._kept))
        if self._reading is None or self._reading[0] != stamp:
            record = read_record(self._record)
            lines = [] if self.curve_path.is_dir() else read_lines(self.curve_path)
            self._reading = stamp, reading_of(self, record, lines)
        return self._reading[1]

    def warn(self, about: str, point: int, text: str) -> None:
        """Adds to `trial.json` what a reader of the numbers must know; of one matter, only the first word is kept.

        Args:
            about: the matter.
            point: of the curve at which it was seen; it is forgotten with the point.
        """
        known = self.warnings()
        if about not in known:
            self._add(warnings={**known, about: TrialWarning(point=point, text=text)})

    def warnings(self) -> dict[str, TrialWarning]:
        """What `warn` has kept, by its matter."""
        return dict(self._read().record.warnings or {})

    def _add(self, **fields: Any) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_json(self._record, self._read().record.changed(trial=self.key, **fields).stored())

    def heartbeat(self, progress: float | None = None, latest: float | None = None) -> None:
        """Says that the trial is alive.

        Args:
            progress: fraction of the budget spent, 0 to 1; the last one said is kept.
            latest: the latest training reward; likewise.
        """
        with self._beat:  # the background thread and the trial itself both call this
            self.check_owner()
            now = time.time()
            before = self.pulse() or Pulse(time=now)
            since = before.since
            if progress is not None and (since is None or progress < before.progress):
                since = Step(time=now, progress=progress)
            beat = Pulse(
                time=now,
                pid=os.getpid(),
                host=socket.gethostname(),
                progress=before.progress if progress is None else progress,
                latest=before.latest if latest is None else latest,
                moved=before.moved if progress is None else now,
                since=since,
            )
            write_json(self._pulse, beat.stored(), durable=False)

    def pulse(self) -> Pulse | None:
        """The last heartbeat; None where there is none, or a damaged one."""
        try:
            return Pulse.model_validate(read_record(self._pulse))
        except ValidationError:
            return None

    def stamps(self) -> tuple[int, ...]:
        """When status, heartbeat and curve were last written, in nanoseconds; 0 for what is not there."""
        return tuple(_written(path) for path in (self._record, self._pulse, self.curve_path))

    def _why_stale(self, record: TrialRecord) -> str | None:
        pulse = self.pulse()
        beat = pulse.time if pulse else record.updated or 0.0
        if pulse and pulse.host == socket.gethostname() and not is_alive(pulse.pid):
            return "its process is gone; run the sweep again to continue"
        if time.time() - beat > STALE_SECONDS:
            return f"not heard of for {(time.time() - beat) / 60:.0f} minutes; run the sweep again to continue"
        return None

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
            point: its number, from 0; each number is appended once.
            axes: the meter's axes.
            values: split -> metric -> mean.
            extra: anything else worth keeping with the point.
        """
        self.check_owner()
        self._end_torn_line()
        append_line(self.curve_path, Point(point=point, axes=axes, values=values, extra=extra or {}).stored())

    def read_curve(self) -> list[Point]:
        """Every point in order, those that are recovered too; a torn last line of an unfinished trial is dropped."""
        return self._read().curve.ordered

    def cut_curve(self, after_point: int) -> None:
        """Drops the points behind `after_point` (−1 drops all)."""
        self._write_points([point for point in self.read_curve() if point.point <= after_point])

    def _write_points(self, points: list[Point]) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.curve_path, "".join(as_line(point.stored()) for point in points))

    def _end_torn_line(self) -> None:
        """A line appended behind a torn one would be torn too."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.curve_path.exists():
            return
        content = self.curve_path.read_bytes()
        if content and not content.endswith(b"\n"):
            self.cut_curve(max((point.point for point in self.read_curve()), default=-1))

    # -- evaluation ---------------------------------------------------------------------------------------------

    def write_evaluation(self, rows: pd.DataFrame) -> None:
        """Appends a point's rows (`point, split, metric, prompt, sample, value`); a point written again is replaced."""
        self.check_owner()
        before = self.read_evaluation()
        if before is not None:
            before = before[~before["point"].isin(set(rows["point"]))]
            rows = pd.concat([before, rows], ignore_index=True)
        self._store_evaluation(rows)

    def read_evaluation(self) -> pd.DataFrame | None:
        """Every row so far; None before the first evaluation."""
        return pd.read_parquet(self.evaluation_path) if self.evaluation_path.exists() else None

    def cut_evaluation(self, after_point: int) -> None:
        """Drops the rows and the samples of points behind `after_point`."""
        if self._evaluated() is None:
            self.evaluation_path.unlink()  # what cannot be read cannot be cut
        rows = self.read_evaluation()
        if rows is not None:
            self._store_evaluation(rows[rows["point"] <= after_point])
        for folder in self.samples.glob("point-*"):
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
        """Where a sample lies: `samples/point-0003/heldout-a-snail-0.png`."""
        return self.samples / f"point-{point:04d}" / f"{split}-{slug(prompt)}-{index}.png"

    def sample_names(self, point: int) -> set[str]:
        """Names of the files that were kept of a point."""
        try:
            return {path.name for path in (self.samples / f"point-{point:04d}").iterdir()}
        except (FileNotFoundError, NotADirectoryError):
            return set()

    def save_picture(self, point: int, split: str, prompt: str, pixels: Any, index: int = 0) -> None:
        """Keeps one sample.

        Args:
            pixels: uint8 `[H, W, 3]`.
            index: of the prompt's sample.
        """

        path = self.sample_path(point, split, prompt, index)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda temporary: Image.fromarray(pixels).save(temporary, "PNG"), durable=False)

    # -- checkpoints --------------------------------------------------------------------------------------------

    def save_checkpoint(self, payload: dict[str, Any]) -> None:
        """Keeps `payload` (plain values and tensors), the state after the curve's point `payload["point"]`."""
        self.check_owner()
        save_checkpoint(self.checkpoints, payload)

    def load_checkpoint(self) -> dict[str, Any] | None:
        """The newest sound payload of a point that curve and evaluation hold, or None.

        Raises:
            OSError, MemoryError, BenchError: it cannot be read here and now (see `checkpoints.py`); it is kept.
        """
        if not self.checkpoints.exists():
            return None
        # Without a point, those after it are of no use: a gap would stay for good.
        points = self._read().curve.unbroken & (self._evaluated() or set())
        return load_checkpoint(self.checkpoints, points, self._note_checkpoint)

    def _note_checkpoint(self, name: str, why: str) -> None:
        """Warns that a checkpoint was set aside, now and whoever reads the trial later."""
        warnings.warn(f"{self.checkpoints / name} {why}", stacklevel=4)
        record = self._read().record
        if record.status != Status.PLANNED:
            self._add(mended=[*record.mended, f"{self.checkpoints.name}/{name} {why}"])

    def _evaluated(self) -> set[int] | None:
        """The points that the evaluation holds; None where it is damaged."""
        try:
            return points_of(self.evaluation_path)
        except DamagedFileError:
            return None

    def cut(self, after_point: int) -> None:
        """Curve, evaluation and samples, cut back to a checkpoint's point (−1: to nothing)."""
        self.check_owner()
        self.cut_curve(after_point)
        self.cut_evaluation(after_point)
        known = self.warnings()
        kept = {about: warning for about, warning in known.items() if warning.point <= after_point}
        if kept != known:
            self._add(warnings=kept)

    def drop_checkpoints(self) -> None:
        """Frees what only an unfinished trial needs."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)


def _written(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _set_aside(path: Path) -> None:
    aside = path.with_name(f"{path.name}{DAMAGED}")
    if aside.is_dir():
        shutil.rmtree(aside)
    if path.exists():
        path.replace(aside)


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def slug(text: str, limit: int = 40) -> str:
    """`text` as part of a file's name; distinct texts stay distinct."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:limit].strip("-")
    if plain == text.replace(" ", "-") and "-" not in text:
        return plain
    return f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:6]}".lstrip("-")


def is_alive(pid: int) -> bool:
    """Whether a process of this machine lives."""
    if pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
