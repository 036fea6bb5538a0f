"""Mirroring of a local folder to a store while a run works in the folder."""

import json
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bench import console
from bench.background import repeating
from bench.errors import BenchError, cause_of
from bench.store.checkpoints import point_of
from bench.store.heartbeat import HEARTBEAT
from bench.store.remote.fetching import fetch, in_parallel
from bench.store.remote.lease import PULSE_SECONDS, Lease
from bench.store.remote.manifest import Manifest, Stamp, checkpoint_of, is_checkpoint, is_hash, local_files
from bench.store.remote.place import ListedFile, Place, out_of_reach
from bench.store.run_folder import TUNING
from bench.store.status import Status

SYNC_SECONDS = 30.0
RUNS = ("", f"{TUNING}/")
"""Paths, in the folder, of the run itself and of the run that tunes its methods."""

GIVE_UP_AFTER = 3
"""After so many failed uploads in a row, the store is taken to be at fault, and the round of uploads ends."""


@dataclass(frozen=True)
class Snapshot:
    """The content of a small file at one moment."""

    name: str
    stamp: Stamp
    content: bytes


@contextmanager
def mirrored(folder: Path, place: Place) -> Iterator["Mirror"]:
    """Fetches the store's files, mirrors `folder` to the store while the block runs, and once more after it.

    Failures of later uploads stop nothing; they are reported once and kept in `Mirror.problem`.

    Args:
        folder: the folder in which the run works; the caller is its only user.
        place: the run's store.

    Raises:
        LockedError: another machine is writing the run.
        BenchError: the store cannot be read or written at the beginning.
    """
    mirror = Mirror(folder, place)
    mirror.begin()
    try:
        with (
            repeating(mirror.pulse, PULSE_SECONDS, "lease"),
            repeating(mirror.sync, SYNC_SECONDS, "upload"),
        ):
            yield mirror
    finally:
        mirror.end()


class Mirror:
    """The mirror of a local folder in a store.

    Args:
        folder: the local folder.
        place: the run's store.

    Attributes:
        problem: the cause of the last failed upload; None after a round of uploads without failure.
    """

    def __init__(self, folder: Path, place: Place):
        self.folder, self.place = folder, place
        self.manifest = Manifest(folder)
        self.lease = Lease(place)
        self.problem: str | None = None
        self._beating = threading.Lock()

    # -- the run's life -----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Takes the lease and makes the folder equal to the store; see `mirrored`."""
        try:
            before = self.lease.last()
            own = self.manifest.copy is not None and before.get("copy") == self.manifest.copy
            copy = self.manifest.copy if own and self.manifest.copy else uuid.uuid4().hex
            self.lease.acquire(copy)
        except BenchError:
            raise
        except Exception as error:
            raise out_of_reach(self.place, "written", error) from error
        try:
            listed = self.place.listing()
            for name in listed:
                if is_temporary(name):
                    self.place.remove(name)
            if own:  # no other folder was mirrored since: files that the store lacks are yet to be uploaded
                self._forget_lost(listed)
            else:
                self._take_over(copy, "plan.json" in listed)
        except Exception as error:
            self._release()
            raise out_of_reach(self.place, "read", error) from error

    def end(self) -> None:
        """Uploads the remaining files and releases the lease; `left` then names files that could not be uploaded."""
        self.sync()
        self.pulse()
        self._release()

    def left(self) -> list[str]:
        """Local files that are not yet uploaded in their present state."""
        return self.manifest.pending()

    def _forget_lost(self, listed: dict[str, ListedFile]) -> None:
        """Drops files from the manifest that the store lacks or holds with another size."""
        for name in self.manifest.names():
            if name not in listed or listed[name].size not in (None, self.manifest.size(name)):
                self.manifest.drop(name)

    def _take_over(self, copy: str, planned: bool) -> None:
        """Makes the folder equal to the store; local files that were never uploaded are set aside."""
        vanished = not planned and (self.folder / "plan.json").exists()
        half_fetched = self.manifest.exists and self.manifest.copy is None
        if not half_fetched and (vanished or self.manifest.pending()):
            aside = set_aside(self.folder)
            console.note(f"{aside} keeps the local files that were never uploaded; the run continues from {self.place}")
            self.manifest = Manifest(self.folder)
        self.manifest.copy = None
        self.manifest.save()
        fetch(self.place, self.manifest)
        self.manifest.copy = copy
        self.manifest.save()

    def _release(self) -> None:
        try:
            self.lease.release()
        except Exception:
            return  # the lease goes stale by itself

    # -- in the background --------------------------------------------------------------------------------------

    def pulse(self) -> None:
        """Renews the lease and uploads heartbeats, even during a long upload of other files. Never raises."""
        try:
            with self._beating:
                if not self.lease.confirm():
                    return
                for trial in self._trials():
                    snapshot = self._snapshot(f"{trial}/{HEARTBEAT}")
                    if snapshot is not None:
                        self._put(snapshot)
        except Exception as error:
            self._report_failure(error)

    def sync(self) -> None:
        """Uploads changed files: the plan, the trials, the search, results and reports. Never raises."""
        plans = [f"{run}{name}" for run in RUNS for name in ("sweep.yaml", "plan.json")]
        steps: list[Callable[[], object]] = [partial(self._send, [name]) for name in plans]
        steps += [partial(self._upload_trial, trial) for trial in self._trials()]
        failures = in_a_row = 0
        try:
            if not self.lease.confirm():
                return
            for step in [*steps, self._upload_results]:
                try:
                    step()
                    in_a_row = 0
                except Exception as error:
                    self._report_failure(error)
                    failures, in_a_row = failures + 1, in_a_row + 1
                if in_a_row == GIVE_UP_AFTER or self.lease.lost_to:
                    break
            self.manifest.save()
        except Exception as error:
            self._report_failure(error)
            return
        if not failures:
            self.problem = None

    def _trials(self) -> list[str]:
        folders = [path for run in RUNS for path in self.folder.glob(f"{run}trials/*/")]
        return sorted(path.relative_to(self.folder).as_posix() for path in folders)

    def _upload_trial(self, trial: str) -> None:
        """Uploads a trial in an order that leaves the store resumable at any moment.

        The trial may go on meanwhile. So the files that name others are read first (the record, then the checkpoints'
        hashes, then the curve) and uploaded last, with the content that was read. The heartbeat is removed at the end:
        without one, a trial whose record in the store says "running" would read as interrupted.
        """
        record = self._snapshot(f"{trial}/trial.json")
        hashes = [self._snapshot(name) for name in local_files(self.folder, f"{trial}/checkpoint") if is_hash(name)]
        curve = self._snapshot(f"{trial}/curve.jsonl")
        named = (f"{trial}/trial.json", f"{trial}/curve.jsonl", f"{trial}/{HEARTBEAT}")
        files = local_files(self.folder, trial)
        self._revoke_checkpoints(trial, record)
        self._send([name for name in files if name not in named and not name.startswith(f"{trial}/checkpoint/")])
        if curve is not None:
            whole_lines = curve.content[: curve.content.rfind(b"\n") + 1]
            self._put(Snapshot(curve.name, curve.stamp, whole_lines))
        for hash_ in hashes:
            if hash_ is not None and self._send([checkpoint_of(hash_.name)]):
                self._put(hash_)
        if record is not None:
            self._put(record)
            if _status(record) != Status.RUNNING:
                self._remove_heartbeat(trial)
        self._remove_gone(f"{trial}/")

    def _revoke_checkpoints(self, trial: str, record: Snapshot | None) -> None:
        """Removes, before the store's curve is cut back, the hashes of checkpoints that the trial has dropped."""
        if record is None or _status(record) == Status.DONE:
            return
        local = (point_of(n) for n in local_files(self.folder, f"{trial}/checkpoint") if is_checkpoint(n))
        newest = max(local, default=-1)
        for name in self.manifest.names(f"{trial}/checkpoint/"):
            if is_hash(name) and point_of(name) > newest:
                self._remove(name)

    def _remove_heartbeat(self, trial: str) -> None:
        with self._beating:  # `pulse` may be uploading one that it read before the trial's end
            name = f"{trial}/{HEARTBEAT}"
            if name in self.manifest.names(trial) and not (self.folder / name).exists():
                self._remove(name)

    def _upload_results(self) -> None:
        self._send([f"{TUNING}/search.json"])  # after the trials that the search compared
        self._send(["results.parquet"])
        self._send(local_files(self.folder, "report"))
        self._remove_gone("report/")

    # -- one file -----------------------------------------------------------------------------------------------

    def _send(self, names: Sequence[str]) -> bool:
        """Uploads those of the files that changed; returns False if one of the files no longer exists."""
        existing = [(name, stamp) for name in names if (stamp := Stamp.of(self.folder / name)) is not None]

        def send_one(file: tuple[str, Stamp]) -> None:
            name, stamp = file
            try:
                self.place.upload(self.folder / name, name)
            except FileNotFoundError:
                if (self.folder / name).exists():
                    raise  # a folder is missing in the store
                return
            self.manifest.add(name, stamp)

        in_parallel(self.place, send_one, [file for file in existing if not self.manifest.sent(*file)])
        return all(self.manifest.sent(name, Stamp.of(self.folder / name)) for name in names)

    def _snapshot(self, name: str) -> Snapshot | None:
        """The present content of a local file; None if there is no such file."""
        path = self.folder / name
        stamp = Stamp.of(path)
        try:
            return Snapshot(name, stamp, path.read_bytes()) if stamp is not None else None
        except FileNotFoundError:
            return None

    def _put(self, snapshot: Snapshot) -> None:
        """Uploads a snapshot unless the store has it."""
        if not self.manifest.sent(snapshot.name, snapshot.stamp):
            self.place.write(snapshot.name, snapshot.content)
            self.manifest.add(snapshot.name, snapshot.stamp)

    def _remove_gone(self, part: str) -> None:
        """Removes files from the store that no longer exist locally, except heartbeats; hashes before checkpoints."""
        gone = [n for n in self.manifest.names(part) if not n.endswith(HEARTBEAT) and not (self.folder / n).exists()]
        for name in sorted(gone, key=lambda name: not is_hash(name)):
            self._remove(name)

    def _remove(self, name: str) -> None:
        self.place.remove(name)
        self.manifest.drop(name)

    def _report_failure(self, error: Exception) -> None:
        """Reports a failed upload once; again only after a round of uploads without failure."""
        if self.problem is None:
            console.note(
                f"{self.place}: cannot be written ({cause_of(error)}); the run continues in {self.folder} and the "
                f"upload is tried again every {SYNC_SECONDS:.0f} s"
            )
        self.problem = cause_of(error)


def _status(record: Snapshot) -> str:
    """The status in a trial's record; "" if the record is damaged, which readers of the trial report."""
    try:
        content = json.loads(record.content)
    except ValueError:
        return ""
    return str(content.get("status", "")) if isinstance(content, dict) else ""


def is_temporary(name: str) -> bool:
    """Whether a file of the store was left by an unfinished upload."""
    last = name.rpartition("/")[2]
    return last.startswith(".") and last.endswith(".tmp")


def set_aside(folder: Path) -> Path:
    """Moves the content of a folder to a new folder next to it, and returns the new one. The locked folder stays."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.aside-{number}")).exists():
        number += 1
    aside.mkdir()
    for path in folder.iterdir():
        if path.name != ".lock":
            path.rename(aside / path.name)
    return aside
