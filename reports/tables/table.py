"""A table of formatted strings, what its cells are made of, and in which order methods stand.

A `Table` knows its title, its cells and what must be said under it; page, Markdown and terminal all print it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import pandas as pd

from reports.formatting import NOT_REACHED, NOTHING, Scale, measured, number, with_range
from reports.frame import DONE
from reports.meta import Meta
from reports.statistics import comparison
from reports.statistics.curve import SEEDS_FOR_AN_INTERVAL, Summary


@dataclass(frozen=True)
class Table:
    """A table ready to print. `best` holds (row, column) of cells to set in bold; `text` names left-aligned columns."""

    title: str
    cells: pd.DataFrame
    note: str = ""
    text: tuple[str, ...] = ("method",)
    best: frozenset[tuple[int, str]] = field(default_factory=frozenset)


def value_cell(summary: Summary | None, signed: bool = False) -> str:
    """The mean over seeds with its range, or from five seeds on with the half-width of its Student-t interval."""
    if summary is None:
        return NOTHING
    if summary.missing:
        return "NaN" if summary.count == 1 else f"NaN ({summary.missing} of {summary.count} seeds)"
    middle = measured(summary.mean, signed=signed)
    if summary.interval is not None:
        return f"{middle} ± {measured(summary.interval[1] - summary.mean)}"
    return with_range(middle, measured(summary.low, signed=signed), measured(summary.high, signed=signed))


def median_cell(summary: Summary | None) -> str:
    """The median over seeds with its range."""
    if summary is None or summary.missing:
        return value_cell(summary)
    return with_range(measured(summary.median), measured(summary.low), measured(summary.high))


def cost_cell(summary: Summary | None, scale: Scale) -> str:
    """The median over seeds with its range; +inf reads "not reached", and ∞ in a range."""
    if summary is None:
        return NOTHING
    low, middle, high = (number(value / scale.divisor) for value in (summary.low, summary.median, summary.high))
    return with_range(NOT_REACHED if summary.median == float("inf") else middle, low, high)


def spread_note(counts: Iterable[int]) -> str:
    """What the figure in brackets means, for tables of `value_cell`."""
    few = any(count < SEEDS_FOR_AN_INTERVAL for count in counts)
    many = any(count >= SEEDS_FOR_AN_INTERVAL for count in counts)
    parts = []
    if few:
        parts.append("mean over seeds (range); under five seeds no interval is claimed")
    if many:
        parts.append("mean over seeds ± half of the 95 % Student-t interval")
    text = "; from five seeds on ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def seed_counts(trials: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Variant -> (trials that are done, trials planned)."""
    done = (trials["status"] == DONE).groupby(trials["variant"])
    return {str(v): (int(n), int(m)) for v, n, m in zip(done.groups, done.sum(), done.size(), strict=True)}


def ranked_variants(curves: pd.DataFrame, trials: pd.DataFrame, meta: Meta) -> list[tuple[str, int | None]]:
    """Every variant, best first, with its place, None for one that is not ranked.

    Ranked by the median normalised area under the training reward over the budget axis. A variant is ranked only when
    all its planned seeds are done and none is NaN: a method is not to win by the seeds that survived.
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
