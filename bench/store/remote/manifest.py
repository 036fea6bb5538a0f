"""The manifest of a mirrored folder, `.remote.json`: the files that the folder and the store have in common.

A file counts as common while its local size and modification time are those of its last transfer.
"""

import re
from collections.abc import Collection
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

Stamp = tuple[int, int]
"""A local file's size in bytes and its modification time in nanoseconds since 1970."""
UNKNOWN: Stamp = (-1, -1)
"""The stamp of a file whose content in the store is not known."""


def stamp_of(path: Path) -> Stamp | None:
    """The stamp of a file; None if there is no file."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_size, status.st_mtime_ns


class Manifest:
    """The record of the files of a local folder that the store has too.

    Args:
        folder: the local folder.

    Attributes:
        copy: an identity of the folder, which the store's lease names too; None until the first complete fetch.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        content = read_json(folder / FILE) or {"copy": None, "files": {}}
        self.copy: str | None = content["copy"]
        self._files: dict[str, tuple[Stamp, str | None]] = {
            name: ((size, time), mark) for name, (size, time, mark) in content["files"].items()
        }

    def save(self) -> None:
        """Writes the manifest into the folder."""
        files = {name: (*stamp, mark) for name, (stamp, mark) in self._files.copy().items()}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / FILE, {"copy": self.copy, "files": files}, durable=False)

    def add(self, name: str, stamp: Stamp, mark: str | None = None) -> None:
        """Records that the store has a file as it is locally.

        Args:
            name: the file's path in the folder.
            stamp: the local file's stamp.
            mark: the store's mark of that content (see `ListedFile`); None if unknown.
        """
        self._files[name] = (stamp, mark)

    def drop(self, name: str) -> None:
        """Records that the store no longer has a file, or has changed it."""
        self._files.pop(name, None)

    def names(self, prefix: str = "") -> list[str]:
        """The recorded files whose paths start with `prefix`."""
        return [name for name in list(self._files) if name.startswith(prefix)]

    def sent(self, name: str, stamp: Stamp | None) -> bool:
        """Whether the store has the local file in its present state, given by its stamp."""
        return name in self._files and self._files[name][0] == stamp

    def current(self, name: str, entry: ListedFile) -> bool:
        """Whether the local file equals the store's file as listed."""
        return self.sent(name, stamp_of(self.folder / name)) and self._files[name][1] == entry.mark

    def drop_lost(self, listed: dict[str, ListedFile]) -> None:
        """Drops the files that a listing of the store lacks or holds with another size."""
        for name, (stamp, _) in list(self._files.items()):
            if name not in listed or listed[name].size not in (None, stamp[0]):
                self.drop(name)

    def pending(self) -> list[str]:
        """Local files to upload: new or changed ones, without heartbeats and checkpoints that lack a hash."""
        names = local_files(self.folder)
        left_out = unfinished(names)
        wanted = (name for name in names if not name.endswith(HEARTBEAT) and name not in left_out)
        return [name for name in wanted if not self.sent(name, stamp_of(self.folder / name))]


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
    if not RUN_FILES.fullmatch(name) or ("/checkpoint/" in name and point_of(name) < 0):
        return False
    parts = name.split("/")
    return not any(part.startswith(".") or part == "workers" or part.endswith(DAMAGED) for part in parts)


def is_checkpoint(name: str) -> bool:
    """Whether a file is a checkpoint."""
    return point_of(name) >= 0 and name.endswith(".pt")


def hash_of(checkpoint: str) -> str:
    """The path of a checkpoint's hash."""
    return f"{checkpoint.removesuffix('.pt')}.sha256"


def unfinished(names: Collection[str]) -> set[str]:
    """The checkpoints among `names` without their hash, which is written once a checkpoint is complete."""
    return {name for name in names if is_checkpoint(name) and hash_of(name) not in names}
