"""Reads a sweep file: applies scale and overrides, validates the result, and expands methods into variants."""

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
"""Trials of a sweep, at most."""


@dataclass(frozen=True)
class LoadedSweep:
    """A valid sweep with the places of its values in the file.

    Attributes:
        sweep: the validated sweep, defaults filled in.
        root: the sweep's YAML tree, from which messages take the places of values.
        base: the sweep file's folder, to which relative paths in the file refer.
        scale: the name of the scale that was applied; None without `--scale`.
    """

    sweep: Sweep
    root: Node
    base: Path
    scale: str | None = None

    @property
    def run_name(self) -> str:
        """The name of the run's folder; each scale has its own, as its results differ."""
        return f"{self.sweep.name}-{self.scale}" if self.scale else self.sweep.name


@dataclass(frozen=True)
class Variant:
    """One method with its settings, before the method validates them.

    Attributes:
        name: the variant's name.
        method: the method's name or reference.
        settings: the settings as written, with this variant's values of the grid.
        sampler: the variant's changes to the training sampler.
        path: the path of the method's entry in the sweep.
        grid: names of the settings whose values come from the grid.
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
        scale: the argument of `--scale`.
        overrides: the arguments of `--set`, applied in order after the scale.

    Raises:
        BenchError: the file cannot be read, or the sweep is invalid; the message names the lines.
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
    variants_of(sweep, root)  # raises for duplicate and impossible names
    return LoadedSweep(sweep, root, path.resolve().parent, scale)


def variants_of(sweep: Sweep, root: Node) -> list[Variant]:
    """All variants of the sweep's methods, grids expanded, in the order of the file.

    Raises:
        InvalidSweepError: a variant's name is invalid or taken, a setting is given twice, or there are too many trials.
    """
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
            variant_of_grid = grid_name(name, chosen)
            if not re.fullmatch(NAME_PATTERN, variant_of_grid):
                where = (*path, "grid") if chosen else (*path, "name")
                text = f"{variant_of_grid!r} cannot name a variant: {NAME_RULE}; add `variant:`"
                problems.append(problem(root, where, text))
            settings = {**entry.settings, **chosen}
            variants.append(Variant(variant_of_grid, entry.name, settings, entry.sampler, path, frozenset(chosen)))
            if len(variants) * len(sweep.seeds) > MAX_TRIALS:
                problems.append(problem(root, path, f"the sweep has more than {MAX_TRIALS:,} trials"))
                raise InvalidSweepError(problems)
    problems += _duplicate_names(variants, root)
    if problems:
        raise InvalidSweepError(problems)
    return variants


def _duplicate_names(variants: list[Variant], root: Node) -> list[str]:
    names: set[str] = set()
    problems = []
    for variant in variants:
        if variant.name in names:
            text = f"two methods are called {variant.name!r}; give each a `variant:` of its own"
            problems.append(problem(root, (*variant.path, "variant"), text))
        names.add(variant.name)
    return problems
