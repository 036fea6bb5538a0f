"""What a trial will cost, as far as its method can say before it runs."""

from dataclasses import asdict, dataclass
from typing import Any

from bench.plan import step_cost
from bench.plugins import load_method
from bench.trial_spec import Trial


@dataclass(frozen=True)
class Estimate:
    """Upper bounds for one trial; None where it is known only afterwards.

    Attributes:
        steps: of the method.
        reward_queries, nfe: of training; guidance counts two denoiser rows.
        points: evaluations.
        eval_images, eval_nfe: of all evaluations together.
    """

    steps: int | None
    reward_queries: int | None
    nfe: int | None
    points: int
    eval_images: int
    eval_nfe: int

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def estimate(trial: Trial) -> Estimate:
    """The cost of a trial that uses up its budget."""
    cls = load_method(trial.reference)
    points = _points(trial) if cls.trains else 1
    prompts = len(trial.prompts_train) + len(trial.prompts_heldout)
    images = points * prompts * trial.evaluate.images
    sampler = trial.evaluate.sampler
    rows = 1 if sampler.guidance == 1.0 else 2
    # Drift predicts the base model's noise too, on one image a prompt, from the second point on.
    drift = (points - 1) * prompts
    evaluation = (points, images, (images + drift) * sampler.steps * rows)
    if not cls.trains:
        return Estimate(0, 0, 0, *evaluation)
    settings = cls.Settings(**trial.settings)
    full = cls.prompts_per_step(settings)
    cost = step_cost(cls, settings, full, trial.sampler)
    limits = {trial.budget.axis: trial.budget.limit, **trial.budget.stops}
    known = [limit / cost[axis] for axis, limit in limits.items() if cost.get(axis)]
    if not known:
        return Estimate(None, None, None, *evaluation)
    share = min(known)
    steps = int(share)
    used = share if cls.cuts_last_step else float(steps)

    def total(axis: str) -> int | None:
        return round(used * cost[axis]) if axis in cost else None

    return Estimate(steps + (used > steps), total("reward_queries"), total("nfe"), *evaluation)


def _points(trial: Trial) -> int:
    whole = int(trial.budget.limit // trial.evaluate.every)
    rest = trial.budget.limit - whole * trial.evaluate.every
    return 1 + whole + (rest > 1e-9)
