"""Configurations out of a sweep's `search.space`, through Ray Tune's distributions."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.errors import BenchError
from bench.sweep.schema import Distribution

DIGITS = 3
"""Of a drawn number: a learning rate of 0.00271 is as good as one of 0.0027134, and can be read."""

PATIENCE = 200
"""Draws for each configuration that is not yet there, before a space counts as exhausted."""

Space = Mapping[str, Distribution]


def domains(space: Space) -> dict[str, Any]:
    """Setting -> a `ray.tune` distribution."""
    from ray import tune

    found: dict[str, Any] = {}
    for setting, distribution in space.items():
        if distribution.choice is not None:
            found[setting] = tune.choice(list(distribution.choice))
        elif distribution.integers is not None:
            low, high = distribution.integers
            found[setting] = tune.randint(low, high + 1)
        elif distribution.uniform is not None:
            found[setting] = tune.uniform(*distribution.uniform)
        elif distribution.loguniform is not None:
            found[setting] = tune.loguniform(*distribution.loguniform)
    return found


def draw(space: Space, count: int, seed: int, variant: str) -> list[dict[str, Any]]:
    """`count` distinct configurations, the same ones for the same seed and variant.

    Raises:
        BenchError: the space has fewer.
    """

    key = hashlib.sha256(f"{seed}:{variant}".encode()).digest()
    random = np.random.RandomState(np.frombuffer(key[:16], dtype=np.uint32))
    found: list[dict[str, Any]] = []
    drawers = domains(space)
    for _ in range(PATIENCE * count):
        drawn = readable(space, {name: drawer.sample(random_state=random) for name, drawer in drawers.items()})
        if drawn not in found:
            found.append(drawn)
        if len(found) == count:
            return found
    what = f"{count} configurations are asked for and {variant}'s space has {len(found)}"
    raise BenchError(what, f"search.space.{variant}", "write more values, or fewer search.samples")


def readable(space: Space, drawn: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with its real numbers rounded to `DIGITS` significant digits, inside their bounds."""
    return {name: _rounded(distribution, drawn[name]) for name, distribution in space.items()}


def _rounded(distribution: Distribution, value: Any) -> Any:
    ends = distribution.uniform or distribution.loguniform
    if ends is None:
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), ends[0]), ends[1])
