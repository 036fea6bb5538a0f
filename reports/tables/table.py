"""A table of formatted strings with the numbers behind them, and the order of methods in it.

A `Table` has a title, cells and a note. Page, Markdown and terminal print its text; CSV and JSON hold its numbers.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from reports.formatting import AT_THE_START, NOT_REACHED, NOTHING, Scale, capitalised, measured, number, with_range
from reports.frame import untrained_variants
from reports.meta import Meta
from reports.names import DONE, SPLIT_WORDS, axis_words
from reports.statistics import comparison
from reports.statistics.curve import SEEDS_FOR_AN_INTERVAL, Summary
from reports.statistics.places import places

VALUE = "value"


@dataclass(frozen=True)
class Cell:
    """A cell's text, and the numbers behind it, not rounded.

    Attributes:
        numbers: by name. "value", its range "low" and "high" and the "half-width" of its interval are in the unit of
            the column; any other name says what its number is. A number that is not known is left out.
    """

    text: str
    numbers: Mapping[str, float]

    def beside(self, text: str, numbers: Mapping[str, float]) -> "Cell":
        """The cell with a second line of text and its numbers."""
        return Cell(f"{self.text}\n{text}", {**self.numbers, **numbers})


@dataclass(frozen=True)
class Table:
    """A table ready to print.

    Attributes:
        cells: text; a column's name is its header, which may have several lines.
        note: printed under the table.
        text: left-aligned columns.
        best: (row, column) of the cells in bold.
        numbers: (row, column) -> `Cell.numbers`.
        grouped: a column whose value is printed once where it repeats.
    """

    title: str
    cells: pd.DataFrame
    note: str = ""
    text: tuple[str, ...] = ("method",)
    best: frozenset[tuple[int, str]] = field(default_factory=frozenset)
    numbers: Mapping[tuple[int, str], Mapping[str, float]] = field(default_factory=dict)
    grouped: str = ""

    @classmethod
    def of(cls, title: str, rows: Sequence[Mapping[str, str | Cell]], note: str = "", **more: Any) -> "Table":
        """A table from rows of cells, each a text or a `Cell`."""
        cells = [{name: cell.text if isinstance(cell, Cell) else cell for name, cell in row.items()} for row in rows]
        numbers = {
            (index, name): cell.numbers
            for index, row in enumerate(rows)
            for name, cell in row.items()
            if isinstance(cell, Cell)
        }
        return cls(title, pd.DataFrame(cells), note, numbers=numbers, **more)

    @property
    def printed(self) -> pd.DataFrame:
        """`cells` with the grouped column left blank where its value repeats."""
        if not self.grouped or self.grouped not in self.cells:
            return self.cells
        column = self.cells[self.grouped]
        return self.cells.assign(**{self.grouped: column.where(column != column.shift(), "")})

    def without(self, *columns: str) -> "Table":
        """The table without these columns; a column that it does not have is ignored."""
        return replace(self, cells=self.cells.drop(columns=list(columns), errors="ignore"))

    @property
    def headers(self) -> dict[str, str]:
        """Column -> its header in one line; a header that several columns share is numbered."""
        found: dict[str, str] = {}
        for column in map(str, self.cells.columns):
            words = column.replace("\n", " ")
            same = sum(other.replace("\n", " ") == words for other in found)
            found[column] = f"{words} ({same + 1})" if same else words
        return found

    def records(self) -> list[dict[str, Any]]:
        """The rows for JSON: a cell is its text, or a mapping of its text and numbers."""
        found: list[dict[str, Any]] = [{} for _ in range(len(self.cells))]
        for column, header in self.headers.items():
            for index, text in enumerate(self.cells[column]):
                numbers = self.numbers.get((index, column))
                found[index][header] = text if numbers is None else {"text": text, **numbers}
        return found


def axis_header(axis: str, scale: Scale) -> str:
    """A column's header: the axis in two lines, with its unit."""
    return scale.label(axis_words(axis).replace(" ", "\n", 1))


def metric_header(metric: str, split: str, meta: Meta) -> str:
    """A column's header: the metric, under diversity its features in narrow lines, and the prompts."""
    words = meta.metric_words(metric)
    if metric == "diversity":
        words = words.replace(" (", "\n(", 1).replace(" of ", " of\n", 1)
    return f"{words}\n{SPLIT_WORDS[split]}"


def ranged(value: float, low: float, high: float, name: str = "") -> dict[str, float]:
    """`Cell.numbers` of a value with its range: the column's own value, or one under `name`."""
    names = (name, f"{name}, low", f"{name}, high") if name else (VALUE, "low", "high")
    return dict(zip(names, (value, low, high), strict=True))


def range_cell(value: float, low: float, high: float, signed: bool = False) -> Cell:
    """The cell of a measurement with its range."""
    text = with_range(*(measured(each, signed=signed) for each in (value, low, high)))
    return Cell(text, ranged(value, low, high))


def value_cell(summary: Summary | None, signed: bool = False) -> str | Cell:
    """The mean over seeds with its range, or from five seeds on with half of its Student-t interval."""
    if summary is None:
        return NOTHING
    if summary.missing:
        text = "NaN" if summary.count == 1 else f"NaN ({summary.missing} of {summary.count} seeds)"
        return Cell(text, {VALUE: math.nan})
    if summary.interval is None:
        return range_cell(summary.mean, summary.low, summary.high, signed)
    half = summary.interval[1] - summary.mean
    text = f"{measured(summary.mean, signed=signed)} ± {measured(half)}"
    return Cell(text, {VALUE: summary.mean, "half-width": half})


def median_cell(summary: Summary | None) -> str | Cell:
    """The median over seeds with its range."""
    if summary is None or summary.missing:
        return value_cell(summary)
    return range_cell(summary.median, summary.low, summary.high)


def cost_cell(summary: Summary | None, scale: Scale) -> str | Cell:
    """The median over seeds of a cost, with its range."""
    if summary is None or summary.missing:
        return value_cell(summary)
    middle, low, high = (value / scale.divisor for value in (summary.median, summary.low, summary.high))
    return Cell(with_range(number(middle), number(low), number(high)), ranged(middle, low, high))


def target_cell(summary: Summary | None, scale: Scale) -> str | Cell:
    """The median over seeds of the cost of a target, with its range.

    +inf is printed as "not reached", in a range as ∞; 0 as "at the start"; an upper bound with a ≤, and with "at most"
    among the cell's numbers.
    """
    if summary is None or summary.missing:
        return value_cell(summary)
    values = {name: getattr(summary, name) / scale.divisor for name in ("median", "low", "high")}
    signs = {name: "≤ " if name in summary.at_most else "" for name in values}
    ends = [f"{signs[name]}{number(values[name])}" for name in ("low", "high")]
    words = {math.inf: NOT_REACHED, 0.0: AT_THE_START}
    shown = words.get(values["median"], f"{signs['median']}{number(values['median'])}")
    names = {"median": "at most", "low": "low, at most", "high": "high, at most"}
    bounds = {names[name]: True for name in names if name in summary.at_most}
    return Cell(with_range(shown, *ends), ranged(*values.values()) | bounds)


def number_cell(value: float | None, scale: Scale) -> str | Cell:
    """A number in the column's unit; a dash where it is not known."""
    if value is None or math.isnan(value):
        return NOTHING
    return Cell(number(value / scale.divisor), {VALUE: value / scale.divisor})


def spread_note(counts: Iterable[int]) -> str:
    """The note on the range or interval in the cells of `value_cell`; "" for no counts.

    Args:
        counts: of seeds, one a row.
    """
    few = any(count < SEEDS_FOR_AN_INTERVAL for count in counts)
    many = any(count >= SEEDS_FOR_AN_INTERVAL for count in counts)
    parts = []
    if few:
        parts.append("mean over seeds (range); under five seeds no interval is claimed")
    if many:
        parts.append("mean over seeds ± half of the 95 % Student-t interval")
    return f"{capitalised('; from five seeds on '.join(parts))}." if parts else ""


def seed_counts(trials: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Variant -> (trials that are done, trials planned)."""
    done = (trials["status"] == DONE).groupby(trials["variant"])
    return {str(v): (int(n), int(m)) for v, n, m in zip(done.groups, done.sum(), done.size(), strict=True)}


def ranked_variants(curves: pd.DataFrame, trials: pd.DataFrame, meta: Meta) -> list[tuple[str, int | None]]:
    """Every variant, best first, with its place; None instead of a place for a variant that is not ranked.

    The rank is by the median normalised area under the training reward over the budget axis. A variant is ranked only
    when all its planned seeds are done and none is NaN, so that no method wins by the seeds that survived.
    `possible_places` gives the places that the seeds leave open.
    """
    areas = comparison.area_summaries(curves, meta.budget_column) if not curves.empty else {}
    counts = seed_counts(trials)

    def complete(variant: str) -> bool:
        done, planned = counts[variant]
        return done == planned and variant in areas and areas[variant].count == done and not areas[variant].missing

    def order(variant: str) -> tuple[bool, float, str]:
        height = areas[variant].median if variant in areas and not areas[variant].missing else float("-inf")
        return (not complete(variant), -height, variant)

    ordered = sorted(counts, key=order)
    return [(variant, place + 1 if complete(variant) else None) for place, variant in enumerate(ordered)]


def possible_places(
    curves: pd.DataFrame, ranked: Sequence[tuple[str, int | None]], meta: Meta
) -> dict[str, tuple[int, int]]:
    """Ranked variant -> the first and the last place that its seeds leave open, by their areas.

    Args:
        ranked: the result of `ranked_variants`.
    """
    found = comparison.areas(curves, meta.budget_column)
    seeds = {str(v): dict(zip(of["seed"], of["value"], strict=True)) for v, of in found.groupby("variant", sort=False)}
    return places({v: seeds[v] for v, place in ranked if place is not None}, untrained_variants(curves))
