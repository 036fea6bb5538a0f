"""What `curve.jsonl` holds: the points that are whole, and what is wrong with each other line."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from bench.store.files import Line
from bench.store.records import Point, wrong_point
from models.ledger import columns_of, spent


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
    checked = [(line, *_checked(line)) for line in lines]
    needed = columns_of(axis) if axis else ()
    if not any(point and set(needed) <= set(point.axes) for _, point, _ in checked):
        axis, needed = None, ()  # where no point counts it, none is damaged for it
    found: dict[int, list[tuple[int, Point]]] = {}
    faults: list[Fault] = []
    torn: Fault | None = None
    order: list[int] = []
    for line, point, wrong in checked:
        lacking = next((name for name in needed if point and name not in point.axes), None)
        if line.wrong == "is torn":
            torn = Fault(line.number, line.wrong)
        elif point is None or lacking:
            faults.append(Fault(line.number, wrong or f"lacks {lacking}"))
        else:
            found.setdefault(point.point, []).append((line.number, point))
            order.append(point.point)
    points = _once(found, faults)
    if order != sorted(order):
        faults.append(Fault(None, "has its points out of order", "they are put in order"))
    if axis is not None:
        _refuse_backwards(points, {number: rows[0][0] for number, rows in found.items()}, axis, faults)
    return Curve(points, sorted(faults, key=lambda fault: fault.line or 0), torn)


def _checked(line: Line) -> tuple[Point | None, str]:
    """The point of a line, or what keeps it from being one."""
    if line.wrong:
        return None, line.wrong
    try:
        return Point.model_validate(line.value), ""
    except ValidationError as error:
        return None, wrong_point(error)


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
    # NaN is like NaN in JSON, and only there.
    return json.dumps(one.stored(), sort_keys=True) == json.dumps(other.stored(), sort_keys=True)


def _refuse_backwards(points: dict[int, Point], lines: Mapping[int, int], axis: str, faults: list[Fault]) -> None:
    """Drops points that have spent less than the one before: a ledger only grows."""
    before = None
    for number in sorted(points):
        gone = spent(axis, points[number].axes)
        if before is not None and gone < before:
            faults.append(Fault(lines[number], f"has spent less {axis} than the point before it"))
            del points[number]
        else:
            before = gone
