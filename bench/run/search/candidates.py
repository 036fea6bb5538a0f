"""What tuning tries: configurations of each method, and their trials on seeds and prompts of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.build.plugins import load_method, resolve
from bench.build.trial_spec import Trial
from bench.errors import InvalidSweepError
from bench.plan.planner import Planner
from bench.run.search.space import draw
from bench.sweep import prompts
from bench.sweep.load import LoadedSweep, Variant, variants_of
from bench.sweep.overlay import suggestion
from bench.sweep.problems import problem
from bench.sweep.schema import Prompts, Search
from bench.sweep.yaml_source import Path_


@dataclass(frozen=True)
class Candidate:
    """One configuration of one method.

    Attributes:
        variant: of the method, as the sweep calls it.
        number: of the configuration, from 0.
        values: of the settings that are searched.
        trials: one a seed.
    """

    variant: str
    number: int
    values: dict[str, Any] = field(hash=False)
    trials: tuple[Trial, ...] = field(hash=False)


class Candidates:
    """Makes a sweep's candidates.

    Raises:
        BenchError: a space does not fit its method, or tuning would see what the comparison reports.
    """

    def __init__(self, planner: Planner):
        loaded, search = planner.loaded, planner.loaded.sweep.search
        assert search is not None
        self.loaded, self.search = loaded, search
        self.variants = {variant.name: variant for variant in variants_of(loaded.sweep, loaded.root)}
        _check_spaces(loaded, search, self.variants)
        _check_separate(loaded, search)
        self._planner = planner.for_tuning()

    def drawn(self, variant: str) -> list[Candidate]:
        """All candidates of a variant, where they do not depend on how others did."""
        values = draw(self.search.space[variant], self.search.samples, self.search.seed, variant)
        return [self.make(variant, number, each) for number, each in enumerate(values)]

    def make(self, variant: str, number: int, values: dict[str, Any]) -> Candidate:
        """A candidate and its trials."""
        own = self.variants[variant]
        tried = Variant(f"{variant}-t{number:02d}", own.method, {**own.settings, **values}, own.sampler, own.path)
        try:
            return Candidate(variant, number, values, tuple(self._planner.trials([tried])))
        except InvalidSweepError as error:
            place = ("search", "space", variant)
            causes = [line.partition("settings.")[2] or line for line in error.problems]
            raise InvalidSweepError(
                [problem(self.loaded.root, place, f"{values}: {line}") for line in causes]
            ) from None

    def trials_of(self, tried: Mapping[str, Sequence[Candidate]]) -> list[Trial]:
        """The trials of each variant's candidates, the first seed of every candidate first."""
        together = [candidate.trials for own in tried.values() for candidate in own]
        return [trial for seed in zip(*together, strict=True) for trial in seed]


def _check_spaces(loaded: LoadedSweep, search: Search, variants: dict[str, Variant]) -> None:
    problems: list[tuple[Path_, str]] = []
    for name in (*search.space, *search.untuned):
        where: Path_ = ("search", "space", name) if name in search.space else ("search", "untuned")
        if name not in variants:
            hint = suggestion(name, list(variants)) or f"the sweep has {', '.join(variants)}"
            problems.append((where, f"{name!r} is no method of this sweep; {hint}"))
    for name, variant in variants.items():
        where = ("search", "space", name)
        trains = load_method(resolve(variant.method, loaded.base)).trains
        if name in search.space and not trains:
            problems.append((where, f"{name} trains nothing, so there is nothing to tune"))
        elif name in search.space:
            twice = next((key for key in search.space[name] if key in variant.settings), None)
            if twice:
                problems.append(((*where, twice), "is in the method's settings too; write it once"))
        elif trains and name not in search.untuned:
            text = f"{name} has no space, and methods are tuned alike; give it one, or name it in search.untuned"
            problems.append((("search", "space"), text))
    if problems:
        raise InvalidSweepError([problem(loaded.root, place, text) for place, text in problems])


def _check_separate(loaded: LoadedSweep, search: Search) -> None:
    """No seed is both tuned on and reported, and no prompt where tuning has prompts of its own."""
    sweep = loaded.sweep
    both = sorted(set(search.seeds) & set(sweep.seeds))
    if both:
        text = f"seed {both[0]} is compared too; tune on seeds that are not reported"
        raise InvalidSweepError([problem(loaded.root, ("search", "seeds"), text)])
    if search.prompts is None:
        return
    tuned = {prompt for source in _sources(search.prompts) for prompt in prompts.read(source, loaded.base)}
    compared = {prompt for source in _sources(sweep.prompts) for prompt in prompts.read(source, loaded.base)}
    shared = sorted(tuned & compared)
    if shared:
        text = f"{shared[0]!r} is compared too; tune on other prompts, or leave search.prompts out to tune on the same"
        raise InvalidSweepError([problem(loaded.root, ("search", "prompts"), text)])


def _sources(asked: Prompts) -> list[Any]:
    return [source for source in (asked.train, asked.heldout) if source is not None]
