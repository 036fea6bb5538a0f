"""A trial's checkpoints: a dictionary of plain values and tensors with a SHA-256 file; the last two are kept.

The hash is verified before a checkpoint is read. A checkpoint that is damaged, or whose point the curve or the
evaluation lacks, is set aside, and the one before it is used. An intact checkpoint that cannot be read (no memory, no
file handles, another version of torch) stays where it is and ends the attempt: training on without it would cut the
curve back. Checkpoints are loaded with `weights_only`, so they cannot run code.
"""

import hashlib
import re
import warnings
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

from bench.errors import BenchError, cause_of, one_line, ran_out_of_memory
from bench.store.files import write_atomically, write_text

KEPT_CHECKPOINTS = 2
DAMAGED, AHEAD = ".damaged", ".ahead"
"""Suffixes of checkpoints that were set aside, because of damage or because curve or evaluation lack their point."""


def save_checkpoint(folder: Path, payload: dict[str, Any]) -> Path:
    """Writes a checkpoint and removes all checkpoints but the last two.

    Args:
        folder: the trial's `checkpoint/`.
        payload: plain values and tensors, at any depth; its `point`, the number of the curve's last point, orders
            checkpoints.
    """
    import torch

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:  # given a path, torch does not report a full disk
            torch.save(payload, file)

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"point-{payload['point']:04d}.pt"
    # The hash goes last: a checkpoint without one was never finished.
    _hash_file(path).unlink(missing_ok=True)
    write_atomically(path, save)
    write_text(_hash_file(path), _sha256(path) + "\n")
    for old in _checkpoints(folder)[:-KEPT_CHECKPOINTS]:
        old.unlink(missing_ok=True)
        _hash_file(old).unlink(missing_ok=True)
    return path


def load_checkpoint(
    folder: Path, points: Container[int] | None = None, on_set_aside: Callable[[str, str], None] | None = None
) -> dict[str, Any] | None:
    """The payload of the newest usable checkpoint; None if there is none.

    Args:
        folder: the trial's `checkpoint/`.
        points: numbers of the points that both curve and evaluation hold; None accepts any point. Training on from a
            checkpoint of another point would leave a gap in the curve.
        on_set_aside: called with the name of each checkpoint that is set aside, and the reason; by default a warning
            is issued.

    Raises:
        OSError: a checkpoint cannot be read now.
        MemoryError: a checkpoint does not fit into memory now; torch may raise a RuntimeError instead.
        BenchError: an intact checkpoint cannot be loaded by this torch. It stays, as do the checkpoints before it.
    """
    import torch

    for path in reversed(_checkpoints(folder)):
        if points is not None and point_of(path.name) not in points:
            _set_aside(path, AHEAD, "is of a point that curve or evaluation lacks", on_set_aside)
            continue
        damage = _damage(path)
        if damage:
            _set_aside(path, DAMAGED, f"is damaged ({damage})", on_set_aside)
            continue
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, MemoryError):
            raise
        except Exception as error:
            if ran_out_of_memory(cause_of(error)):
                raise
            what = f"is intact and cannot be read here ({one_line(cause_of(error), 80)})"
            do = "continue with the torch that wrote it, or remove the trial's checkpoints to begin the trial anew"
            raise BenchError(what, f"{folder.name}/{path.name}", do) from error
    return None


def point_of(name: str) -> int:
    """The point's number in the name of a checkpoint or of its hash; −1 for any other file.

    Args:
        name: the file's name or path.
    """
    match = re.fullmatch(r"point-(\d+)\.(?:pt|sha256)", name.rpartition("/")[2])
    return int(match[1]) if match else -1


def _checkpoints(folder: Path) -> list[Path]:
    """The checkpoints, oldest first. Sorted by number: in the alphabet `point-10000` comes before `point-9999`."""
    paths = (path for path in folder.glob("point-*.pt") if point_of(path.name) >= 0)
    return sorted(paths, key=lambda path: point_of(path.name))


def _damage(path: Path) -> str | None:
    try:
        expected = _hash_file(path).read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return "it has no SHA-256"
    return None if _sha256(path) == expected else "its SHA-256 does not match"


def _set_aside(path: Path, suffix: str, why: str, on_set_aside: Callable[[str, str], None] | None) -> None:
    aside = path.with_suffix(suffix)
    path.replace(aside)
    _hash_file(path).unlink(missing_ok=True)
    done = f"{why}; it is set aside as {aside.name} and the one before it is used"
    if on_set_aside is None:
        warnings.warn(f"{path} {done}", stacklevel=3)
    else:
        on_set_aside(path.name, done)


def _hash_file(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
