"""Rewards as methods and the evaluation see them: billed to the meter, shared by the workers, their scores checked."""

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
    """The reward as methods see it, billed to `meter`, its rows shared by the workers.

    Args:
        label: what the reward is called where its scores are not finite.
        seed: the trial's. What the reward draws from the global generators is keyed by it and by the queries so far,
            which a resumed trial knows.
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
    """Scores `[B]` and those of the reward's parts, billed once to `meter`; `key` is that of its random numbers."""
    parts: dict[str, Tensor] = {}

    def score(batch: Tensor) -> Tensor:
        nonlocal parts
        with drawing(*key, workers.rank):
            scores, own = reward.explain(workers.share(batch), workers.share_list(prompts))
        parts = {label: workers.gather(part, len(batch)) for label, part in own.items()}
        return workers.gather(scores, len(batch))

    with heeded():  # people's own rewards catch what they can
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
    """Metric -> scores `[B]` for a point of the curve: every reward, and the parts of the optimised one.

    Args:
        label: of the optimised reward, whose scores alone must be finite: a trial learns nothing from the others.
        seed: of evaluation: what rewards draw is the same at every point, for every method and seed.
    """
    check_images(images)
    found: dict[str, Tensor] = {}
    for metric, reward in rewards.items():
        key: tuple[int | str, ...] = (seed, "evaluation", metric, *prompts)
        found[metric], parts = explained(reward, meter, workers, key, images, prompts)
        if metric == "reward":
            require_finite(label, found[metric], parts, meter)
            found |= {f"reward/{label}": scores for label, scores in parts.items()}
    return found


def require_finite(label: str, scores: Tensor, parts: dict[str, Tensor], meter: Meter) -> None:
    """Raises `RewardError` if scores of finite images are not finite: the reward's doing, so it may be tried again."""
    what = not_finite(label, scores, parts)
    if what:
        steps = meter.ledger.steps
        raise RewardError(
            f"{what}, in the evaluation after step {steps}" if meter.evaluating else f"{what}, at step {steps + 1}"
        )


def check_images(images: Tensor) -> None:
    """Raises `Diverged` if images are not finite, which is the policy's doing and not a reward's."""
    if not images.detach().isfinite().all():
        raise Diverged("the images that were sampled hold NaN or infinite pixels")


def not_finite(label: str, scores: Tensor, parts: Mapping[str, Tensor]) -> str | None:
    """What of a reward's scores is not finite, naming the parts that it comes from; None where all are.

    Args:
        label: the reward's.
        scores: `[B]`.
        parts: label -> scores `[B]` of what the reward is made of.
    """
    if bool(scores.detach().isfinite().all()):
        return None
    own = {name: part for name, part in parts.items() if not bool(part.detach().isfinite().all())}
    made = "".join(f"; its part {name!r} gave {_counted(part)}" for name, part in own.items())
    return f"reward {label!r} gave {_counted(scores)}{made}"


def _counted(scores: Tensor) -> str:
    return _told(len(scores), int(scores.detach().isnan().sum()), int(scores.detach().isinf().sum()))


def _told(total: int, nan: int, infinite: int) -> str:
    kinds = [f"{count} {word}" for count, word in ((nan, "NaN"), (infinite, "infinite")) if count]
    scores = "score that is" if nan + infinite == 1 else "scores that are"
    return f"{nan + infinite} {scores} not finite ({' and '.join(kinds)}) of {total}"


def odd_columns(rows: pd.DataFrame, trial: Trial) -> dict[str, str]:
    """Metric -> what of an evaluation's values is not finite, for the metrics of which something is not.

    Args:
        rows: of `bench.run.evaluation.Evaluation`.
    """
    found = {}
    for metric, values in rows.groupby("metric", sort=False)["value"]:
        nan, infinite = int(values.isna().sum()), int(np.isinf(values).sum())
        if nan + infinite:
            found[str(metric)] = f"{_named(str(metric), trial)} gave {_told(len(values), nan, infinite)}"
    return found


def _named(metric: str, trial: Trial) -> str:
    if metric == "gold" and trial.gold:
        return f"gold reward {trial.gold.label!r}"
    kind, _, label = metric.partition("/")
    return f"{kind} {label!r}" if label else metric
