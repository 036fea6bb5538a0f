"""What is wrong with the files of a run, and what was done about it.

A file may be lost in part: a disk failed, a copy was cut short, somebody edited it. Whoever reads one takes what is
whole and names the rest; nothing is dropped without a word.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Damage:
    """A file that is not what was written.

    Attributes:
        file: by its path in the trial's folder, or the run's; with the line where it has lines: `curve.jsonl:3`.
        what: what is the matter with it: "is no whole line".
        done: what follows: "recovered from settled.json".
        lost: whether only training again brings it back, which `bench run` does.
    """

    file: str
    what: str
    done: str
    lost: bool = False

    def __str__(self) -> str:
        return f"{self.file} {self.what}; {self.done}"


class DamagedFileError(Exception):
    """A file cannot be understood. The message goes on from the file's name: "is empty"."""


def unreadable(path: Path) -> str | None:
    """Why a file cannot hold anything that was written: None where it may."""
    if path.is_dir():
        return "is a folder"
    if not path.exists():
        return "is missing"
    return "is empty" if path.stat().st_size == 0 else None


def is_finite(value: Any) -> bool:
    """A number that can be calculated with."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


Check = Callable[[Any], bool]


def of(*kinds: type) -> Check:
    """Whether a value is of one of these types."""
    return lambda value: isinstance(value, kinds)
