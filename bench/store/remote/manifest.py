"""What a local folder and the store have in common: `.remote.json` in the folder.

A file is known while its local size and time of change are those it had when it was moved.
"""

import re
import threading
from dataclasses import dataclass
from pathlib import Path

from bench.store.checkpoints import DAMAGED, point_of
from bench.store.files import read_json, write_json
from bench.store.remote.place import Entry
from bench.store.run_folder import TUNING

FILE = ".remote.json"
HEARTBEAT = "heartbeat.json"
"""Goes its own way, and more often (`Mirror.pulse`)."""

OF_A_RUN = re.compile(
    rf"({TUNING}/)?(sweep\.yaml|plan\.json|trials/[^/]+/.+)|{TUNING}/search\.json|results\.parquet|report/.+"
)
"""The files that a run is made of, by their path in it."""

OF_CHECKPOINTS = re.compile(rf"({TUNING}/)?trials/[^/]+/checkpoint/.+")


@dataclass(frozen=True)
class Stamp:
    """A local file's size in bytes and its time of change in nanoseconds."""

    size: int
    time: int

    @classmethod
    def of(cls, path: Path) -> "Stamp | None":
        """None where there is no file."""
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return cls(found.st_size, found.st_mtime_ns)


class Manifest:
    """The files of `folder` that the store has too.

    Args:
        folder: the local one.

    Attributes:
        copy: an identity of this folder that the store's lease names too; None before it was first complete.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        kept = _kept(folder / FILE)
        self.exists = kept is not None
        self.copy, self._known = kept or (None, {})
        self._lock = threading.Lock()

    def save(self) -> None:
        """Keeps it in the folder."""
        with self._lock:
            files = {name: (stamp.size, stamp.time, mark) for name, (stamp, mark) in self._known.items()}
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / FILE, {"copy": self.copy, "files": files}, durable=False)
            self.exists = True

    def add(self, name: str, stamp: Stamp, mark: str | None = None) -> None:
        """`name` with this stamp is in the store.

        Args:
            mark: the store's own of that content, where it is known.
        """
        with self._lock:
            self._known[name] = (stamp, mark)

    def drop(self, name: str) -> None:
        """`name` is not in the store, or not as it was."""
        with self._lock:
            self._known.pop(name, None)

    def names(self, prefix: str = "") -> list[str]:
        """What the store has, as far as is known here."""
        with self._lock:
            return [name for name in self._known if name.startswith(prefix)]

    def size(self, name: str) -> int:
        """Bytes of a file when it was moved."""
        return self._known[name][0].size

    def sent(self, name: str, stamp: Stamp | None) -> bool:
        """Whether the store has the local file as it is."""
        return stamp is not None and name in self._known and self._known[name][0] == stamp

    def current(self, name: str, entry: Entry) -> bool:
        """Whether the local file is the store's as it is listed."""
        if entry.mark is None or name not in self._known:
            return False
        return self._known[name][1] == entry.mark and self.sent(name, Stamp.of(self.folder / name))

    def pending(self) -> list[str]:
        """Local files that the store has not, or not as they are; heartbeats and checkpoints without a hash aside."""
        names = local_files(self.folder)
        unfinished = {name for name in names if is_checkpoint(name)} - {checkpoint_of(n) for n in names if is_hash(n)}
        wanted = (name for name in names if not name.endswith(HEARTBEAT) and name not in unfinished)
        return [name for name in wanted if not self.sent(name, Stamp.of(self.folder / name))]


def _kept(path: Path) -> tuple[str | None, dict[str, tuple[Stamp, str | None]]] | None:
    """The copy's identity and the known files; None without a manifest, and for a damaged one, which knows nothing."""
    found = read_json(path)
    try:
        files = {name: (Stamp(int(size), int(time)), mark) for name, (size, time, mark) in found["files"].items()}
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
    copy = found.get("copy")
    return copy if isinstance(copy, str) else None, files


def local_files(folder: Path, below: str = "") -> list[str]:
    """The files below `folder / below` that a store should have, by their paths from `folder`, sorted."""
    names = (path.relative_to(folder).as_posix() for path in (folder / below).rglob("*") if path.is_file())
    return sorted(name for name in names if belongs(name))


def belongs(name: str) -> bool:
    """Whether a file belongs into the store, which is whether `Mirror.sync` sends it.

    It is one of those that a run is made of, and no lock, no temporary file, nothing of a worker's, no checkpoint and
    no damaged file that was set aside. Whatever else lies in the folder stays on this machine. So does MLflow's
    database: copied while it is written to it would be torn, and it names its pictures by this machine's paths.
    """
    if not OF_A_RUN.fullmatch(name) or (OF_CHECKPOINTS.fullmatch(name) and point_of(name) < 0):
        return False
    parts = name.split("/")
    return not any(part.startswith(".") or part == "workers" or part.endswith(DAMAGED) for part in parts)


def is_hash(name: str) -> bool:
    """Whether a file is a checkpoint's hash, which says that the checkpoint is whole."""
    return point_of(name) >= 0 and name.endswith(".sha256")


def is_checkpoint(name: str) -> bool:
    """Whether a file is a checkpoint."""
    return point_of(name) >= 0 and name.endswith(".pt")


def checkpoint_of(name: str) -> str:
    """The checkpoint that a hash is of."""
    return f"{name.removesuffix('.sha256')}.pt"
