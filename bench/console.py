"""What the verbs print: tables for people, JSON for programs, errors in one to three lines."""

import json
import sys
from collections.abc import Iterable, Sequence
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


def say(text: str = "") -> None:
    """A line for the reader on standard output."""
    print(text, flush=True)


def note(text: str) -> None:
    """A line about what is going on, on standard error, so that standard output stays clean."""
    print(text, file=sys.stderr, flush=True)


def say_json(value: Any) -> None:
    """JSON for a program."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str), flush=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]], right: Iterable[str] = ()) -> None:
    """Prints `as_table`."""
    from rich.console import Console

    # Into a pipe or a file nothing is wrapped: a line a row, so that it can be searched.
    Console(width=None if sys.stdout.isatty() else WIDE, highlight=False).print(as_table(columns, rows, right))


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
    table(columns, found.cells.to_numpy().tolist(), right=numbers)


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
