"""What the verbs print: tables for people, JSON for programs, errors in one to three lines."""

import json
import math
import sys
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError

if TYPE_CHECKING:
    from rich.table import Table

    from reports.tables.table import Table as ReportTable

STATUS_STYLES = {
    "done": "green",
    "running": "cyan",
    "failed": "red",
    "diverged": "red",
    "interrupted": "yellow",
    "skipped": "dim",
    "pruned": "dim",
    "planned": "dim",
}
WIDE = 200
UNBOUNDED = 100_000


def say(text: str = "") -> None:
    """A line for the reader on standard output."""
    print(text, flush=True)


def note(text: str) -> None:
    """A line about what is going on, on standard error, so that standard output stays clean."""
    print(text, file=sys.stderr, flush=True)


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
    """Prints `as_table`; where the terminal is too narrow for its words, some columns under the others.

    The leading left-aligned columns, which say what a row is of, are then repeated.
    """
    from rich.console import Console
    from rich.measure import Measurement

    # Into a pipe or a file nothing is wrapped: a line a row, so that it can be searched.
    console = Console(width=None if sys.stdout.isatty() else WIDE, highlight=False)
    kept = [list(row) for row in rows]
    aligned = set(right)

    def of(places: Sequence[int]) -> "Table":
        return as_table([columns[place] for place in places], [[row[place] for place in places] for row in kept], right)

    def fits(places: Sequence[int]) -> bool:
        unbounded = console.options.update_width(UNBOUNDED)  # else what is measured is cut to the terminal's width
        return Measurement.get(console, unbounded, of(places)).minimum <= console.width

    keys = list(takewhile(lambda place: columns[place] not in aligned, range(len(columns))))
    block = list(keys)
    for place in range(len(keys), len(columns)):
        if len(block) > len(keys) and not fits([*block, place]):
            console.print(of(block))
            block = list(keys)
        block.append(place)
    console.print(of(block))


def as_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], right: Iterable[str] = ()) -> "Table":
    """A table; cells are shown as they are, an empty one as nothing.

    Args:
        columns: their titles.
        rows: of cells.
        right: titles of right-aligned columns.
    """
    from rich.box import SIMPLE
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=SIMPLE, pad_edge=False, header_style="bold")
    aligned = set(right)
    for column in columns:
        shown.add_column(column, justify="right" if column in aligned else "left", overflow="fold")
    for row in rows:
        shown.add_row(*(Text(str(cell), style=STATUS_STYLES.get(str(cell), "")) for cell in row))
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


def show(found: "ReportTable") -> None:
    """A table of a report as a terminal shows it: without its title and its note."""
    columns = [str(column) for column in found.cells.columns]
    numbers = [column for column in columns if column not in found.text]
    table(columns, found.printed.to_numpy().tolist(), right=numbers)


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
