"""The number of prompts in the next step that the rest of a budget allows."""

from collections.abc import Mapping
from typing import Any

from bench.build.objects import sampler_settings
from bench.build.plugins import load_method
from bench.build.trial_spec import Budget, Trial
from methods.base import Method, SamplingMethod
from models.ledger import spent
from models.sampler import SamplerSettings


def affordable_prompts(
    method: type[Method],
    settings: Any,
    sampler: SamplerSettings,
    budget: Budget,
    book: Mapping[str, int | float],
    evaluated: int = 0,
    training: int = 1,
) -> int:
    """The number of prompts in the next step: a full step's, fewer in a shortened last step, 0 for a spent budget.

    A method may shorten its last step, but not so far that nothing could be learned from it. A step whose cost is known
    beforehand is not begun if it would cross a limit. On an axis whose cost is known only afterwards (seconds, FLOPs),
    a step is begun while any of the limit is left.

    Args:
        method: the method's class.
        settings: the method's validated settings.
        sampler: the training sampler.
        budget: the limits.
        book: what the trial has spent, by axis of the ledger.
        evaluated: as for `prompts_in_step`.
        training: the number of training prompts.
    """
    limits = {budget.axis: budget.limit, **budget.stops}
    full = prompts_in_step(method, settings, evaluated)
    smallest = 1 if method.cuts_last_step else full
    before = int(book["steps"]) * full  # only the last step is shortened
    for prompts in range(full, max(smallest, 1) - 1, -1):
        if prompts < full and method.futile(settings, prompts, training, before + prompts):
            continue
        cost = step_cost(method, settings, prompts, sampler)
        if all(
            spent(axis, book) + cost[axis] <= limit if axis in cost else spent(axis, book) < limit
            for axis, limit in limits.items()
        ):
            return prompts
    return 0


def affords_a_step(trial: Trial, book: Mapping[str, int | float]) -> bool:
    """Whether a trial that has spent `book` (by axis of the ledger) can take another step within its budget."""
    cls = load_method(trial.reference)
    settings, sampler = cls.Settings(**trial.settings), sampler_settings(trial.sampler)
    evaluated = len(trial.evaluated["train"]) * trial.evaluate.images
    return affordable_prompts(cls, settings, sampler, trial.budget, book, evaluated, len(trial.prompts_train)) > 0


def step_cost(method: type[Method], settings: Any, prompts: int, sampler: SamplerSettings) -> dict[str, int]:
    """The cost of a step on `prompts` prompts by axis, for the axes whose cost is known beforehand."""
    return {"steps": 1, **method.cost(settings, prompts, sampler)}


def prompts_in_step(method: type[Method], settings: Any, evaluated: int) -> int:
    """The number of prompts in a full step: the method's own, or every evaluated image if the method chooses images.

    Args:
        method: the method's class.
        settings: the method's validated settings.
        evaluated: the number of images that evaluation takes of training prompts.
    """
    if issubclass(method, SamplingMethod):
        return evaluated if method.selects else 0
    return method.prompts_per_step(settings)
