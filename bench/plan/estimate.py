"""The estimated cost of a trial, from what its method declares before it runs."""

from dataclasses import asdict, dataclass
from typing import Any

from bench.build.objects import sampler_settings
from bench.build.plugins import load_method
from bench.build.trial_spec import Trial
from bench.plan.budget import prompts_in_step, step_cost
from methods.base import Method, SamplingMethod
from models.sampler import rows_per_prediction


@dataclass(frozen=True)
class Estimate:
    """Upper bounds of one trial's costs; None for a cost that is known only afterwards.

    Attributes:
        steps: training steps.
        reward_queries: images that the reward scores in training.
        nfe: denoiser rows in training; a prediction with guidance counts two.
        points: evaluations.
        eval_images, eval_nfe: images and denoiser rows of all evaluations together.
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
    """The estimated cost of a trial that uses up its budget."""
    cls = load_method(trial.reference)
    steps, training = _training(trial, cls)
    return Estimate(steps, training.get("reward_queries"), training.get("nfe"), *_evaluation(trial, cls, steps))


def _training(trial: Trial, cls: type[Method]) -> tuple[int | None, dict[str, int]]:
    """The number of steps, or None if it is unknown, and the total cost of training on the axes known beforehand."""
    settings = cls.Settings(**trial.settings)
    full = prompts_in_step(cls, settings, len(trial.evaluated["train"]) * trial.evaluate.images)
    if not full:
        return 0, {"reward_queries": 0, "nfe": 0}
    cost = step_cost(cls, settings, full, sampler_settings(trial.sampler))
    limits = {trial.budget.axis: trial.budget.limit, **trial.budget.stops}
    affordable = [limit / cost[axis] for axis, limit in limits.items() if cost.get(axis)]
    if not affordable:
        return None, {}
    share = min(affordable)
    steps = int(share)
    used = share if cls.cuts_last_step else float(steps)
    return steps + (used > steps), {axis: round(used * spent) for axis, spent in cost.items()}


def _evaluation(trial: Trial, cls: type[Method], steps: int | None) -> tuple[int, int, int]:
    """The number of points, images and denoiser rows of evaluation."""
    points = 1 if steps == 0 else _points(trial)
    if issubclass(cls, SamplingMethod):
        points += sum(rounds <= (steps or 0) for rounds in cls.shown)
    train, heldout = (len(trial.evaluated.get(split, ())) for split in ("train", "heldout"))
    sampler, images = trial.evaluate.sampler, trial.evaluate.images
    calls = sampler.steps * rows_per_prediction(sampler.guidance)
    shown = points * (train + heldout) * images
    if not cls.trains:
        # Images of training prompts are sampled anew only before the first round; those of held-out prompts in each.
        chosen = (steps or 0) * heldout * images
        drawn = (train + heldout) * images + chosen
        return points, shown + chosen, drawn * calls
    # Drift also predicts the base model's noise, on one image of each prompt, from the second point on.
    drift = (points - 1) * (train + heldout)
    nfe = (shown + drift) * calls
    if trial.sampler == sampler or points == 1:
        return points, shown, nfe
    # The reward under the method's own sampler, at the first and at the last point.
    own = 2 * train * images
    return points, shown + own, nfe + own * trial.sampler.steps * rows_per_prediction(trial.sampler.guidance)


def _points(trial: Trial) -> int:
    whole = int(trial.budget.limit // trial.evaluate.every)
    rest = trial.budget.limit - whole * trial.evaluate.every
    return 1 + whole + (rest > 1e-9)
