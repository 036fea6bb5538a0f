"""Damage to the files of a run, and what was done about it.

A file may be lost in part: a disk failed, a copy was cut short, somebody edited it. Readers use the intact parts and
report the rest as `Damage`; nothing is dropped silently.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Damage:
    """Damage to one file.

    Attributes:
        file: the file's path in the trial's or the run's folder, with the line's number if it has one: `curve.jsonl:3`.
        what: the damage: "is missing".
        done: the consequence: "recovered from settled.json".
        lost: whether only another training, by `bench run`, restores the file's content.
    """

    file: str
    what: str
    done: str
    lost: bool = False

    def __str__(self) -> str:
        return f"{self.file} {self.what}; {self.done}"


class DamagedFileError(Exception):
    """A file cannot be used. The message is a predicate to the file's name: "is empty"."""


def unreadable(path: Path) -> str | None:
    """The reason why a file cannot hold data ("is missing"); None if it may."""
    if path.is_dir():
        return "is a folder"
    if not path.exists():
        return "is missing"
    return "is empty" if path.stat().st_size == 0 else None
