"""One trial's folder: status, curve, evaluation, samples, adapter, checkpoints. One writer at a time."""

import hashlib
import os
import re
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bench.checkpoints import load_checkpoint, save_checkpoint
from bench.errors import LockedError
from bench.files import (
    UNFINISHED,
    append_line,
    read_json,
    read_lines,
    remove_unfinished,
    write_atomically,
    write_json,
    write_text,
)
from bench.locking import holder, sign

if TYPE_CHECKING:
    import pandas as pd

Status = Literal["planned", "running", "done", "failed", "diverged", "interrupted", "skipped", "pruned"]
STATUSES: tuple[str, ...] = (
    "planned",
    "running",
    "done",
    "failed",
    "diverged",
    "interrupted",
    "skipped",
    "pruned",
)
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
        self.curve_path = self.path / "curve.jsonl"
        self.evaluation_path = self.path / "evaluation.parquet"
        self.samples = self.path / "samples"
        self.adapter = self.path / "adapter"
        self.checkpoints = self.path / "checkpoint"
        self.error_path = self.path / "error.txt"
        self._record = self.path / "trial.json"
        self._pulse = self.path / "heartbeat.json"
        self._owner = self.path / ".owner"
        self._beat = threading.Lock()

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
        from filelock import FileLock, Timeout

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

    def read(self) -> dict[str, Any]:
        """`trial.json` as it should be understood now: a stale running trial reads as interrupted."""
        record = read_json(self._record)
        if not isinstance(record, dict):
            return {"trial": self.key, "status": "planned", "cause": None}
        if record.get("status") == "running":
            cause = self._why_stale(record)
            if cause:
                record = {**record, "status": "interrupted", "cause": cause}
        return record

    def recorded_status(self) -> str:
        """The status that was last written, stale or not."""
        record = read_json(self._record)
        return str(record.get("status", "planned")) if isinstance(record, dict) else "planned"

    def write_status(self, status: Status, cause: str | None = None, **fields: Any) -> None:
        """Records a status, keeping the other fields of `trial.json`."""
        self.check_owner()
        self.path.mkdir(parents=True, exist_ok=True)
        record = read_json(self._record)
        kept = record if isinstance(record, dict) else {}
        now = time.time()
        said = {"trial": self.key, **fields, "status": status, "cause": cause, "updated": now}
        write_json(self._record, {**kept, **said})
        self._pulse.unlink(missing_ok=True)  # an attempt that was killed has left its own
        if status == "running":
            self.heartbeat()

    def write_memory(self, workers: list[dict[str, Any]]) -> None:
        """Adds each worker's measured bytes (see `bench/memory/weighing.py`) to `trial.json`."""
        self._add(memory=workers)

    def warn(self, about: str, point: int, text: str) -> None:
        """Adds to `trial.json` what a reader of the numbers must know; of one matter, only the first word is kept.

        Args:
            about: the matter.
            point: of the curve at which it was seen; it is forgotten with the point.
        """
        known = self.warnings()
        if about not in known:
            self._add(warnings={**known, about: {"point": point, "text": text}})

    def warnings(self) -> dict[str, dict[str, Any]]:
        """What `warn` was told: matter -> `point` and `text`."""
        record = read_json(self._record)
        return dict(record.get("warnings") or {}) if isinstance(record, dict) else {}

    def _add(self, **fields: Any) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        record = read_json(self._record)
        write_json(self._record, {**(record if isinstance(record, dict) else {"trial": self.key}), **fields})

    def heartbeat(self, progress: float | None = None, latest: float | None = None) -> None:
        """Says that the trial is alive.

        Args:
            progress: fraction of the budget spent, 0 to 1; the last one said is kept.
            latest: the latest training reward; likewise.
        """
        with self._beat:  # the background thread and the trial itself both call this
            self.check_owner()
            before, now = self.pulse(), time.time()
            since = before.get("since")
            if progress is not None and (since is None or progress < before["progress"]):
                since = {"time": now, "progress": progress}
            beat = {
                "time": now,
                "pid": os.getpid(),
                "host": socket.gethostname(),
                "progress": before.get("progress", 0.0) if progress is None else progress,
                "latest": before.get("latest") if latest is None else latest,
                "moved": before.get("moved") if progress is None else now,
                "since": since,
            }
            write_json(self._pulse, beat, durable=False)

    def pulse(self) -> dict[str, Any]:
        """The last heartbeat, empty where there is none.

        `time`, `pid`, `host`, `progress`, `latest`; `moved` is when progress was last said, and `since` the time and
        the progress of the first step of this attempt.
        """
        found = read_json(self._pulse)
        return found if isinstance(found, dict) else {}

    def stamps(self) -> tuple[int, ...]:
        """When status, heartbeat and curve were last written, in nanoseconds; 0 for what is not there."""
        return tuple(_written(path) for path in (self._record, self._pulse, self.curve_path))

    def _why_stale(self, record: dict[str, Any]) -> str | None:
        pulse = self.pulse()
        beat = float(pulse.get("time", record.get("updated", 0.0)))
        if pulse.get("host") == socket.gethostname() and not is_alive(int(pulse.get("pid", 0))):
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
        append_line(self.curve_path, {"point": point, "axes": axes, "values": values, "extra": extra or {}})

    def read_curve(self) -> list[dict[str, Any]]:
        """Every point in order; a torn last line is dropped."""
        return read_lines(self.curve_path)

    def cut_curve(self, after_point: int) -> None:
        """Drops the points behind `after_point` (−1 drops all)."""
        import json

        kept = [row for row in self.read_curve() if row["point"] <= after_point]
        self.path.mkdir(parents=True, exist_ok=True)
        write_text(self.curve_path, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))

    def _end_torn_line(self) -> None:
        """A line appended behind a torn one would be torn too."""
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.curve_path.exists():
            return
        content = self.curve_path.read_bytes()
        if content and not content.endswith(b"\n"):
            self.cut_curve(max((row["point"] for row in self.read_curve()), default=-1))

    # -- evaluation ---------------------------------------------------------------------------------------------

    def write_evaluation(self, rows: "pd.DataFrame") -> None:
        """Appends a point's rows (`point, split, metric, prompt, sample, value`); a point written again is replaced."""
        import pandas as pd

        self.check_owner()
        before = self.read_evaluation()
        if before is not None:
            before = before[~before["point"].isin(set(rows["point"]))]
            rows = pd.concat([before, rows], ignore_index=True)
        self._store_evaluation(rows)

    def read_evaluation(self) -> "pd.DataFrame | None":
        """Every row so far; None before the first evaluation."""
        import pandas as pd

        return pd.read_parquet(self.evaluation_path) if self.evaluation_path.exists() else None

    def cut_evaluation(self, after_point: int) -> None:
        """Drops the rows and the samples of points behind `after_point`."""
        rows = self.read_evaluation()
        if rows is not None:
            self._store_evaluation(rows[rows["point"] <= after_point])
        for folder in self.samples.glob("point-*"):
            if int(folder.name.removeprefix("point-")) > after_point:
                shutil.rmtree(folder)

    def _store_evaluation(self, rows: "pd.DataFrame") -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        rows = rows.reset_index(drop=True)
        write_atomically(self.evaluation_path, lambda temporary: rows.to_parquet(temporary, index=False))

    # -- samples ------------------------------------------------------------------------------------------------

    def sample_path(self, point: int, split: str, prompt: str, index: int = 0) -> Path:
        """Where a sample lies: `samples/point-0003/heldout-a-snail-0.png`."""
        return self.samples / f"point-{point:04d}" / f"{split}-{slug(prompt)}-{index}.png"

    def sample_names(self, point: int) -> set[str]:
        """Names of the files that were kept of a point."""
        try:
            return {path.name for path in (self.samples / f"point-{point:04d}").iterdir()}
        except FileNotFoundError:
            return set()

    def save_picture(self, point: int, split: str, prompt: str, pixels: Any, index: int = 0) -> None:
        """Keeps one sample.

        Args:
            pixels: uint8 `[H, W, 3]`.
            index: of the prompt's sample.
        """
        from PIL import Image

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
            OSError, MemoryError, BenchError: it cannot be read here and now (see `bench.checkpoints`); it is kept.
        """
        import pandas as pd

        if not self.checkpoints.exists():
            return None
        points = {row["point"] for row in self.read_curve()}
        evaluated = pd.read_parquet(self.evaluation_path, columns=["point"]) if self.evaluation_path.exists() else None
        return load_checkpoint(self.checkpoints, points & set(evaluated["point"] if evaluated is not None else ()))

    def cut(self, after_point: int) -> None:
        """Curve, evaluation and samples, cut back to a checkpoint's point (−1: to nothing)."""
        self.check_owner()
        self.cut_curve(after_point)
        self.cut_evaluation(after_point)
        known = self.warnings()
        kept = {about: told for about, told in known.items() if told["point"] <= after_point}
        if kept != known:
            self._add(warnings=kept)

    def drop_checkpoints(self) -> None:
        """Frees what only an unfinished trial needs."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)


def _written(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


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
