"""Mirroring of a local folder to a store while a run works in the folder."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

from bench import console
from bench.background import repeating
from bench.errors import BenchError, cause_of
from bench.store.checkpoints import point_of
from bench.store.files import read_json
from bench.store.heartbeat import HEARTBEAT
from bench.store.remote.fetching import fetch, in_parallel
from bench.store.remote.lease import PULSE_SECONDS, Lease
from bench.store.remote.manifest import (
    UNKNOWN,
    Manifest,
    Stamp,
    hash_of,
    is_checkpoint,
    is_run_file,
    local_files,
    stamp_of,
)
from bench.store.remote.place import Place, out_of_reach
from bench.store.run_folder import TUNING
from bench.store.status import Status

SYNC_SECONDS = 30.0
RUNS = ("", f"{TUNING}/")
"""Paths, in the folder, of the run itself and of the run that tunes its methods."""

GIVE_UP_AFTER = 3
"""After so many failed uploads in a row, the store is taken to be at fault, and the round of uploads ends."""


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

    # -- the run's life -----------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Takes the lease and makes the folder equal to the store; see `mirrored`."""
        try:
            own = self.manifest.copy is not None and self.manifest.copy == self.lease.last().get("copy")
            copy = self.manifest.copy if own and self.manifest.copy else uuid.uuid4().hex
            self.lease.acquire(copy)
        except BenchError:
            raise
        except Exception as error:
            raise out_of_reach(self.place.url, "written", error) from error
        try:
            listed = self.place.listing()
            for name in listed:
                if name.endswith(".tmp"):  # left by an unfinished upload
                    self.place.remove(name)
            if own or not any(map(is_run_file, listed)):  # what the store lost is yet to be uploaded, or set aside
                self.manifest.drop_lost(listed)
            if not own:  # another folder was mirrored since
                self._take_over(copy)
        except Exception as error:
            self._release()
            raise out_of_reach(self.place.url, "read", error) from error

    def end(self) -> None:
        """Uploads the remaining files and releases the lease; `left` then names files that could not be uploaded."""
        self.sync()
        self.pulse()
        self._release()

    def left(self) -> list[str]:
        """Local files that are not yet uploaded in their present state."""
        return self.manifest.pending()

    def _take_over(self, copy: str) -> None:
        """Makes the folder equal to the store; local files that were never uploaded are set aside."""
        if self.manifest.pending():
            aside = set_aside(self.folder)
            console.note(f"{aside} keeps the local files that were never uploaded; the run continues from {self.place}")
            self.manifest = Manifest(self.folder)
        fetch(self.place, self.manifest)
        self.manifest.copy = copy  # only now: until then another attempt must fetch the rest
        self.manifest.save()

    def _release(self) -> None:
        with suppress(Exception):  # the lease goes stale by itself
            self.lease.release()

    # -- in the background --------------------------------------------------------------------------------------

    def pulse(self) -> None:
        """Renews the lease and uploads heartbeats, even during a long upload of other files. Never raises."""
        try:
            if self.lease.confirm():
                self._send([f"{trial}/{HEARTBEAT}" for trial in self._trials()])
        except Exception as error:
            self._report_failure(error)

    def sync(self) -> None:
        """Uploads changed files: the plan, the trials, the search, results and reports. Never raises."""
        plans = [f"{run}{name}" for run in RUNS for name in ("sweep.yaml", "plan.json")]
        steps: list[Callable[[], object]] = [partial(self._send, [name]) for name in plans]
        steps += [partial(self._upload_trial, trial) for trial in self._trials()]
        failed, in_a_row = False, 0
        try:
            if not self.lease.confirm():
                return
            for step in [*steps, self._upload_results]:
                try:
                    step()
                    in_a_row = 0
                except Exception as error:
                    self._report_failure(error)
                    failed, in_a_row = True, in_a_row + 1
                if in_a_row == GIVE_UP_AFTER or self.lease.lost_to:
                    break
            self.manifest.save()
        except Exception as error:
            self._report_failure(error)
            return
        if not failed:
            self.problem = None

    def _trials(self) -> list[str]:
        folders = [path for run in RUNS for path in self.folder.glob(f"{run}trials/*/")]
        return sorted(path.relative_to(self.folder).as_posix() for path in folders)

    def _upload_trial(self, trial: str) -> None:
        """Uploads a trial in an order that leaves the store resumable at any moment.

        The trial may go on meanwhile. So what names other files is read first (the record, then the checkpoints'
        hashes) and uploaded last. What is gone is removed at the end: checkpoints only if a later one is in the store,
        the heartbeat only if the record no longer says "running", as such a trial would read as interrupted.
        """
        gone = [name for name in self._gone(f"{trial}/") if not name.endswith(HEARTBEAT)]
        record, curve = f"{trial}/trial.json", f"{trial}/curve.jsonl"
        status, content = (read_json(self.folder / record) or {}).get("status"), self._content(record)
        files = local_files(self.folder, trial)
        hashes = {name: self._content(hash_of(name)) for name in files if is_checkpoint(name)}
        last = {record, curve, *(name for name in files if point_of(name) >= 0 or name.endswith(HEARTBEAT))}
        self._send([name for name in files if name not in last])
        self._send([curve])
        finished = [name for name, hash_ in hashes.items() if hash_ and self._send([name])]
        for name in finished:
            self._put(hash_of(name), hashes[name])
        self._put(record, content)
        if status != Status.RUNNING:
            gone += self._gone(f"{trial}/{HEARTBEAT}")
        if finished or not hashes:
            self._remove(gone)

    def _upload_results(self) -> None:
        self._send([f"{TUNING}/search.json"])  # after the trials that the search compared
        self._send(["results.parquet"])
        self._send(local_files(self.folder, "report"))
        self._remove(self._gone("report/"))

    # -- files --------------------------------------------------------------------------------------------------

    def _send(self, names: Sequence[str]) -> bool:
        """Uploads those of the files that changed; returns False if one of the files did not exist."""
        stamps = {name: stamp for name in names if (stamp := stamp_of(self.folder / name))}

        def send_one(name: str) -> None:
            self.manifest.add(name, UNKNOWN)  # the store may have the file even if its upload fails
            try:
                self.place.upload(self.folder / name, name)
            except FileNotFoundError:
                if (self.folder / name).exists():
                    raise  # a folder is missing in the store
                return
            self.manifest.add(name, stamps[name])

        in_parallel(self.place, send_one, [name for name in stamps if not self.manifest.sent(name, stamps[name])])
        return all(name in stamps and self.manifest.sent(name, stamps[name]) for name in names)

    def _content(self, name: str) -> tuple[Stamp, bytes] | None:
        """The present stamp and content of a small file; None if there is no such file."""
        with suppress(FileNotFoundError):
            stamp, content = stamp_of(self.folder / name), (self.folder / name).read_bytes()
            return (stamp, content) if stamp else None
        return None

    def _put(self, name: str, content: tuple[Stamp, bytes] | None) -> None:
        """Uploads what `_content` returned, unless the store has it."""
        if content and not self.manifest.sent(name, content[0]):
            self.manifest.add(name, UNKNOWN)
            self.place.write(name, content[1])
            self.manifest.add(name, content[0])

    def _gone(self, part: str) -> list[str]:
        """The files of the store, with paths that start with `part`, that no longer exist locally."""
        return [name for name in self.manifest.names(part) if not (self.folder / name).exists()]

    def _remove(self, names: Sequence[str]) -> None:
        for name in names:
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
