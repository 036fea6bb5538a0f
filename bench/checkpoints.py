"""A trial's checkpoints: a dictionary of plain values and tensors, its SHA-256 beside it, the last two kept.

The hash is verified before a checkpoint is read; a damaged one is set aside and the one before it is used. Loading
is `weights_only`, so a checkpoint cannot run code.
"""

import hashlib
import warnings
from pathlib import Path
from typing import Any

from bench.errors import cause_of
from bench.files import write_atomically, write_text

KEPT = 2


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


def load_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The payload of the newest sound checkpoint; None where there is none."""
    import torch

    for path in reversed(_checkpoints(folder)):
        try:
            expected = _hash_file(path).read_text(encoding="utf-8").strip()
            if _sha256(path) != expected:
                raise ValueError("its SHA-256 does not match")
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            aside = path.with_suffix(".damaged")
            path.replace(aside)
            _hash_file(path).unlink(missing_ok=True)
            warnings.warn(
                f"{path} is damaged ({cause_of(error)}); it is set aside as {aside.name} and the one before it is used",
                stacklevel=2,
            )
    return None


def _checkpoints(folder: Path) -> list[Path]:
    return sorted(folder.glob("point-*.pt"))


def _hash_file(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
