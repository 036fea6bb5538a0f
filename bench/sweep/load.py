"""A sweep file as a validated `Sweep`: read, overlaid, checked, its methods expanded into variants."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.errors import InvalidSweepError
from bench.sweep.overlay import apply_override, apply_scale
from bench.sweep.problems import describe, problem
from bench.sweep.schema import NAME_PATTERN, NAME_RULE, SamplerChange, Sweep
from bench.sweep.shipped import find_sweep
from bench.sweep.variants import grid_name, variant_name
from bench.sweep.yaml_source import Node, Path_, read_yaml

MAX_TRIALS = 10_000


@dataclass(frozen=True)
class LoadedSweep:
    """A valid sweep and where its values were written.

    Attributes:
        sweep: the schema's view, defaults filled in.
        root: the tree, for messages.
        base: the sweep file's folder, which relative paths in it refer to.
        scale: the overlay that was laid over it.
    """

    sweep: Sweep
    root: Node
    base: Path
    scale: str | None = None

    @property
    def run_name(self) -> str:
        """What the run's folder is called: a scale has results of its own."""
        return f"{self.sweep.name}-{self.scale}" if self.scale else self.sweep.name


@dataclass(frozen=True)
class Variant:
    """One method with its settings, before they are validated by the method.

    Attributes:
        name: of the variant.
        method: the method's name or reference.
        settings: as written, with this variant's values of the grid.
        sampler: what it changes in the training sampler.
        path: where its entry stands in the sweep.
        grid: settings that came from the grid.
    """

    name: str
    method: str
    settings: dict[str, Any]
    sampler: SamplerChange
    path: Path_
    grid: frozenset[str] = frozenset()


def load_sweep(path: Path, scale: str | None = None, overrides: Sequence[str] = ()) -> LoadedSweep:
    """Reads, overlays and validates a sweep against the schema (methods check their own in `bench.plan.planner`).

    Args:
        path: the YAML file, or the name of an installed sweep.
        scale: `--scale`.
        overrides: `--set`, in order; they come after the scale.

    Raises:
        BenchError: anything wrong with it, with the line.
    """
    path = find_sweep(path)
    root = read_yaml(path)
    if scale is not None:
        root = apply_scale(root, scale)
    for text in overrides:
        root = apply_override(root, text)
    try:
        sweep = Sweep.model_validate(root.plain())
    except ValidationError as error:
        raise InvalidSweepError(describe(error, root, Sweep)) from None
    variants_of(sweep, root)  # refuses duplicate and impossible names
    return LoadedSweep(sweep, root, path.resolve().parent, scale)


def variants_of(sweep: Sweep, root: Node) -> list[Variant]:
    """Every variant, grids expanded, in the order of the file."""
    variants: list[Variant] = []
    problems: list[str] = []
    for index, entry in enumerate(sweep.methods):
        path: Path_ = ("methods", index)
        name = variant_name(entry.name, entry.variant)
        keys = list(entry.grid)
        problems += [
            problem(root, (*path, "grid", key), "is in settings too; write it once")
            for key in keys
            if key in entry.settings
        ]
        for values in itertools.product(*entry.grid.values()):
            chosen = dict(zip(keys, values, strict=True))
            full = grid_name(name, chosen)
            if not re.fullmatch(NAME_PATTERN, full):
                where = (*path, "grid") if chosen else (*path, "name")
                text = f"{full!r} cannot name a variant: {NAME_RULE}; add `variant:`"
                problems.append(problem(root, where, text))
            settings = {**entry.settings, **chosen}
            variants.append(Variant(full, entry.name, settings, entry.sampler, path, frozenset(chosen)))
            if len(variants) * len(sweep.seeds) > MAX_TRIALS:
                problems.append(problem(root, path, f"the sweep has more than {MAX_TRIALS:,} trials"))
                raise InvalidSweepError(problems)
    problems += _twins(variants, root)
    if problems:
        raise InvalidSweepError(problems)
    return variants


def _twins(variants: list[Variant], root: Node) -> list[str]:
    seen: set[str] = set()
    problems = []
    for variant in variants:
        if variant.name in seen:
            text = f"two methods are called {variant.name!r}; give each a `variant:` of its own"
            problems.append(problem(root, (*variant.path, "variant"), text))
        seen.add(variant.name)
    return problems
