"""Reading of `curve.jsonl`: its valid points, and a fault for every line that is not one."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from bench.store.files import Line
from bench.store.records import Point, wrong_point
from models.ledger import columns_of, spent


@dataclass(frozen=True)
class Fault:
    """A fault of one line of a curve, or of the whole file.

    Attributes:
        line: the line's number, from 1; None for the whole file.
        what: the fault, as a sentence that goes on from the line's place: "is damaged".
        remedy: how the fault is mended without loss; "" if it is not.
    """

    line: int | None
    what: str
    remedy: str = ""


@dataclass(frozen=True)
class Curve:
    """The points of a trial's curve, and the faults of its file.

    Attributes:
        points: number -> valid point.
        faults: in the order of the lines, without a torn last line.
        torn: the fault of a last line that a killed writer left unfinished.
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
        """The numbers of the points before the first missing one."""
        numbers: set[int] = set()
        number = 0 if any(not fault.remedy for fault in self.faults) else min(self.points, default=0)
        while number in self.points:
            numbers.add(number)
            number += 1
        return numbers


def curve_of(lines: Iterable[Line], axis: str | None = None) -> Curve:
    """The curve that the lines of a file give.

    Args:
        lines: the file's lines.
        axis: the budget's axis, or None if unknown. A point without this axis is a fault, unless no point has it.
    """
    checked = [(line, *_checked(line)) for line in lines]
    needed = columns_of(axis) if axis else ()
    if not any(point and set(needed) <= set(point.axes) for _, point, _ in checked):
        axis, needed = None, ()
    rows_by_number: dict[int, list[tuple[int, Point]]] = {}
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
            rows_by_number.setdefault(point.point, []).append((line.number, point))
            order.append(point.point)
    points = _without_repeats(rows_by_number, faults)
    if order != sorted(order):
        faults.append(Fault(None, "has its points out of order", "they are put in order"))
    if axis is not None:
        _drop_backward_points(points, {number: rows[0][0] for number, rows in rows_by_number.items()}, axis, faults)
    return Curve(points, sorted(faults, key=lambda fault: fault.line or 0), torn)


def _checked(line: Line) -> tuple[Point | None, str]:
    """The point of a line, and "" or the reason why the line is no point."""
    if line.wrong:
        return None, line.wrong
    try:
        return Point.model_validate(line.value), ""
    except ValidationError as error:
        return None, wrong_point(error)


def _without_repeats(rows_by_number: Mapping[int, list[tuple[int, Point]]], faults: list[Fault]) -> dict[int, Point]:
    """Each point once. If lines disagree about a point, the right one is unknown, so none is taken."""
    points = {}
    for number, rows in rows_by_number.items():
        first = rows[0][1]
        again = [line for line, _ in rows[1:]]
        if all(_same(point, first) for _, point in rows[1:]):
            points[number] = first
            faults += [Fault(line, f"repeats point {number}", "it is counted once") for line in again]
        else:
            faults += [Fault(line, f"is another point {number} than line {rows[0][0]}") for line in again]
    return points


def _same(one: Point, other: Point) -> bool:
    # Compared as JSON, where NaN equals NaN.
    return json.dumps(one.stored(), sort_keys=True) == json.dumps(other.stored(), sort_keys=True)


def _drop_backward_points(points: dict[int, Point], lines: Mapping[int, int], axis: str, faults: list[Fault]) -> None:
    """Drops points that have spent less of the budget than the point before them: a ledger only grows."""
    before = None
    for number in sorted(points):
        amount = spent(axis, points[number].axes)
        if before is not None and amount < before:
            faults.append(Fault(lines[number], f"has spent less {axis} than the point before it"))
            del points[number]
        else:
            before = amount
