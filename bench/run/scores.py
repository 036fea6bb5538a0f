"""Scores of rewards for methods and for evaluation: billed to the meter, divided among workers, checked for NaN."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from torch import Tensor

from bench.build.trial_spec import Trial
from bench.errors import Diverged
from bench.stopping import heeded
from methods.base import RewardFunction
from models.meter import Meter
from models.workers import Workers
from rewards.base import Reward, RewardError
from rewards.containment import drawing


def metered(reward: Reward, meter: Meter, workers: Workers, label: str, seed: int) -> RewardFunction:
    """The reward function that a method calls; it bills `meter` and divides the rows among the workers.

    It raises `Diverged` if an image is not finite, and `RewardError` if a score of finite images is not.

    Args:
        label: the reward's name in error messages.
        seed: the trial's seed. It and the number of queries so far, which a checkpoint holds, seed the random numbers
            that the reward draws from global generators.
    """

    def score(images: Tensor, prompts: list[str]) -> Tensor:
        check_images(images)
        key = (seed, "reward", meter.ledger.reward_queries, meter.ledger.eval_queries)
        scores, parts = explained(reward, meter, workers, key, images, prompts)
        require_finite(label, scores, parts, meter)
        return scores

    return score


def explained(
    reward: Reward, meter: Meter, workers: Workers, key: tuple[int | str, ...], images: Tensor, prompts: list[str]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Scores `[B]`, and label -> scores `[B]` of the reward's parts; `key` seeds the reward's random numbers."""
    parts: dict[str, Tensor] = {}

    def score(batch: Tensor) -> Tensor:
        nonlocal parts
        with drawing(*key, workers.rank):
            scores, own = reward.explain(workers.share(batch), workers.share_list(prompts))
        parts = {label: workers.gather(part, len(batch)) for label, part in own.items()}
        return workers.gather(scores, len(batch))

    with heeded():  # a user's reward may catch KeyboardInterrupt
        scores = meter.count_reward(images, score, reward.name)
    return scores, parts


def scores_of(
    rewards: dict[str, Reward],
    meter: Meter,
    workers: Workers,
    label: str,
    seed: int,
    images: Tensor,
    prompts: list[str],
) -> dict[str, Tensor]:
    """Metric -> scores `[B]` at a point of the curve, for every reward and for the parts of the optimised one.

    Args:
        label: the name of the optimised reward. Only its scores must be finite, because no trial trains on the others.
        seed: `evaluate.seed`, so that rewards draw the same random numbers at every point, for every method and seed.
    """
    check_images(images)
    scored: dict[str, Tensor] = {}
    for metric, reward in rewards.items():
        key: tuple[int | str, ...] = (seed, "evaluation", metric, *prompts)
        scored[metric], parts = explained(reward, meter, workers, key, images, prompts)
        if metric == "reward":
            require_finite(label, scored[metric], parts, meter)
            scored |= {f"reward/{label}": scores for label, scores in parts.items()}
    return scored


def require_finite(label: str, scores: Tensor, parts: dict[str, Tensor], meter: Meter) -> None:
    """Raises `RewardError`, on which a trial is retried, if scores of finite images are not finite."""
    what = not_finite(label, scores, parts)
    if what:
        steps = meter.ledger.steps
        raise RewardError(
            f"{what}, in the evaluation after step {steps}" if meter.evaluating else f"{what}, at step {steps + 1}"
        )


def check_images(images: Tensor) -> None:
    """Raises `Diverged` if images are not finite, for which the policy is to blame and no reward."""
    if not images.detach().isfinite().all():
        raise Diverged("the images that were sampled hold NaN or infinite pixels")


def not_finite(label: str, scores: Tensor, parts: Mapping[str, Tensor]) -> str | None:
    """A sentence on the scores that are not finite and the parts they come from; None if all are finite.

    Args:
        label: the reward's name.
        scores: `[B]`.
        parts: label -> scores `[B]` of the reward's parts.
    """
    if bool(scores.detach().isfinite().all()):
        return None
    bad = {name: part for name, part in parts.items() if not bool(part.detach().isfinite().all())}
    causes = "".join(f"; its part {name!r} gave {_counted(part)}" for name, part in bad.items())
    return f"reward {label!r} gave {_counted(scores)}{causes}"


def _counted(scores: Tensor) -> str:
    return _count_text(len(scores), int(scores.detach().isnan().sum()), int(scores.detach().isinf().sum()))


def _count_text(total: int, nan: int, infinite: int) -> str:
    kinds = [f"{count} {kind}" for count, kind in ((nan, "NaN"), (infinite, "infinite")) if count]
    scores = "score that is" if nan + infinite == 1 else "scores that are"
    return f"{nan + infinite} {scores} not finite ({' and '.join(kinds)}) of {total}"


def not_finite_metrics(rows: pd.DataFrame, trial: Trial) -> dict[str, str]:
    """Metric -> a sentence on its values that are not finite, for each metric with such values.

    Args:
        rows: `bench.run.evaluation.Evaluation.rows`.
    """
    sentences = {}
    for metric, values in rows.groupby("metric", sort=False)["value"]:
        nan, infinite = int(values.isna().sum()), int(np.isinf(values).sum())
        if nan + infinite:
            sentences[str(metric)] = f"{_named(str(metric), trial)} gave {_count_text(len(values), nan, infinite)}"
    return sentences


def _named(metric: str, trial: Trial) -> str:
    if metric == "gold" and trial.gold:
        return f"gold reward {trial.gold.label!r}"
    kind, _, label = metric.partition("/")
    return f"{kind} {label!r}" if label else metric
