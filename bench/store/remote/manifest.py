"""The manifest of a mirrored folder, `.remote.json`: the files that the folder and the store have in common.

A file counts as common while its local size and modification time are those of its last transfer.
"""

import re
import threading
from dataclasses import dataclass
from pathlib import Path

from bench.store.checkpoints import DAMAGED, point_of
from bench.store.files import read_json, write_json
from bench.store.heartbeat import HEARTBEAT
from bench.store.remote.place import ListedFile
from bench.store.run_folder import TUNING

FILE = ".remote.json"

RUN_FILES = re.compile(
    rf"({TUNING}/)?(sweep\.yaml|plan\.json|trials/[^/]+/.+)|{TUNING}/search\.json|results\.parquet|report/.+"
)
"""Paths, in a run's folder, of the files that make up a run."""

CHECKPOINT_FILES = re.compile(rf"({TUNING}/)?trials/[^/]+/checkpoint/.+")


@dataclass(frozen=True)
class Stamp:
    """A local file's size in bytes and its modification time in nanoseconds since 1970."""

    size: int
    time: int

    @classmethod
    def of(cls, path: Path) -> "Stamp | None":
        """The stamp of a file; None if there is no file."""
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return cls(status.st_size, status.st_mtime_ns)


class Manifest:
    """The record of the files of a local folder that the store has too.

    Args:
        folder: the local folder.

    Attributes:
        exists: whether the folder has a manifest.
        copy: an identity of the folder, which the store's lease names too; None until the first complete fetch.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        stored = _read_manifest(folder / FILE)
        self.exists = stored is not None
        self.copy, self._files = stored or (None, {})
        self._lock = threading.Lock()

    def save(self) -> None:
        """Writes the manifest into the folder."""
        with self._lock:
            files = {name: (stamp.size, stamp.time, mark) for name, (stamp, mark) in self._files.items()}
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / FILE, {"copy": self.copy, "files": files}, durable=False)
            self.exists = True

    def add(self, name: str, stamp: Stamp, mark: str | None = None) -> None:
        """Records that the store has a file as it is locally.

        Args:
            name: the file's path in the folder.
            stamp: the local file's stamp.
            mark: the store's mark of that content (see `ListedFile`); None if unknown.
        """
        with self._lock:
            self._files[name] = (stamp, mark)

    def drop(self, name: str) -> None:
        """Records that the store no longer has a file, or has changed it."""
        with self._lock:
            self._files.pop(name, None)

    def names(self, prefix: str = "") -> list[str]:
        """The recorded files whose paths start with `prefix`."""
        with self._lock:
            return [name for name in self._files if name.startswith(prefix)]

    def size(self, name: str) -> int:
        """The bytes of a recorded file at its last transfer."""
        return self._files[name][0].size

    def sent(self, name: str, stamp: Stamp | None) -> bool:
        """Whether the store has the local file in its present state, given by its stamp."""
        return stamp is not None and name in self._files and self._files[name][0] == stamp

    def current(self, name: str, entry: ListedFile) -> bool:
        """Whether the local file equals the store's file as listed."""
        if entry.mark is None or name not in self._files:
            return False
        return self._files[name][1] == entry.mark and self.sent(name, Stamp.of(self.folder / name))

    def pending(self) -> list[str]:
        """Local files to upload: new or changed ones, without heartbeats and checkpoints that lack a hash."""
        names = local_files(self.folder)
        unfinished = {name for name in names if is_checkpoint(name)} - {checkpoint_of(n) for n in names if is_hash(n)}
        wanted = (name for name in names if not name.endswith(HEARTBEAT) and name not in unfinished)
        return [name for name in wanted if not self.sent(name, Stamp.of(self.folder / name))]


def _read_manifest(path: Path) -> tuple[str | None, dict[str, tuple[Stamp, str | None]]] | None:
    """The copy's identity and the recorded files; None if the manifest is missing or damaged."""
    content = read_json(path)
    try:
        files = {name: (Stamp(int(size), int(time)), mark) for name, (size, time, mark) in content["files"].items()}
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
    copy = content.get("copy")
    return copy if isinstance(copy, str) else None, files


def local_files(folder: Path, below: str = "") -> list[str]:
    """The files below `folder / below` that belong to a run, as sorted paths relative to `folder`."""
    names = (path.relative_to(folder).as_posix() for path in (folder / below).rglob("*") if path.is_file())
    return sorted(name for name in names if is_run_file(name))


def is_run_file(name: str) -> bool:
    """Whether a file belongs to a run, so that `Mirror.sync` uploads it.

    Locks, temporary files, files of a group's workers, and checkpoints and damaged files that were set aside do not
    belong to it; like any other file in the folder, they stay on this machine. So does MLflow's database: a copy made
    while it is written would be damaged, and it refers to its pictures by paths of this machine.
    """
    if not RUN_FILES.fullmatch(name) or (CHECKPOINT_FILES.fullmatch(name) and point_of(name) < 0):
        return False
    parts = name.split("/")
    return not any(part.startswith(".") or part == "workers" or part.endswith(DAMAGED) for part in parts)


def is_hash(name: str) -> bool:
    """Whether a file is a checkpoint's hash, which is written once the checkpoint is complete."""
    return point_of(name) >= 0 and name.endswith(".sha256")


def is_checkpoint(name: str) -> bool:
    """Whether a file is a checkpoint."""
    return point_of(name) >= 0 and name.endswith(".pt")


def checkpoint_of(name: str) -> str:
    """The path of the checkpoint that belongs to a hash."""
    return f"{name.removesuffix('.sha256')}.pt"
