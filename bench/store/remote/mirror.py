"""Local folder -> store while a run works in it."""

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
from bench.store.remote.fetching import fetch, in_parallel
from bench.store.remote.lease import PULSE_SECONDS, Lease
from bench.store.remote.manifest import HEARTBEAT, Manifest, Stamp, checkpoint_of, is_checkpoint, is_hash, local_files
from bench.store.remote.place import Entry, Place, out_of_reach
from bench.store.run_folder import TUNING
from bench.store.status import Status

SYNC_SECONDS = 30.0
RUNS = ("", f"{TUNING}/")
"""The run itself, and the one in it that its methods are tuned in."""

GIVE_UP_AFTER = 3
"""Trials that could not be uploaded one after another: it is the store, then, and not a file."""


@dataclass(frozen=True)
class Snapshot:
    """A small file as it was at one moment."""

    name: str
    stamp: Stamp
    content: bytes


@contextmanager
def mirrored(folder: Path, place: Place) -> Iterator["Mirror"]:
    """Begins with what the store has, mirrors `folder` to it while the block runs, and once more after it.

    Args:
        folder: where the run works; the caller is its only user.
        place: the run's store.

    Raises:
        LockedError: another machine is writing the run.
        BenchError: the store cannot be read or written at all. Later failures are told once and kept in
            `Mirror.problem`; they stop nothing.
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
    """What is in `folder` and what `place` has of it.

    Attributes:
        problem: why something is not uploaded; None while all goes well.
    """

    def __init__(self, folder: Path, place: Place):
        self.folder, self.place = folder, place
        self.manifest = Manifest(folder)
        self.lease = Lease(place)
        self.problem: str | None = None
        self._beating = threading.Lock()

    # -- the run's life -----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Takes the lease and makes the folder what the store has; see `mirrored`."""
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
            if own:  # nobody wrote since: what is here and not there was left over
                self._believe(listed)
            else:
                self._take_over(copy, "plan.json" in listed)
        except Exception as error:
            self._release()
            raise out_of_reach(self.place, "read", error) from error

    def end(self) -> None:
        """Uploads what is left and gives the lease back. What could not be uploaded is in `left`."""
        self.sync()
        self.pulse()
        self._release()

    def left(self) -> list[str]:
        """Files that the store has not, or not as they are."""
        return self.manifest.pending()

    def _believe(self, listed: dict[str, Entry]) -> None:
        for name in self.manifest.names():
            if name not in listed or listed[name].size not in (None, self.manifest.size(name)):
                self.manifest.drop(name)

    def _take_over(self, copy: str, planned: bool) -> None:
        """The store is right: this folder becomes what it has. Work that only this folder has is set aside."""
        vanished = not planned and (self.folder / "plan.json").exists()
        half_fetched = self.manifest.exists and self.manifest.copy is None
        if not half_fetched and (vanished or self.manifest.pending()):
            aside = set_aside(self.folder)
            console.note(f"{aside} keeps what was never uploaded from here; the run goes on from {self.place}")
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
            return  # it goes stale by itself

    # -- in the background --------------------------------------------------------------------------------------

    def pulse(self) -> None:
        """Renews the lease and uploads heartbeats, however long an upload takes. Never raises."""
        try:
            with self._beating:
                if not self.lease.confirm():
                    return
                for trial in self._trials():
                    snapshot = self._snapshot(f"{trial}/{HEARTBEAT}")
                    if snapshot is not None:
                        self._put(snapshot)
        except Exception as error:
            self._tell(error)

    def sync(self) -> None:
        """Uploads what changed: the plan, each trial, what was made of them. Never raises.

        What it sends is what `belongs` says, and what `left` counts.
        """
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
                    self._tell(error)
                    failures, in_a_row = failures + 1, in_a_row + 1
                if in_a_row == GIVE_UP_AFTER or self.lease.lost_to:
                    break
            self.manifest.save()
        except Exception as error:
            self._tell(error)
            return
        if not failures:
            self.problem = None

    def _trials(self) -> list[str]:
        found = [path for run in RUNS for path in self.folder.glob(f"{run}trials/*/")]
        return sorted(path.relative_to(self.folder).as_posix() for path in found)

    def _upload_trial(self, trial: str) -> None:
        """Uploads a trial so that the store holds, at any moment, something to resume from.

        A trial goes on while it is read. What names other files is read before them, the latest claim first: the record
        (`done`), the checkpoints' hashes, the curve. It is uploaded after them, as it was then. The heartbeat is
        removed last: without one, a trial that the store still has as running would be taken as dead.
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
        """Removes checkpoints that a trial went back behind, before its curve is cut in the store too."""
        if record is None or _status(record) == Status.DONE:
            return
        there = (point_of(n) for n in local_files(self.folder, f"{trial}/checkpoint") if is_checkpoint(n))
        newest = max(there, default=-1)
        for name in self.manifest.names(f"{trial}/checkpoint/"):
            if is_hash(name) and point_of(name) > newest:
                self._remove(name)

    def _remove_heartbeat(self, trial: str) -> None:
        with self._beating:  # one that was read before the trial's end may be on its way
            name = f"{trial}/{HEARTBEAT}"
            if name in self.manifest.names(trial) and not (self.folder / name).exists():
                self._remove(name)

    def _upload_results(self) -> None:
        self._send([f"{TUNING}/search.json"])  # what was chosen, after the trials that it was chosen among
        self._send(["results.parquet"])
        self._send(local_files(self.folder, "report"))
        self._remove_gone("report/")

    # -- one file -----------------------------------------------------------------------------------------------

    def _send(self, names: Sequence[str]) -> bool:
        """Uploads those of the files that changed; False where one of them is gone."""
        there = [(name, stamp) for name in names if (stamp := Stamp.of(self.folder / name)) is not None]

        def one(file: tuple[str, Stamp]) -> None:
            name, stamp = file
            try:
                self.place.upload(self.folder / name, name)
            except FileNotFoundError:
                if (self.folder / name).exists():
                    raise  # it is the store that misses something
                return
            self.manifest.add(name, stamp)

        in_parallel(self.place, one, [file for file in there if not self.manifest.sent(*file)])
        return all(self.manifest.sent(name, Stamp.of(self.folder / name)) for name in names)

    def _snapshot(self, name: str) -> Snapshot | None:
        path = self.folder / name
        stamp = Stamp.of(path)
        try:
            return Snapshot(name, stamp, path.read_bytes()) if stamp is not None else None
        except FileNotFoundError:
            return None

    def _put(self, snapshot: Snapshot) -> None:
        if not self.manifest.sent(snapshot.name, snapshot.stamp):
            self.place.write(snapshot.name, snapshot.content)
            self.manifest.add(snapshot.name, snapshot.stamp)

    def _remove_gone(self, part: str) -> None:
        """Removes from the store what is no longer here, heartbeats aside; checkpoints after their hashes."""
        gone = [n for n in self.manifest.names(part) if not n.endswith(HEARTBEAT) and not (self.folder / n).exists()]
        for name in sorted(gone, key=lambda name: not is_hash(name)):
            self._remove(name)

    def _remove(self, name: str) -> None:
        self.place.remove(name)
        self.manifest.drop(name)

    def _tell(self, error: Exception) -> None:
        """Says it once, until an upload has gone well again."""
        if self.problem is None:
            console.note(
                f"{self.place}: cannot be written ({cause_of(error)}); the run goes on in {self.folder} and the upload "
                f"is tried again every {SYNC_SECONDS:.0f} s"
            )
        self.problem = cause_of(error)


def _status(record: Snapshot) -> str:
    """What a record says; nothing where it is damaged, which whoever reads the trial is told."""
    try:
        found = json.loads(record.content)
    except ValueError:
        return ""
    return str(found.get("status", "")) if isinstance(found, dict) else ""


def is_temporary(name: str) -> bool:
    """Whether a file of the store is what an upload left that did not end."""
    last = name.rpartition("/")[2]
    return last.startswith(".") and last.endswith(".tmp")


def set_aside(folder: Path) -> Path:
    """Moves what is in `folder` to a new folder beside it. The folder itself stays: it is locked."""
    number = 1
    while (aside := folder.with_name(f"{folder.name}.aside-{number}")).exists():
        number += 1
    aside.mkdir()
    for path in folder.iterdir():
        if path.name != ".lock":
            path.rename(aside / path.name)
    return aside
