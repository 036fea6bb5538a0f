"""What the axes of a tuning did: settings that changed nothing, and choices on the edge of what was tried."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from bench.run.search.space import Space
from bench.store.records import Edges, Point
from bench.sweep.schema import Distribution

Curves = Sequence[Sequence[Point]]
"""The curves of one configuration, one for each seed; the curve of a trial that is not done is empty."""


def copies(curves: Sequence[Curves]) -> dict[int, int]:
    """Configuration -> the earlier one whose curves it repeats, both by number.

    Curves are equal if all values at all points are, on every seed. A curve of one point, which is the base model's,
    equals none.
    """
    found: dict[int, int] = {}
    first: dict[str, int] = {}
    for number, own in enumerate(curves):
        if all(len(curve) > 1 for curve in own):
            # As JSON, where NaN equals NaN.
            values = json.dumps([[point.values for point in curve] for curve in own], sort_keys=True)
            if first.setdefault(values, number) != number:
                found[number] = first[values]
    return found


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The settings whose values differ between two configurations of a method."""
    return [setting for setting in one if one[setting] != other[setting]]


def edges(space: Space, tried: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any]) -> Edges:
    """The settings whose chosen value is the smallest or the largest of those that were tried.

    Args:
        space: setting -> distribution; lists that hold anything but numbers have no order and no edge.
        tried: the values of every configuration, failed ones included.
        chosen: the values of the chosen one.
    """
    found: Edges = {}
    for setting in filter(lambda name: _ordered(space[name]), space):
        values = [each[setting] for each in tried]
        if min(values) < chosen[setting] < max(values) or min(values) == max(values):
            continue
        found[setting] = "smallest" if chosen[setting] == min(values) else "largest"
    return found


def _ordered(distribution: Distribution) -> bool:
    return all(type(value) in (int, float) for value in distribution.choice or ())
