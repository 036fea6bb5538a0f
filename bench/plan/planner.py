"""Plans a sweep: the list of its trials, one for each variant and seed, ordered by seed, each fully resolved.

The planner has each method validate its settings, resolves references and hashes weights. It trains nothing and writes
no file.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.build import plugins
from bench.build.objects import sampler_settings
from bench.build.trial_spec import Budget, EvaluationPlan, Trial
from bench.errors import InvalidSweepError
from bench.plan.budget import prompts_in_step, step_cost
from bench.plan.identity import identified
from bench.plan.preflight import check_tracker
from bench.plan.shared_inputs import SharedInputs, shared_inputs
from bench.sweep import prompts
from bench.sweep.load import LoadedSweep, Variant, variants_of
from bench.sweep.problems import Problems, at, describe, problem
from bench.sweep.prompt_files import local_path
from bench.sweep.schema import Lora, Prompts, RewardSpec, Sampler, Sweep
from methods.base import Method
from models.ledger import MEASURED_AXES, BudgetAxis
from models.paths.base import NoisePath

EVALUATION_STEPS = 20
"""Denoising steps of evaluation, unless the sweep sets `evaluate.sampler`."""
POINTS = 8
"""Evaluations during a budget, after the first, unless the sweep sets `evaluate.every`."""


@dataclass(frozen=True)
class PlannedVariant:
    """A variant whose settings its method has validated."""

    variant: Variant
    cls: type[Method]
    reference: str
    settings: Any
    sampler: Sampler


class Planner:
    """Makes the trials of a sweep's variants; their shared inputs are found and hashed once.

    Args:
        loaded: the sweep.
        shared: its shared inputs; found where they are left out.

    Raises:
        BenchError: a name is unknown, or a reward cannot be built.
    """

    def __init__(self, loaded: LoadedSweep, shared: SharedInputs | None = None):
        self.loaded = loaded
        self._budget = _budget(loaded.sweep)
        if shared is not None:
            self._shared = shared
            return
        problems = Problems()
        for tracker in loaded.sweep.track.services:
            problems.collect(partial(at, loaded.root, ("track", tracker), partial(check_tracker, tracker)))
        self._shared = shared_inputs(loaded, problems)
        if problems.lines:  # the methods' problems are reported with them
            variants = variants_of(loaded.sweep, loaded.root)
            problems.collect(lambda: _planned_variants(loaded, variants, self._shared, self._budget))
            problems.raise_if_any()

    def for_tuning(self, seeds: tuple[int, ...], budget: Mapping[BudgetAxis, float] | None = None) -> "Planner":
        """The planner of the trials that tune, on the prompts of `search`: it finds nothing again.

        Args:
            seeds: the seeds of the trials.
            budget: what of the sweep's budget is another; points are as far apart as in the comparison.
        """
        own = self.loaded.sweep
        assert own.search is not None
        changes = {
            "seeds": seeds,
            "prompts": own.search.prompts or Prompts(train=own.prompts.train),
            "budget": {**own.budget, **(budget or {})},
            "evaluate": own.evaluate.model_copy(update={"every": _evaluation(own).every}),
            "search": None,
        }
        return Planner(replace(self.loaded, sweep=own.model_copy(update=changes)), self._shared.for_tuning())

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences on the model and the prompts that a reader of the results must know, stored with the run."""
        return self._shared.warnings

    def trials(self, variants: Sequence[Variant] | None = None) -> list[Trial]:
        """The trials of `variants` (None: all of the sweep's): those of the first seed, then those of the next.

        Raises:
            BenchError: a method refuses a setting, or the reward or the model does not fit a method.
        """
        if variants is None:
            variants = variants_of(self.loaded.sweep, self.loaded.root)
        planned_variants = _planned_variants(self.loaded, variants, self._shared, self._budget)
        sweep = self.loaded.sweep
        return [
            _trial(sweep, self._shared, self._budget, planned, seed)
            for seed in sweep.seeds
            for planned in planned_variants
        ]


def resolved_sweep(loaded: LoadedSweep) -> dict[str, Any]:
    """The sweep as it is stored with its run: overlays applied, defaults filled in, paths absolute."""
    base = loaded.base
    sweep = loaded.sweep.model_dump(mode="json", by_alias=True, exclude={"scales"}, exclude_none=True)
    own, evaluate = loaded.sweep.reward, loaded.sweep.evaluate
    sweep["reward"] = _resolved(own, base)
    sweep["evaluate"]["rewards"] = [_resolved(spec, base) for spec in evaluate.rewards]
    if evaluate.gold:
        sweep["evaluate"]["gold"] = _resolved(evaluate.gold, base)
    for entry in sweep["methods"]:
        entry["name"] = plugins.resolve(entry["name"], base)
    for sources in (sweep["prompts"], sweep.get("search", {}).get("prompts")):
        if sources:
            _resolve_prompts(sources, base)
    if (base / sweep["model"]).is_dir() and sweep["model"] not in plugins.embedded_models():
        sweep["model"] = str((base / sweep["model"]).resolve())
    elif plugins.is_reference(sweep["model"]):
        sweep["model"] = plugins.resolve(sweep["model"], base)
    return sweep


def _resolve_prompts(sources: dict[str, Any], base: Path) -> None:
    """Makes the paths of prompt files absolute, in place."""
    for key in ("train", "heldout"):
        source = sources.get(key)
        if isinstance(source, str) and source not in prompts.names():
            sources[key] = str(local_path(source, base))
        elif isinstance(source, dict) and "hub" not in source:
            source["file"] = str(local_path(source["file"], base))


def _resolved(spec: RewardSpec, base: Path) -> dict[str, Any]:
    return plugins.resolve_reward(spec, base).model_dump(mode="json", exclude_none=True)


def _trial(sweep: Sweep, shared: SharedInputs, budget: Budget, planned: PlannedVariant, seed: int) -> Trial:
    resources = sweep.resources
    weights = {"model": shared.model_hash}
    for ref in (shared.reward, *shared.rewards, *([shared.gold] if shared.gold else [])):
        weights |= ref.weights
    return identified(
        Trial(
            sweep=sweep.name,
            variant=planned.variant.name,
            method=planned.cls.name,
            reference=planned.reference,
            settings=planned.settings.model_dump(mode="json"),
            seed=seed,
            model=shared.model,
            model_name=sweep.model,
            sampler=planned.sampler,
            sampler_version=shared.sampler_version,
            lora=Lora(rank=sweep.lora.rank, alpha=sweep.lora.alpha or sweep.lora.rank, targets=sweep.lora.targets),
            reward=shared.reward,
            rewards=shared.rewards,
            gold=shared.gold,
            prompts_train=shared.train,
            prompts_heldout=shared.heldout,
            budget=budget,
            evaluate=_evaluation(sweep),
            target=sweep.target,
            keep=sweep.evaluate.keep,
            precision=resources.precision,
            threads=resources.cpus,
            gpus=resources.gpus,
            workers=resources.workers,
            zero=resources.zero,
            offload=resources.offload == "cpu",
            retries=sweep.retries,
            track=sweep.track,
            weights=weights,
            identity="",
        )
    )


def _budget(sweep: Sweep) -> Budget:
    axis = sweep.primary_axis
    stops: dict[str, float] = {name: limit for name, limit in sweep.budget.items() if name != axis}
    return Budget(axis=axis, limit=sweep.budget[axis], stops=stops)


def _evaluation(sweep: Sweep) -> EvaluationPlan:
    evaluate = sweep.evaluate
    default = Sampler(steps=EVALUATION_STEPS, guidance=sweep.sampler.guidance, eta=0.0)
    return EvaluationPlan(
        every=evaluate.every or sweep.budget[sweep.primary_axis] / POINTS,
        prompts=evaluate.prompts,
        images=evaluate.images,
        seed=evaluate.seed,
        sampler=evaluate.sampler or default,
        average=evaluate.average,
        scale=evaluate.scale,
    )


# -- methods ---------------------------------------------------------------------------------------------------


def _planned_variants(
    loaded: LoadedSweep, variants: Sequence[Variant], shared: SharedInputs, budget: Budget
) -> list[PlannedVariant]:
    """The variants with the settings and samplers of their trials; raises with the problems of all of them."""
    evaluated = len(prompts.spread(shared.train, loaded.sweep.evaluate.prompts)) * loaded.sweep.evaluate.images
    problems = Problems()
    if shared.path is not None:
        unfit = shared.path.unfit(sampler_settings(_evaluation(loaded.sweep).sampler))
        if unfit:
            problems.lines.append(problem(loaded.root, ("evaluate", "sampler", "steps"), unfit))
    results = [
        problems.collect(partial(_planned_variant, loaded, variant, shared, budget, evaluated)) for variant in variants
    ]
    problems.raise_if_any()
    return [planned for planned in results if planned is not None]


def _planned_variant(
    loaded: LoadedSweep, variant: Variant, shared: SharedInputs, budget: Budget, evaluated: int
) -> PlannedVariant:
    reference = plugins.resolve(variant.method, loaded.base)
    cls = at(loaded.root, (*variant.path, "name"), lambda: plugins.load_method(reference))
    problems = Problems()
    unfit = unfit_reward(cls, shared.reward.label, shared.reward.differentiable) if shared.reward else None
    if unfit:
        problems.lines.append(problem(loaded.root, (*variant.path, "name"), unfit))
    texts = [unfit_model(cls, shared.family, shared.path)]
    if loaded.sweep.evaluate.average is not None and cls.own_trainer:
        texts.append(f"{cls.name} owns its optimiser, so its updates cannot be averaged; leave out evaluate.average")
    if loaded.sweep.resources.workers > 1 and cls.own_trainer:
        texts.append(f"{cls.name} owns its optimiser and its random state, and runs on one worker")
    problems.lines += [problem(loaded.root, (*variant.path, "name"), text) for text in texts if text]
    try:
        settings = cls.Settings(**variant.settings)
    except ValidationError as error:
        lines = describe(error, loaded.root, cls.Settings, (*variant.path, "settings"))
        if variant.grid:
            lines = [line.replace(".settings: ", ".grid: ") for line in lines]
        raise InvalidSweepError(problems.lines + lines) from None
    problems.raise_if_any()
    sampler = _training_sampler(loaded, variant, cls)
    try:
        cls.check(settings, sampler_settings(sampler))
        unfit = shared.path.unfit(sampler_settings(sampler), cls.needs_log_probabilities) if shared.path else None
        if unfit:
            raise ValueError(unfit)
    except ValueError as error:
        raise InvalidSweepError([problem(loaded.root, variant.path, f"{variant.name}: {error}")]) from None
    planned = PlannedVariant(variant, cls, reference, settings, sampler)
    _refuse_unlearnable(loaded, planned, budget, evaluated, len(shared.train))
    return planned


def _training_sampler(loaded: LoadedSweep, variant: Variant, cls: type[Method]) -> Sampler:
    """The method's own sampler, or else the sweep's, with the variant's changes; evaluation's if it trains nothing."""
    change = variant.sampler.model_dump(exclude_none=True)
    if not cls.trains:
        if change:
            text = f"{variant.name} trains nothing, so it samples as evaluation does; write evaluate.sampler instead"
            raise InvalidSweepError([problem(loaded.root, (*variant.path, "sampler"), text)])
        return _evaluation(loaded.sweep).sampler
    own = cls.default_sampler
    start = Sampler(**asdict(own)) if own else loaded.sweep.sampler
    return start.model_copy(update=change)


def _refuse_unlearnable(
    loaded: LoadedSweep, planned: PlannedVariant, budget: Budget, evaluated: int, training: int
) -> None:
    """Raises `InvalidSweepError` if the budget allows no step, or only steps from which the method learns nothing.

    Such a trial would give a flat curve that looks like a result.
    """
    variant, cls, settings, sampler = planned.variant, planned.cls, planned.settings, planned.sampler
    wanted = prompts_in_step(cls, settings, evaluated)
    if not wanted:
        return
    limits = {budget.axis: budget.limit, **budget.stops}
    full = step_cost(cls, settings, wanted, sampler_settings(sampler))
    if budget.axis not in (*full, *MEASURED_AXES):
        text = f"cost() of {cls.name} does not say what a step spends of {budget.axis}, by which this sweep is budgeted"
        raise InvalidSweepError([problem(loaded.root, (*variant.path, "name"), text)])
    steps = min((limit / full[axis] for axis, limit in limits.items() if full.get(axis)), default=math.inf)
    drawn = steps * wanted if math.isinf(steps) else max(1, math.ceil(steps * wanted))
    why = cls.futile(settings, wanted, training, drawn)
    if why:
        raise InvalidSweepError([problem(loaded.root, variant.path, f"{variant.name}: {why}")])
    cuts = range(1, wanted) if cls.cuts_last_step else ()
    least = next((prompts for prompts in cuts if not cls.futile(settings, prompts, training, prompts)), wanted)
    cost = step_cost(cls, settings, least, sampler_settings(sampler))
    problems = Problems()
    for axis, limit in limits.items():
        if cost.get(axis, 0) > limit:
            text = f"{limit:g} is less than one step of {variant.name} ({cost[axis]:g}); it could take no step"
            problems.lines.append(problem(loaded.root, ("budget", axis), text))
    problems.raise_if_any()


def unfit_reward(cls: type[Method], label: str, differentiable: bool) -> str | None:
    """Why the method cannot learn from the reward, in a sentence that names methods that can; None if it can."""
    if cls.reward_access == "value" or differentiable:
        return None
    fit = ", ".join(_value_methods())
    return f"{cls.name} needs the reward's gradient and {label} has none; methods that would work: {fit}"


def unfit_model(cls: type[Method], family: str, path: NoisePath | None) -> str | None:
    """Why the method does not work on a model of this family and noise process, in one sentence; None if it does."""
    if cls.families and family and family not in cls.families:
        return f"{cls.name} works on models of the family {' or '.join(cls.families)}; this one's is {family}"
    if cls.needs_gaussian_steps and path is not None and not path.gaussian:
        return f"{cls.name} needs the mean of a Gaussian step, and this model's steps are not Gaussian"
    return None


def _value_methods() -> list[str]:
    return [name for name in plugins.method_names() if plugins.load_method(name).reward_access == "value"]
