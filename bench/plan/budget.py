"""How much of a step the budget still allows."""

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
    """Prompts of the next step: a full step's, fewer where the method may cut its last, 0 when the budget is spent.

    A last step is not cut so far that nothing could be learned from it.

    A step whose cost is known beforehand is not begun if it would cross a limit. On an axis whose cost is known only
    afterwards (seconds, FLOPs), a step is begun while anything is left.

    Args:
        book: the ledger's axes so far.
        evaluated: see `prompts_in_step`.
        training: how many training prompts there are.
    """
    limits = {budget.axis: budget.limit, **budget.stops}
    full = prompts_in_step(method, settings, evaluated)
    smallest = 1 if method.cuts_last_step else full
    before = int(book["steps"]) * full  # only the last step is cut
    for prompts in range(full, max(smallest, 1) - 1, -1):
        if prompts < full and method.futile(settings, prompts, training, before + prompts):
            continue
        cost = method.cost(settings, prompts, sampler)
        if all(
            spent(axis, book) + cost[axis] <= limit if axis in cost else spent(axis, book) < limit
            for axis, limit in limits.items()
        ):
            return prompts
    return 0


def affords_a_step(trial: Trial, book: Mapping[str, int | float]) -> bool:
    """Whether a trial goes on from a point with these axes; at its last one it cannot, though something may be left."""
    cls = load_method(trial.reference)
    settings, sampler = cls.Settings(**trial.settings), sampler_settings(trial.sampler)
    evaluated = len(trial.evaluated["train"]) * trial.evaluate.images
    return affordable_prompts(cls, settings, sampler, trial.budget, book, evaluated, len(trial.prompts_train)) > 0


def prompts_in_step(method: type[Method], settings: Any, evaluated: int) -> int:
    """Prompts of a full step: as many as the method asks for, or every evaluated image where it chooses among those.

    Args:
        evaluated: images that evaluation looks at on the training prompts.
    """
    if issubclass(method, SamplingMethod):
        return evaluated if method.selects else 0
    return method.prompts_per_step(settings)
