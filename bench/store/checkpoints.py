"""A trial's checkpoints: a dictionary of plain values and tensors, its SHA-256 beside it, the last two kept.

The hash is verified before a checkpoint is read. One that is damaged, or ahead of curve or evaluation, is set aside,
and the one before it is used. One that is whole but cannot be read, for lack of memory or of file handles or by another
version of torch, stays where it is and ends the attempt: to go on without it would be to cut the curve back. Loading is
`weights_only`, so a checkpoint cannot run code.
"""

import hashlib
import re
import warnings
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

from bench.errors import BenchError, cause_of, one_line, ran_out_of_memory
from bench.store.files import write_atomically, write_text

KEPT = 2
DAMAGED, AHEAD = ".damaged", ".ahead"
"""Suffixes of checkpoints that were set aside."""


def save_checkpoint(folder: Path, payload: dict[str, Any]) -> Path:
    """Writes a checkpoint and removes those before the last two.

    Args:
        folder: the trial's `checkpoint/`.
        payload: plain values and tensors, at any depth; its `point`, the curve's last, orders checkpoints.
    """
    import torch

    def save(temporary: Path) -> None:
        with temporary.open("wb") as file:  # writing to a path itself, torch would not say that the disk is full
            torch.save(payload, file)

    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"point-{payload['point']:04d}.pt"
    # The hash goes last: a checkpoint without one was never finished.
    _hash_file(path).unlink(missing_ok=True)
    write_atomically(path, save)
    write_text(_hash_file(path), _sha256(path) + "\n")
    for old in _checkpoints(folder)[:-KEPT]:
        old.unlink(missing_ok=True)
        _hash_file(old).unlink(missing_ok=True)
    return path


def load_checkpoint(
    folder: Path, points: Container[int] | None = None, tell: Callable[[str, str], None] | None = None
) -> dict[str, Any] | None:
    """The payload of the newest sound checkpoint; None where there is none.

    Args:
        folder: the trial's `checkpoint/`.
        points: those that curve and evaluation hold; None: do not ask. A checkpoint of another point came here without
            what belongs to it, and going on from it would leave a gap for good.
        tell: is told the name of a checkpoint that is set aside, and why; a warning by default.

    Raises:
        OSError: a checkpoint cannot be read now.
        MemoryError: there is no room for it now; where torch notices, a RuntimeError that says so.
        BenchError: one that is whole cannot be understood here. It stays, as do those before it.
    """
    import torch

    for path in reversed(_checkpoints(folder)):
        if points is not None and point_of(path.name) not in points:
            _set_aside(path, AHEAD, "is of a point that curve or evaluation lacks", tell)
            continue
        damage = _damage(path)
        if damage:
            _set_aside(path, DAMAGED, f"is damaged ({damage})", tell)
            continue
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except (OSError, MemoryError):
            raise
        except Exception as error:
            if ran_out_of_memory(cause_of(error)):
                raise
            what = f"is whole and cannot be read here ({one_line(cause_of(error), 80)})"
            do = "continue with the torch that wrote it, or remove it and those beside it to begin the trial anew"
            raise BenchError(what, f"{folder.name}/{path.name}", do) from error
    return None


def point_of(name: str) -> int:
    """The point that a checkpoint's file, or its hash's, is named by; −1 for any other file.

    Args:
        name: with or without the folders that it lies in.
    """
    found = re.fullmatch(r"point-(\d+)\.(?:pt|sha256)", name.rpartition("/")[2])
    return int(found[1]) if found else -1


def _checkpoints(folder: Path) -> list[Path]:
    """The oldest first. By number, as `point-10000` comes before `point-9999` in the alphabet."""
    found = (path for path in folder.glob("point-*.pt") if point_of(path.name) >= 0)
    return sorted(found, key=lambda path: point_of(path.name))


def _damage(path: Path) -> str | None:
    try:
        expected = _hash_file(path).read_text(encoding="utf-8", errors="replace").strip()
    except FileNotFoundError:
        return "it has no SHA-256"
    return None if _sha256(path) == expected else "its SHA-256 does not match"


def _set_aside(path: Path, suffix: str, why: str, tell: Callable[[str, str], None] | None) -> None:
    aside = path.with_suffix(suffix)
    path.replace(aside)
    _hash_file(path).unlink(missing_ok=True)
    done = f"{why}; it is set aside as {aside.name} and the one before it is used"
    if tell is None:
        warnings.warn(f"{path} {done}", stacklevel=3)
    else:
        tell(path.name, done)


def _hash_file(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
