"""Preferences from rewards: pairs of images of a prompt, ranked by their rewards."""

import math

import torch
from torch import Tensor

from methods.base import StepMetrics, mean
from methods.common.advantages import rounding


def check_pairs(images_per_prompt: int) -> None:
    """Refuses a rollout with fewer than two images for each prompt, which has no pairs.

    Raises:
        ValueError: `images_per_prompt` is below 2.
    """
    if images_per_prompt < 2:
        raise ValueError(f"images_per_prompt is {images_per_prompt}, but a pair takes two images of a prompt")


def ranked_pairs(rewards: Tensor, group: int) -> Tensor:
    """Pairs `[P, 2]` of sample numbers, the better first: a group's best and worst, second best and second worst, ….

    An image is in at most one pair; the middle one of an odd group is in none. The reward differences are as large as
    disjoint pairs allow. A pair whose rewards are equal up to rounding expresses no preference and is dropped.

    Args:
        rewards: `[B]`; the images of a prompt are consecutive.
        group: number of images of a prompt, at least 2.
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
    """The metrics of a step on ranked pairs.

    Args:
        rewards: rewards `[B]` of the images that the step drew.
        pairs: number of ranked pairs.
        losses: losses `[P]` of each micro-batch; empty if no two rewards differed.
        right: whether the policy already ranks a pair as the reward does, `[P]` for each micro-batch.
        norms: norm of the gradient of each update before clipping.
    """
    return StepMetrics(
        loss=float(torch.cat(losses).mean()) if losses else math.log(2),  # the loss of a pair without a margin
        reward=float(rewards.mean()),
        gradient_norm=mean(norms),
        updates=len(norms),
        extra={"pairs": float(pairs), "ranked_right": float(torch.cat(right).mean()) if right else 0.0},
    )
