"""Preferences from rewards: pairs of images of a prompt, as they were drawn, ranked by their rewards."""

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
    """Pairs `[P, 2]` of sample numbers, the better first: a group's first and second image, third and fourth, ….

    The partners are independent of the rewards, as the two images are that the sources draw for a prompt. An image is
    in at most one pair; the last one of an odd group is in none. A pair whose rewards are equal up to rounding
    expresses no preference and is dropped.

    Args:
        rewards: `[B]`; the images of a prompt are consecutive.
        group: number of images of a prompt, at least 2.
    """
    numbers = torch.arange(len(rewards), device=rewards.device).reshape(-1, group)
    drawn = numbers[:, : group // 2 * 2].reshape(-1, 2)
    pairs = drawn.gather(1, rewards[drawn].argsort(dim=1, descending=True, stable=True))
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
