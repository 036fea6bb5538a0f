"""Draws and scores samples of the present policy without a gradient, from which value-based methods learn."""

from dataclasses import dataclass

import torch
from torch import Tensor

from methods.base import Method, micro_batches


@dataclass(frozen=True)
class Samples:
    """Final states that a method drew, with their rewards.

    Attributes:
        prompts: B prompts.
        latents: x_0 `[B, ...]` (its name is a key in checkpoints).
        rewards: `[B]`; raw scores of the reward, unless a method has replaced them.
    """

    prompts: list[str]
    latents: Tensor
    rewards: Tensor


@torch.no_grad()
def collect(method: Method, prompts: list[str]) -> Samples:
    """Draws one image for each prompt with the method's training sampler, and scores it."""
    policy = method.policy
    latents, rewards = [], []
    for rows in micro_batches(len(prompts), method.settings.micro_batch):
        noise = method.rollout_noise(range(rows.start, rows.stop))
        latents.append(policy.sample(policy.start(noise(-1)), policy.encode(prompts[rows]), noise))
        rewards.append(method.reward(policy.decode(latents[-1]), prompts[rows]))
    return Samples(prompts, torch.cat(latents), torch.cat(rewards))


def draw_batch(method: Method, purpose: str, size: int, batch: int) -> list[int]:
    """Draws `batch` of `size` entries in random order; a batch larger than `size` repeats entries evenly.

    Args:
        method: the method whose random numbers are used, at its present iteration.
        purpose: name of the draw; draws of one iteration with different names differ.
        size: number of entries.
        batch: number of draws.

    Returns:
        `batch` distinct numbers. Number n stands for entry n mod `size`, so repeated entries can have different noise.
    """
    repeats = -(-batch // size)
    return method.seeds.permutation(purpose, method.iteration, size * repeats)[:batch]
