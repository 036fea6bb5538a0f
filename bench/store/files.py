"""Files that are either whole or not there: temporary file, fsync, rename."""

import json
import os
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.stopping import heeded

UNFINISHED = ".*.tmp"
"""Names of temporary files; one that lies there when nobody writes was left by a process that was killed."""


def write_atomically(path: Path, write: Callable[[Path], None], durable: bool = True) -> None:
    """Has `write` fill a temporary file beside `path`, then renames it over `path`.

    Args:
        path: the file; its folder must exist.
        write: writes the file it is given.
        durable: whether to wait until the content is on the disk.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with heeded():  # a writer that lost a stop has perhaps written a part
            write(temporary)
        if durable:
            _sync(temporary)
        temporary.replace(path)
        if durable:
            _sync(path.parent)
    except OSError as error:
        error.filename = error.filename or str(path)  # libraries leave it out
        raise
    finally:
        temporary.unlink(missing_ok=True)


def try_to_write(folder: Path) -> None:
    """Writes a little in `folder`, and leaves nothing.

    Raises:
        OSError: it cannot be written: no right, no room, no such folder.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(4096))
        file.flush()
        os.fsync(file.fileno())


def remove_unfinished(found: Iterable[Path]) -> None:
    """Removes what killed writers left, found by `UNFINISHED`; the caller is the only writer there."""
    for path in found:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str, durable: bool = True) -> None:
    """Atomically writes UTF-8 text."""
    write_atomically(path, lambda temporary: _write(temporary, text), durable)


def write_json(path: Path, value: Any, durable: bool = True) -> None:
    """Atomically writes indented JSON."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", durable)


def read_json(path: Path) -> Any:
    """The file's content, None where it is not there or is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def as_line(value: Any) -> str:
    """A JSON value as a line of a file."""
    return json.dumps(value, ensure_ascii=False) + "\n"


def append_line(path: Path, value: Any) -> None:
    """Appends one JSON value as a line, and waits until it is on the disk."""
    with path.open("a", encoding="utf-8") as file:
        file.write(as_line(value))
        file.flush()
        os.fsync(file.fileno())


@dataclass(frozen=True)
class Line:
    """A line of a file of JSON values.

    Attributes:
        number: from 1.
        value: None where it is no JSON.
        wrong: "" for a whole one; "is torn" for a last one that a killed writer leaves; "is damaged".
    """

    number: int
    value: Any
    wrong: str = ""


def read_lines(path: Path) -> list[Line]:
    """The lines of a file that are not blank; none where there is no file.

    Raises:
        OSError: it cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        return []
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(Line(number, json.loads(line)))
        except (ValueError, RecursionError):
            found.append(Line(number, None, "is torn" if number == len(lines) else "is damaged"))
    return found


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some file systems cannot sync one
            raise
    finally:
        os.close(descriptor)
