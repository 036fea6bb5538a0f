"""Advantages from rewards: what policy-gradient methods subtract and divide by."""

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

EPSILON = 1e-6  # DDPO's code adds it to the standard deviation

ROUNDING = 4
"""Units in the last place, in fp32, by which equal scores may differ: sums and products of a few terms round so far."""


def rounding(sizes: Tensor) -> Tensor:
    """How far scores of these magnitudes may lie apart by rounding alone: as `sizes`, which are at least 0."""
    return ROUNDING * min(torch.finfo(sizes.dtype).eps, torch.finfo(torch.float32).eps) * sizes


def varies(rewards: Tensor) -> bool:
    """Whether some of `rewards` `[N]`, N at least 1, differ by more than rounding; a NaN differs from everything.

    A constant reward's mean is off by a unit in the last place, and 1e-6 does not hide that of scores above 10: divided
    by such a spread, rounding would be an advantage of several σ.
    """
    low, high = rewards.aminmax()
    return not bool(high - low <= rounding(torch.maximum(low.abs(), high.abs())))


def standardise(rewards: Tensor) -> Tensor:
    """(r − μ) / (σ + 1e-6) over all of `rewards` `[B]`, the population's σ as in DDPO's code; 0 without a spread."""
    if not varies(rewards):
        return torch.zeros_like(rewards)
    return (rewards - rewards.mean()) / (rewards.std(correction=0) + EPSILON)


def group_advantages(rewards: Tensor, prompts: Sequence[str]) -> Tensor:
    """Mean of the prompt's own images in this rollout; σ of the whole rollout's deviations; 0 where a prompt's agree.

    Dividing by a group's own σ of a few images would let a prompt whose images agree dominate the update.
    """
    advantages = torch.zeros_like(rewards)
    for prompt in dict.fromkeys(prompts):
        rows = [index for index, other in enumerate(prompts) if other == prompt]
        if varies(rewards[rows]):
            advantages[rows] = rewards[rows] - rewards[rows].mean()
    return advantages / (advantages.std(correction=0) + EPSILON)


def futile_statistics(settings: Any, prompts: int, training: int, drawn: float = math.inf) -> str | None:
    """Why every advantage is 0, whatever the rewards are (see `methods.base.Method.futile`).

    Args:
        settings: with `images_per_prompt` and `statistics`, and for `per-prompt` with those of `PromptStatistics`.
    """
    if settings.images_per_prompt > 1:
        return None
    if settings.statistics == "group" and prompts <= training:
        other = ", or statistics: batch" if prompts > 1 else ""
        return (
            f"images_per_prompt is 1 and a rollout has {prompts} of {training} training prompts, so a group is one "
            f"image, and that its own mean: nothing can be learned; write images_per_prompt: 2 or more{other}"
        )
    if prompts > 1:
        return None
    alone = "a rollout is one image (prompts_per_rollout × images_per_prompt)"
    do = "write images_per_prompt: 2 or more"
    if settings.statistics != "per-prompt":
        return f"{alone}, and that its own mean: nothing can be learned; {do}"
    if settings.buffer_size < settings.min_count:
        return (
            f"{alone}, and a prompt's statistics take min_count: {settings.min_count} rewards, where buffer_size: "
            f"{settings.buffer_size} are remembered: nothing can be learned; {do}, or a smaller min_count"
        )
    seen = math.inf if math.isinf(drawn) else -(-int(drawn) // training)
    if seen < settings.min_count:
        return (
            f"{alone}, and a prompt's statistics take min_count: {settings.min_count} rewards, where the budget draws "
            f"it {seen} times at most: nothing can be learned; {do}, or a smaller min_count"
        )
    return None


class PromptStatistics:
    """Running statistics of each prompt's rewards (DDPO, section 6; ddpo-pytorch's PerPromptStatTracker).

    Args:
        buffer_size: rewards remembered for a prompt.
        min_count: below it the whole rollout's statistics stand in, and where the remembered ones have no spread.
    """

    def __init__(self, buffer_size: int, min_count: int):
        self.buffer_size = buffer_size
        self.min_count = min_count
        self._rewards: dict[str, deque[float]] = {}

    def update(self, rewards: Tensor, prompts: Sequence[str]) -> Tensor:
        """Remembers `rewards` `[B]` and returns their advantages `[B]`."""
        for prompt, reward in zip(prompts, rewards.tolist(), strict=True):
            self._rewards.setdefault(prompt, deque(maxlen=self.buffer_size)).append(reward)
        advantages = standardise(rewards)
        for prompt in dict.fromkeys(prompts):
            remembered = torch.tensor(list(self._rewards[prompt]), dtype=rewards.dtype)
            if len(remembered) < self.min_count:
                continue
            rows = [index for index, other in enumerate(prompts) if other == prompt]
            if varies(remembered):
                advantages[rows] = (rewards[rows] - remembered.mean()) / (remembered.std(correction=0) + EPSILON)
            elif not varies(torch.cat([remembered, rewards[rows].cpu()])):  # a small buffer holds a few of them
                advantages[rows] = 0.0
        return advantages

    def state_dict(self) -> dict[str, list[float]]:
        return {prompt: list(values) for prompt, values in self._rewards.items()}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        self._rewards = {prompt: deque(values, maxlen=self.buffer_size) for prompt, values in state.items()}
