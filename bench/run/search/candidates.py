"""Candidates of a tuning: configurations of each method, and their trials on the tuning's seeds and prompts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from bench.build.plugins import load_method, resolve
from bench.build.trial_spec import Trial
from bench.errors import BenchError, InvalidSweepError
from bench.plan.planner import Planner
from bench.run.search.space import draw
from bench.sweep import prompts
from bench.sweep.load import LoadedSweep, Variant, variants_of
from bench.sweep.overlay import suggestion
from bench.sweep.problems import problem
from bench.sweep.schema import NAME_PATTERN, Prompts, Search
from bench.sweep.yaml_source import Path_
from methods.settings import modifications


@dataclass(frozen=True)
class Candidate:
    """One configuration of one method.

    Attributes:
        variant: the method's variant name in the sweep.
        number: the number of the configuration, from 0.
        values: searched setting -> value.
        trials: one trial for each seed of the stage.
        modified: the settings by which it is another method than the one whose plain name its variant carries (see
            `methods.settings.modifications`); empty for a variant with a name of its own.
    """

    variant: str
    number: int
    values: dict[str, Any] = field(hash=False)
    trials: tuple[Trial, ...] = field(hash=False)
    modified: tuple[str, ...] = field(default=(), hash=False)


class Candidates:
    """Makes the candidates of a sweep's tuning.

    Raises:
        BenchError: a space does not fit its method, stages or criteria do not fit the sweep, or tuning and comparison
            share a seed or a held-out prompt.
    """

    def __init__(self, planner: Planner):
        loaded, search = planner.loaded, planner.loaded.sweep.search
        assert search is not None
        self.loaded, self.search = loaded, search
        self.variants = {variant.name: variant for variant in variants_of(loaded.sweep, loaded.root)}
        _check_spaces(loaded, search, self.variants)
        _check_stages(loaded, search, self.variants)
        _check_separate(loaded, search)
        self._first = planner.for_tuning(search.seeds, search.budget)
        self._finals = planner.for_tuning(search.finals.seeds) if search.finals else None

    def drawn(self, variant: str) -> list[Candidate]:
        """All candidates of a variant, for an algorithm that draws them independently of scores."""
        values = draw(self.search.space[variant], self.search.samples, self.search.seed, variant)
        candidates = [self.make(variant, number, own) for number, own in enumerate(values)]
        if "gold" in self.search.criteria:
            require_plain(candidates)
        return candidates

    def make(self, variant: str, number: int, values: dict[str, Any]) -> Candidate:
        """The candidate with these values, and its trials. Raises `InvalidSweepError` if a value is invalid."""
        candidate = Candidate(variant, number, values, ())
        candidate = replace(candidate, trials=self._trials(self._first, candidate, ""))
        return replace(candidate, modified=self._modified(candidate))

    def _modified(self, candidate: Candidate) -> tuple[str, ...]:
        own = self.variants[candidate.variant]
        if own.name != own.method:
            return ()
        settings = load_method(resolve(own.method, self.loaded.base)).Settings(**own.settings, **candidate.values)
        return tuple(name for name in modifications(settings) if name in candidate.values)

    def final(self, candidate: Candidate) -> Candidate:
        """The candidate with its trials in the finals."""
        assert self._finals is not None
        return replace(candidate, trials=self._trials(self._finals, candidate, "-final"))

    def _trials(self, planner: Planner, candidate: Candidate, suffix: str) -> tuple[Trial, ...]:
        """The trials of a candidate in a stage; `suffix` is the end of their variant's name there."""
        variant, values = candidate.variant, candidate.values
        own, name = self.variants[variant], f"{variant}-t{candidate.number:02d}{suffix}"
        try:
            return tuple(planner.trials([Variant(name, own.method, {**own.settings, **values}, own.sampler, own.path)]))
        except InvalidSweepError as error:
            place: Path_ = ("search", "space", variant)
            causes = [f"{values}: {line.partition('settings.')[2] or line}" for line in error.problems]
            if planner is self._first and self.search.budget and all(": budget." in line for line in error.problems):
                place = ("search", "budget")
                causes = [line.partition(": budget.")[2] for line in error.problems]
            raise InvalidSweepError([problem(self.loaded.root, place, cause) for cause in causes]) from None

    def trials_of(self, candidates: Mapping[str, Sequence[Candidate]]) -> list[Trial]:
        """The trials of every candidate (variant -> candidates), ordered by seed."""
        trials = [candidate.trials for own in candidates.values() for candidate in own]
        return [trial for seed in zip(*trials, strict=True) for trial in seed]


def require_plain(candidates: Sequence[Candidate]) -> None:
    """Raises `BenchError` if every candidate of a method modifies it, so that reward can choose none for its name."""
    first = candidates[0]
    if all(candidate.modified for candidate in candidates):
        what = f"reward has nothing to choose from: every configuration of {first.variant} changes {first.modified[0]}"
        do = "give it its default among the values, or the row a name of its own (variant: …)"
        raise BenchError(f"{what}, which the method's plain name does not allow", f"search.space.{first.variant}", do)


def _check_spaces(loaded: LoadedSweep, search: Search, variants: dict[str, Variant]) -> None:
    problems: list[tuple[Path_, str]] = []
    for name in (*search.space, *search.untuned):
        where: Path_ = ("search", "space", name) if name in search.space else ("search", "untuned")
        if name not in variants:
            hint = suggestion(name, list(variants)) or f"the sweep has {', '.join(variants)}"
            problems.append((where, f"{name!r} is not a method of this sweep; {hint}"))
    for name, variant in variants.items():
        where = ("search", "space", name)
        trains = load_method(resolve(variant.method, loaded.base)).trains
        if name in search.space and not trains:
            problems.append((where, f"{name} trains nothing, so there is nothing to tune"))
        elif name in search.space:
            repeated = next((key for key in search.space[name] if key in variant.settings), None)
            if repeated:
                problems.append(((*where, repeated), "is in the method's settings too; write it once"))
        elif trains and name not in search.untuned:
            text = f"{name} has no space, and methods are tuned alike; give it one, or name it in search.untuned"
            problems.append((("search", "space"), text))
    if problems:
        raise InvalidSweepError([problem(loaded.root, place, text) for place, text in problems])


def gold_row(variant: str) -> str:
    """The name of the comparison's variant that has a method's settings as gold chose them."""
    return f"{variant}-gold"


def _check_stages(loaded: LoadedSweep, search: Search, variants: dict[str, Variant]) -> None:
    """Raises `InvalidSweepError` if the first stage's budget or the criteria do not fit the sweep."""
    sweep, problems = loaded.sweep, list[tuple[Path_, str]]()
    for axis, amount in (search.budget or {}).items():
        limit = sweep.budget[sweep.primary_axis]
        if axis != sweep.primary_axis:
            text = f"the sweep's budget is one of {sweep.primary_axis}; give the first stage a part of that"
            problems.append((("search", "budget", axis), text))
        elif amount >= limit:
            text = f"{amount:g} is no less than the comparison's {limit:g}; give less, or leave search.budget out"
            problems.append((("search", "budget", axis), text))
    if "gold" in search.criteria:
        if sweep.evaluate.gold is None:
            problems.append((("search", "criteria"), "gold needs a gold reward to be evaluated; write evaluate.gold"))
        for name, row in ((name, gold_row(name)) for name in search.space):
            if row in variants:
                text = f"{row!r} is what the comparison calls {name} as gold chooses it; give this one another name"
                problems.append(((*variants[row].path, "variant"), text))
            elif not re.fullmatch(NAME_PATTERN, row):
                text = f"{row!r} is too long a name for what gold chooses; give {name} a shorter `variant:`"
                problems.append((("search", "space", name), text))
    if problems:
        raise InvalidSweepError([problem(loaded.root, place, text) for place, text in problems])


def _check_separate(loaded: LoadedSweep, search: Search) -> None:
    """Raises `InvalidSweepError` if the comparison uses a seed, or one of the separate prompts, of the tuning.

    The stages of the tuning may share no seed either.
    """
    sweep, finals = loaded.sweep, search.finals.seeds if search.finals else ()
    first_place: Path_ = ("search", "seeds")
    finals_place: Path_ = ("search", "finals", "seeds")
    reported = "is compared too; tune on seeds that are not reported"
    for place, seeds, others, text in (
        (first_place, search.seeds, sweep.seeds, reported),
        (finals_place, finals, sweep.seeds, reported),
        (finals_place, finals, search.seeds, "is the first stage's too; give the finals others"),
    ):
        both = sorted(set(seeds) & set(others))
        if both:
            raise InvalidSweepError([problem(loaded.root, place, f"seed {both[0]} {text}")])
    if search.prompts is None:
        return
    tuned = {prompt for source in _sources(search.prompts) for prompt in prompts.read(source, loaded.base)}
    compared = {prompt for source in _sources(sweep.prompts) for prompt in prompts.read(source, loaded.base)}
    shared = sorted(tuned & compared)
    if shared:
        text = f"{shared[0]!r} is compared too; tune on other prompts, or leave search.prompts out to tune on the same"
        raise InvalidSweepError([problem(loaded.root, ("search", "prompts"), text)])


def _sources(split: Prompts) -> list[Any]:
    return [source for source in (split.train, split.heldout) if source is not None]
