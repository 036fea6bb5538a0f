"""What `curve.jsonl` holds: the points that are whole, and what is wrong with each other line."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.errors import one_line
from bench.store.damage import is_finite, is_number
from bench.store.files import Line
from models.ledger import columns_of, spent
from reports.names import SPLITS, is_metric

Point = dict[str, Any]
"""A line of `curve.jsonl`: point, axes, values, extra."""


@dataclass(frozen=True)
class Fault:
    """What is the matter with a line, counted from 1, or with the whole file."""

    line: int | None
    what: str
    rest: str = ""
    """What is done about it, where nothing is lost by it."""


@dataclass(frozen=True)
class Curve:
    """What a file holds.

    Attributes:
        points: those that are whole, by their number.
        faults: in the order of the lines; a torn last line is none of them.
        torn: the last line, where it is what a killed writer leaves.
    """

    points: dict[int, Point]
    faults: list[Fault] = field(default_factory=list)
    torn: Fault | None = None

    @property
    def ordered(self) -> list[Point]:
        """The points in the order of their numbers."""
        return [self.points[number] for number in sorted(self.points)]

    @property
    def unbroken(self) -> set[int]:
        """The points before the first that is missing."""
        found: set[int] = set()
        number = 0 if any(not fault.rest for fault in self.faults) else min(self.points, default=0)
        while number in self.points:
            found.add(number)
            number += 1
        return found


def curve_of(lines: Iterable[Line], axis: str | None = None) -> Curve:
    """The curve of the lines of a file.

    Args:
        axis: the budget's, where it is known: a point that does not count it cannot be shown.
    """
    lines = list(lines)
    if axis is not None and not any(_counts(line.value, axis) for line in lines):
        axis = None  # where no point counts it, none is damaged for it
    found: dict[int, list[tuple[int, Point]]] = {}
    faults: list[Fault] = []
    torn: Fault | None = None
    order: list[int] = []
    for line in lines:
        wrong = line.wrong or wrong_point(line.value, axis)
        if line.wrong == "is torn":
            torn = Fault(line.number, line.wrong)
        elif wrong:
            faults.append(Fault(line.number, wrong))
        else:
            number = line.value["point"]
            found.setdefault(number, []).append((line.number, line.value))
            order.append(number)
    points = _once(found, faults)
    if order != sorted(order):
        faults.append(Fault(None, "has its points out of order", "they are put in order"))
    if axis is not None:
        _refuse_backwards(points, {number: rows[0][0] for number, rows in found.items()}, axis, faults)
    return Curve(points, sorted(faults, key=lambda fault: fault.line or 0), torn)


def _counts(point: Any, axis: str) -> bool:
    axes = point.get("axes") if isinstance(point, dict) else None
    return isinstance(axes, dict) and all(name in axes for name in columns_of(axis))


def wrong_point(point: Any, axis: str | None = None) -> str:
    """What keeps a JSON value from being a point of a curve; nothing for a point."""
    if not isinstance(point, dict):
        return "is no point"
    for name, check in PARTS.items():
        if not check(point.get(name)):
            return f"has no {name}" if name not in point else f"has a {name!r} that is none"
    wrong = next((name for name, value in point["axes"].items() if not is_finite(value)), None)
    if wrong is not None:
        return f"says {one_line(repr(point['axes'][wrong]), 40)} for {wrong}"
    lacking = next((name for name in (columns_of(axis) if axis else ()) if name not in point["axes"]), None)
    if lacking is not None:
        return f"lacks {lacking}"
    for split, metrics in point["values"].items():
        if split not in SPLITS or not isinstance(metrics, dict):
            return f"has values of an unknown split {one_line(repr(split), 40)}"
        for metric, value in metrics.items():
            if not is_metric(metric):
                return f"has values of an unknown metric {one_line(repr(metric), 40)}"
            if not is_number(value):
                return f"says {one_line(repr(value), 40)} for {metric}"
    return ""


PARTS: Mapping[str, Callable[[Any], bool]] = {
    "point": lambda value: isinstance(value, int) and not isinstance(value, bool) and value >= 0,
    "axes": lambda value: isinstance(value, dict),
    "values": lambda value: isinstance(value, dict),
    "extra": lambda value: value is None or isinstance(value, dict),
}


def _once(found: Mapping[int, list[tuple[int, Point]]], faults: list[Fault]) -> dict[int, Point]:
    """Each point once. Which of two that differ is the right one cannot be known, so neither is taken."""
    points = {}
    for number, rows in found.items():
        first = rows[0][1]
        again = [line for line, _ in rows[1:]]
        if all(_same(point, first) for _, point in rows[1:]):
            points[number] = first
            faults += [Fault(line, f"repeats point {number}", "it is counted once") for line in again]
        else:
            faults += [Fault(line, f"is another point {number} than line {rows[0][0]}") for line in again]
    return points


def _same(one: Point, other: Point) -> bool:
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)  # NaN is like NaN there


def _refuse_backwards(points: dict[int, Point], lines: Mapping[int, int], axis: str, faults: list[Fault]) -> None:
    """Drops points that have spent less than the one before: a ledger only grows."""
    before = None
    for number in sorted(points):
        gone = spent(axis, points[number]["axes"])
        if before is not None and gone < before:
            faults.append(Fault(lines[number], f"has spent less {axis} than the point before it"))
            del points[number]
        else:
            before = gone
