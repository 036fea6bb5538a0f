"""Draws configurations from a sweep's `search.space` by Ray Tune's distributions."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from bench.errors import BenchError
from bench.sweep.schema import Distribution

DIGITS = 3
"""Significant digits of a drawn number; 0.00271 is as good a learning rate as 0.0027134, and is readable."""

PATIENCE = 200
"""Draws for each wanted configuration before a space counts as exhausted."""

Space = Mapping[str, Distribution]
"""Setting -> the distribution of its values."""


def domains(space: Space) -> dict[str, Any]:
    """Setting -> a `ray.tune` distribution."""
    from ray import tune

    drawn_from: dict[str, Any] = {}
    for setting, distribution in space.items():
        if distribution.choice is not None:
            drawn_from[setting] = tune.choice(list(distribution.choice))
        elif distribution.integers is not None:
            low, high = distribution.integers
            drawn_from[setting] = tune.randint(low, high + 1)
        elif distribution.uniform is not None:
            drawn_from[setting] = tune.uniform(*distribution.uniform)
        elif distribution.loguniform is not None:
            drawn_from[setting] = tune.loguniform(*distribution.loguniform)
    return drawn_from


def draw(space: Space, count: int, seed: int, variant: str) -> list[dict[str, Any]]:
    """`count` distinct configurations, which follow from `seed` and `variant`.

    Raises:
        BenchError: the space has fewer configurations.
    """
    key = hashlib.sha256(f"{seed}:{variant}".encode()).digest()
    random = np.random.RandomState(np.frombuffer(key[:16], dtype=np.uint32))
    configurations: list[dict[str, Any]] = []
    distributions = domains(space)
    for _ in range(PATIENCE * count):
        drawn = readable(space, {name: each.sample(random_state=random) for name, each in distributions.items()})
        if drawn not in configurations:
            configurations.append(drawn)
        if len(configurations) == count:
            return configurations
    what = f"{count} configurations are asked for and {variant}'s space has {len(configurations)}"
    raise BenchError(what, f"search.space.{variant}", "give it more values, or lower search.samples")


def readable(space: Space, drawn: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration with real numbers rounded to `DIGITS` significant digits and clipped to their bounds."""
    return {name: _rounded(distribution, drawn[name]) for name, distribution in space.items()}


def _rounded(distribution: Distribution, value: Any) -> Any:
    ends = distribution.uniform or distribution.loguniform
    if ends is None:
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), ends[0]), ends[1])
