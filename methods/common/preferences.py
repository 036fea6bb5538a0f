"""Preferences from rewards: of a prompt's images, which is the better."""

import math

import torch
from torch import Tensor

from methods.base import StepMetrics, mean
from methods.common.advantages import rounding


def check_pairs(images_per_prompt: int) -> None:
    """Refuses a rollout in which no image has another of its prompt to be compared with.

    Raises:
        ValueError: there are fewer than two images a prompt.
    """
    if images_per_prompt < 2:
        raise ValueError(f"images_per_prompt is {images_per_prompt}, but a pair takes two images of a prompt")


def ranked_pairs(rewards: Tensor, group: int) -> Tensor:
    """Pairs `[P, 2]` of sample numbers, the better first: a group's best and worst, its second best and second worst …

    Every image is in one pair at most (the middle one of an odd group is in none), and the pairs differ as much as
    disjoint pairs can. A pair whose rewards are equal, up to rounding, prefers nothing and is dropped.

    Args:
        rewards: `[B]`, consecutive groups.
        group: images in a group, at least 2.
    """
    ranked = rewards.reshape(-1, group).argsort(dim=1, descending=True, stable=True)
    ranked = ranked + torch.arange(0, len(rewards), group, device=rewards.device)[:, None]
    half = group // 2
    pairs = torch.stack([ranked[:, :half], ranked.flip(1)[:, :half]], dim=2).reshape(-1, 2)
    better, worse = rewards[pairs].T
    return pairs[better - worse > rounding(torch.maximum(better.abs(), worse.abs()))]


def preference_metrics(
    rewards: Tensor, pairs: int, losses: list[Tensor], right: list[Tensor], norms: list[float]
) -> StepMetrics:
    """What a step on ranked pairs reports.

    Args:
        rewards: of the images it drew, `[B]`.
        pairs: how many of them were ranked.
        losses: of each micro-batch, `[P]`; none where no two rewards differed.
        right: of each micro-batch, whether the policy already ranks a pair as the reward does, `[P]`.
        norms: of each update's gradient before clipping.
    """
    return StepMetrics(
        loss=float(torch.cat(losses).mean()) if losses else math.log(2),  # what equal rewards would give
        reward=float(rewards.mean()),
        gradient_norm=mean(norms),
        updates=len(norms),
        extra={"pairs": float(pairs), "ranked_right": float(torch.cat(right).mean()) if right else 0.0},
    )
