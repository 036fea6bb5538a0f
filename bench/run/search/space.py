"""Configurations out of a sweep's `search.space`, through Ray Tune's distributions."""

import hashlib
from collections.abc import Mapping
from typing import Any

from bench.errors import BenchError
from bench.sweep.schema import Distribution

DIGITS = 3
"""Of a drawn number: a learning rate of 0.00271 is as good as one of 0.0027134, and can be read."""

PATIENCE = 200
"""Draws for each configuration that is not yet there, before a space counts as exhausted."""

NARROW = 10
"""A range of so many whole numbers is walked one by one: 0.8 or 1.2 times a small one rounds to the number itself."""

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


def mutations(space: Space) -> dict[str, Any]:
    """Setting -> what PBT changes it by: a list, in which it moves to a neighbour, or a `ray.tune` distribution.

    A distribution's values are multiplied, which a choice does not survive, and leave it: see `readable`.
    """
    listed = {setting: _listed(distribution) for setting, distribution in space.items()}
    return {setting: listed[setting] or domain for setting, domain in domains(space).items()}


def _listed(distribution: Distribution) -> list[Any] | None:
    if distribution.choice is not None:
        return list(distribution.choice)
    if distribution.integers is not None and distribution.integers[1] - distribution.integers[0] < NARROW:
        return list(range(distribution.integers[0], distribution.integers[1] + 1))
    return None


def draw(space: Space, count: int, seed: int, variant: str) -> list[dict[str, Any]]:
    """`count` distinct configurations, the same ones for the same seed and variant.

    Raises:
        BenchError: the space has fewer.
    """
    import numpy as np

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
    """A configuration within the space, its real numbers rounded to `DIGITS` significant digits."""
    return {name: _rounded(distribution, drawn[name]) for name, distribution in space.items()}


def _rounded(distribution: Distribution, value: Any) -> Any:
    if distribution.integers is not None:
        return min(max(value, distribution.integers[0]), distribution.integers[1])
    ends = distribution.uniform or distribution.loguniform
    if ends is None:
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), ends[0]), ends[1])
