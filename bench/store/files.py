"""Atomic writing of files (temporary file, fsync, rename), and reading of JSON and JSON lines."""

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.stopping import heeded

UNFINISHED = ".*.tmp"
"""Names of temporary files; one that no process is writing was left by a killed process."""


def write_atomically(path: Path, write: Callable[[Path], None], durable: bool = True) -> None:
    """Has `write` fill a temporary file next to `path`, then renames it over `path`.

    Args:
        path: the file; its folder must exist.
        write: writes the content to the path that it is given.
        durable: whether to wait until the content is on the disk.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with heeded():  # a writer that swallowed a stop may have written only a part
            write(temporary)
        if durable:
            _sync(temporary)
        temporary.replace(path)
        if durable:
            _sync(path.parent)
    except OSError as error:
        error.filename = error.filename or str(path)  # some libraries leave it out
        raise
    finally:
        temporary.unlink(missing_ok=True)


def try_to_write(folder: Path) -> None:
    """Writes and removes a small file in `folder`.

    Raises:
        OSError: the folder is missing or full, or may not be written to.
    """
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(4096))
        file.flush()
        os.fsync(file.fileno())


def remove_unfinished(paths: Iterable[Path]) -> None:
    """Removes temporary files, matched by `UNFINISHED`, of killed writers; the caller must be the only writer."""
    for path in paths:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str, durable: bool = True) -> None:
    """Writes UTF-8 text atomically."""
    write_atomically(path, lambda temporary: _write(temporary, text), durable)


def write_json(path: Path, value: Any, durable: bool = True) -> None:
    """Writes indented JSON atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n", durable)


def read_json(path: Path) -> Any:
    """The file's JSON value; None if the file cannot be read or is no JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def as_line(value: Any) -> str:
    """A JSON value as one line of text, with its newline."""
    return json.dumps(value, ensure_ascii=False) + "\n"


def append_line(path: Path, value: Any) -> None:
    """Appends one JSON value as a line, and waits until it is on the disk."""
    with path.open("a", encoding="utf-8") as file:
        file.write(as_line(value))
        file.flush()
        os.fsync(file.fileno())


@dataclass(frozen=True)
class Line:
    """A line of a file with one JSON value per line.

    Attributes:
        number: the line's number, from 1.
        value: the JSON value; None if the line is no JSON.
        wrong: "" for a valid line; "is torn" for a last line that a killed writer left unfinished; else "is damaged".
    """

    number: int
    value: Any
    wrong: str = ""


def read_lines(path: Path) -> list[Line]:
    """The lines of a file that are not blank; an empty list if there is no file.

    Raises:
        OSError: the file cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        return []
    result = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            result.append(Line(number, json.loads(line)))
        except (ValueError, RecursionError):
            result.append(Line(number, None, "is torn" if number == len(lines) else "is damaged"))
    return result


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        if not path.is_dir():  # some file systems cannot sync a folder
            raise
    finally:
        os.close(descriptor)


def slug(text: str, limit: int = 40) -> str:
    """A text as part of a file's name; distinct texts give distinct names."""
    plain = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:limit].strip("-")
    if plain == text.replace(" ", "-") and "-" not in text:
        return plain
    return f"{plain}-{hashlib.sha256(text.encode()).hexdigest()[:6]}".lstrip("-")
