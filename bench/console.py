"""What the verbs print: tables for people, JSON for programs, errors in one to three lines."""

import json
import math
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import takewhile, zip_longest
from typing import Any

from rich.box import SIMPLE
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.errors import BenchError

WIDE = 200
BETWEEN = 3
"""Cells of padding and border that a column of a table takes."""
LEAST_KEY = 12


def say(text: str = "") -> None:
    """A line for the reader on standard output."""
    print(text, flush=True)


def note(text: str) -> None:
    """A line about what is going on, on standard error, so that standard output stays clean."""
    print(text, file=sys.stderr, flush=True)


def warn(text: str) -> None:
    """What a reader must know before reading a number, on standard error."""
    note(f"warning: {text}")


def say_json(value: Any) -> None:
    """JSON for a program; a number that is not finite is null, as JSON has none."""
    print(json.dumps(_finite(value), indent=2, ensure_ascii=False, default=str, allow_nan=False), flush=True)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], right: Iterable[str] = ()) -> None:
    """Prints `as_table`; in a terminal that is too narrow for its words, some columns under the others.

    The leading columns, to the last left-aligned one among them, say what a row is of and are then repeated.
    """
    kept = [[cell if isinstance(cell, str) else str(cell) for cell in row] for row in rows]
    aligned = set(right)
    if not sys.stdout.isatty():
        # Into a pipe or a file nothing is wrapped: a line a row, so that it can be searched.
        Console(width=WIDE, highlight=False).print(as_table(columns, kept, aligned))
        return
    console = Console(highlight=False)
    for places, widths in _blocks(columns, kept, aligned, console.width):
        cells = [[row[place] for place in places] for row in kept]
        console.print(as_table([columns[place] for place in places], cells, aligned, widths))


def _blocks(
    columns: Sequence[str], rows: Sequence[Sequence[str]], aligned: Collection[str], width: int
) -> Iterator[tuple[list[int], list[int]]]:
    """The columns that stand beside each other and their widths, so that no word is broken that fits a line."""
    texts = [[column, *(row[place] for row in rows)] for place, column in enumerate(columns)]
    whole = [max(map(cell_len, "\n".join(of).split("\n"))) for of in texts]
    least = [min(max(map(cell_len, " ".join(of).split()), default=0), width - BETWEEN) for of in texts]

    def fits(places: Sequence[int]) -> bool:
        return sum(least[place] + BETWEEN for place in places) <= width

    keys = list(range(_leading(columns, aligned)))
    others = [place for place in range(len(columns)) if place not in keys]
    while len(keys) > 1 and not all(fits([*keys, place]) for place in others):
        others.insert(0, keys.pop())
    if keys and others:  # what a row is of is broken rather than left out
        widest = max(least[place] for place in others)
        least[keys[0]] = min(least[keys[0]], max(LEAST_KEY, width - widest - 2 * BETWEEN))
    block = list(keys)
    for place in range(len(keys), len(columns)):
        if len(block) > len(keys) and not fits([*block, place]):
            yield block, _widths(block, least, whole, width)
            block = list(keys)
        block.append(place)
    yield block, _widths(block, least, whole, width)


def _leading(columns: Sequence[str], aligned: Collection[str]) -> int:
    """How many columns say what a row is of: those to the end of the first left-aligned ones, but never all."""
    first = 1 if columns and columns[0] in aligned else 0  # a number may stand before what it numbers
    named = list(takewhile(lambda column: column not in aligned, columns[first:]))
    return min(first + len(named), len(columns) - 1) if named else 0


def _widths(places: Sequence[int], least: Sequence[int], whole: Sequence[int], width: int) -> list[int]:
    """Each column's least, and a share of what is left as long as it needs more."""
    found = [least[place] for place in places]
    left = width - sum(found) - BETWEEN * len(found)
    while left > 0 and (short := [i for i, place in enumerate(places) if found[i] < whole[place]]):
        for i in short[:left]:
            found[i] += 1
        left -= min(left, len(short))
    return found


def as_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[Any]],
    right: Iterable[str] = (),
    widths: Sequence[int | None] = (),
) -> Table:
    """A table; cells are shown as they are, an empty one as nothing, and one with a `style` (a status) in that.

    Args:
        columns: their titles.
        rows: of cells.
        right: titles of right-aligned columns.
        widths: of the columns; as wide as they need be where there are none.
    """
    shown = Table(box=SIMPLE, pad_edge=False, header_style="bold")
    aligned = set(right)
    for column, width in zip_longest(columns, widths):
        shown.add_column(column, justify="right" if column in aligned else "left", overflow="fold", width=width)
    for row in rows:
        shown.add_row(*(Text(str(cell), style=getattr(cell, "style", "")) for cell in row))
    return shown


def error(problem: BenchError) -> None:
    """An error on standard error."""
    lines = problem.lines()
    note(f"error: {lines[0]}")
    for line in lines[1:]:
        note(f"  {line}")


def number(value: float | None) -> str:
    """`12,345`; a dash where it is not known."""
    return "–" if value is None else f"{value:,.0f}"


def value(number_: float | None) -> str:
    """A reward to four digits; nothing where there is none."""
    return "" if number_ is None else f"{number_:.4g}"


def plural(count: int, noun: str) -> str:
    """`1 trial`, `2 trials`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def shortened(text: str, width: int) -> str:
    """`text` in at most `width` characters; the middle goes, as a trial's name ends with what tells it apart."""
    if len(text) <= width:
        return text
    tail = width // 2
    return f"{text[: width - tail - 1]}…{text[-tail:]}"


def duration(seconds: float | None) -> str:
    """`8s`, `3m12s`, `2h05m`, `3d04h`; nothing where it is not known."""
    if seconds is None:
        return ""
    whole = round(seconds)
    for large, small, size in (("d", "h", 86400), ("h", "m", 3600), ("m", "s", 60)):
        if whole >= size:
            rest = whole % size // {"h": 3600, "m": 60, "s": 1}[small]
            return f"{whole // size}{large}{rest:02d}{small}"
    return f"{whole}s"
