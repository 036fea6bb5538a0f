"""Output of the verbs: tables for people, JSON for programs, notes, warnings and errors."""

import json
import math
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import takewhile, zip_longest
from pathlib import Path
from typing import Any

from rich.box import SIMPLE
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.errors import BenchError

PIPE_WIDTH = 200
"""Characters of a table's line if the output is no terminal."""
COLUMN_BORDER = 3
"""Characters of padding and border that a column of a table takes."""
MIN_LABEL = 12
"""Characters, at least, of the column with the row labels."""


def say(text: str = "") -> None:
    """Prints a line on standard output."""
    print(text, flush=True)


def note(text: str) -> None:
    """Prints a line about progress on standard error, so that standard output holds results alone."""
    print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """Prints a warning on standard error: something a person must know before reading the numbers."""
    note(f"warning: {text}")


def shown(path: Path) -> str:
    """The path relative to the working directory if it lies inside, else unchanged."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def say_json(value: Any) -> None:
    """Prints a value as JSON on standard output; a number that is not finite becomes null, as JSON has none."""
    print(json.dumps(_finite(value), indent=2, ensure_ascii=False, default=str, allow_nan=False), flush=True)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], right: Iterable[str] = ()) -> None:
    """Prints a table; in a terminal too narrow for all columns, as several tables below one another.

    The leading columns hold the row labels and are repeated in each of these tables. Arguments as for `as_table`.
    """
    cells = [[cell if isinstance(cell, str) else str(cell) for cell in row] for row in rows]
    aligned = set(right)
    if not sys.stdout.isatty():
        # In a pipe or a file each row is one line, so that it can be searched.
        Console(width=PIPE_WIDTH, highlight=False).print(as_table(columns, cells, aligned))
        return
    console = Console(highlight=False)
    for places, widths in _blocks(columns, cells, aligned, console.width):
        block = [[row[place] for place in places] for row in cells]
        console.print(as_table([columns[place] for place in places], block, aligned, widths))


def _blocks(
    columns: Sequence[str], rows: Sequence[Sequence[str]], aligned: Collection[str], width: int
) -> Iterator[tuple[list[int], list[int]]]:
    """Blocks of columns that fit in `width` without breaking a word: the places and the widths of their columns."""
    texts = [[column, *(row[place] for row in rows)] for place, column in enumerate(columns)]
    whole = [max(map(cell_len, "\n".join(text).split("\n"))) for text in texts]
    least = [min(max(map(cell_len, " ".join(text).split()), default=0), width - COLUMN_BORDER) for text in texts]

    def fits(places: Sequence[int]) -> bool:
        return sum(least[place] + COLUMN_BORDER for place in places) <= width

    labels = list(range(_label_count(columns, aligned)))
    others = [place for place in range(len(columns)) if place not in labels]
    while len(labels) > 1 and not all(fits([*labels, place]) for place in others):
        others.insert(0, labels.pop())
    if labels and others:  # a row label may wrap within words; it is never dropped
        widest = max(least[place] for place in others)
        least[labels[0]] = min(least[labels[0]], max(MIN_LABEL, width - widest - 2 * COLUMN_BORDER))
    block = list(labels)
    for place in range(len(labels), len(columns)):
        if len(block) > len(labels) and not fits([*block, place]):
            yield block, _widths(block, least, whole, width)
            block = list(labels)
        block.append(place)
    yield block, _widths(block, least, whole, width)


def _label_count(columns: Sequence[str], aligned: Collection[str]) -> int:
    """The number of leading columns that hold row labels: the first left-aligned ones, but never all columns."""
    first = 1 if columns and columns[0] in aligned else 0  # a rank may stand before the label
    left = list(takewhile(lambda column: column not in aligned, columns[first:]))
    return min(first + len(left), len(columns) - 1) if left else 0


def _widths(places: Sequence[int], least: Sequence[int], whole: Sequence[int], width: int) -> list[int]:
    """Widths of a block's columns: the least width of each, widened in turn up to the whole text while room is left."""
    widths = [least[place] for place in places]
    left = width - sum(widths) - COLUMN_BORDER * len(widths)
    while left > 0 and (short := [i for i, place in enumerate(places) if widths[i] < whole[place]]):
        for i in short[:left]:
            widths[i] += 1
        left -= min(left, len(short))
    return widths


def as_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    right: Iterable[str] = (),
    widths: Sequence[int | None] = (),
) -> Table:
    """Makes a table for `rich`; a cell that is a trial's status gets its colour.

    Args:
        columns: titles of the columns.
        rows: cells of each row, shown by `str`.
        right: titles of right-aligned columns.
        widths: characters of each column; a column without one is as wide as its text.
    """
    shown = Table(box=SIMPLE, pad_edge=False, header_style="bold")
    aligned = set(right)
    for column, width in zip_longest(columns, widths):
        shown.add_column(column, justify="right" if column in aligned else "left", overflow="fold", width=width)
    for row in rows:
        shown.add_row(*(Text(str(cell), style=getattr(cell, "style", "")) for cell in row))
    return shown


def error(problem: BenchError) -> None:
    """Prints an error on standard error, its further lines indented."""
    lines = problem.lines()
    note(f"error: {lines[0]}")
    for line in lines[1:]:
        note(f"  {line}")


def number(value: float | None) -> str:
    """A whole number with separators, `12,345`; a dash for None."""
    return "–" if value is None else f"{value:,.0f}"


def value(number_: float | None) -> str:
    """A reward to four significant digits; an empty string for None."""
    return "" if number_ is None else f"{number_:.4g}"


def plural(count: int, noun: str) -> str:
    """A count with its noun: `1 trial`, `2 trials`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def shortened(text: str, width: int) -> str:
    """`text` in at most `width` characters, without its middle: a trial's name differs from others at its end."""
    if len(text) <= width:
        return text
    tail = width // 2
    return f"{text[: width - tail - 1]}…{text[-tail:]}"


def duration(seconds: float | None) -> str:
    """A duration as `8s`, `3m12s`, `2h05m` or `3d04h`; an empty string for None."""
    if seconds is None:
        return ""
    whole = round(seconds)
    for large, small, size in (("d", "h", 86400), ("h", "m", 3600), ("m", "s", 60)):
        if whole >= size:
            rest = whole % size // {"h": 3600, "m": 60, "s": 1}[small]
            return f"{whole // size}{large}{rest:02d}{small}"
    return f"{whole}s"
