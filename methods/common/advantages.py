"""Advantages from rewards: the means that policy-gradient methods subtract and the deviations they divide by."""

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

EPSILON = 1e-6  # added to the standard deviation, as in DDPO's code

ROUNDING = 4
"""Units in the last place, in fp32, by which equal scores may differ after sums and products of a few terms."""


def rounding(sizes: Tensor) -> Tensor:
    """The largest difference between two scores of magnitude `sizes` (at least 0) that rounding alone may cause."""
    return ROUNDING * min(torch.finfo(sizes.dtype).eps, torch.finfo(torch.float32).eps) * sizes


def varies(rewards: Tensor) -> bool:
    """Whether some of `rewards` `[N]`, N at least 1, differ by more than rounding. A NaN differs from any number.

    The mean of a constant reward is off by a unit in the last place. For scores above 10 that exceeds `EPSILON`, so the
    rounding error, divided by the spread that it causes, would be an advantage of several σ.
    """
    low, high = rewards.aminmax()
    return not bool(high - low <= rounding(torch.maximum(low.abs(), high.abs())))


def standardise(rewards: Tensor) -> Tensor:
    """(r − μ) / (σ + 1e-6) over `rewards` `[B]`, with the population's σ as in DDPO's code; 0 if rewards are equal."""
    if not varies(rewards):
        return torch.zeros_like(rewards)
    return (rewards - rewards.mean()) / (rewards.std(correction=0) + EPSILON)


def rows_by_prompt(prompts: Sequence[str]) -> dict[str, list[int]]:
    """Prompt -> the numbers of its rows, prompts in the order in which they first come."""
    rows: dict[str, list[int]] = {}
    for row, prompt in enumerate(prompts):
        rows.setdefault(prompt, []).append(row)
    return rows


def group_advantages(rewards: Tensor, prompts: Sequence[str]) -> Tensor:
    """Advantages `[B]`: rewards less the mean of their prompt's images, over σ of these differences in the rollout.

    The advantages of a prompt whose rewards are equal are 0. σ is that of the whole rollout, because with the σ of a
    few images a prompt with nearly equal rewards would dominate the update.

    Args:
        rewards: `[B]`, of the images in a rollout.
        prompts: B prompts of the images.
    """
    advantages = torch.zeros_like(rewards)
    for rows in rows_by_prompt(prompts).values():
        if varies(rewards[rows]):
            advantages[rows] = rewards[rows] - rewards[rows].mean()
    return advantages / (advantages.std(correction=0) + EPSILON)


def futile_statistics(settings: Any, prompts: int, training: int, drawn: float = math.inf) -> str | None:
    """Says why the advantages are 0 for any rewards; None if they are not (see `methods.base.Method.futile`).

    Args:
        settings: settings with `images_per_prompt` and `statistics`, and with `buffer_size` and `min_count` if the
            statistics are `per-prompt`.
        prompts, training, drawn: as for `Method.futile`.
    """
    if settings.images_per_prompt > 1:
        return None
    if settings.statistics == "group" and prompts <= training:
        other = ", or statistics: batch" if prompts > 1 else ""
        return (
            f"images_per_prompt is 1 and a rollout has {prompts} of {training} training prompts, so a group is one "
            f"image with an advantage of 0: nothing can be learned; write images_per_prompt: 2 or more{other}"
        )
    if prompts > 1:
        return None
    alone = "a rollout is one image (prompts_per_rollout × images_per_prompt)"
    advice = "write images_per_prompt: 2 or more"
    if settings.statistics != "per-prompt":
        return f"{alone} with an advantage of 0: nothing can be learned; {advice}"
    needed = f"{alone}, and a prompt's statistics need min_count: {settings.min_count} rewards"
    if settings.buffer_size < settings.min_count:
        return (
            f"{needed}, but buffer_size: {settings.buffer_size} are remembered: nothing can be learned; {advice}, or a "
            "smaller min_count"
        )
    draws = math.inf if math.isinf(drawn) else -(-int(drawn) // training)
    if draws < settings.min_count:
        return (
            f"{needed}, but the budget draws it {draws} times at most: nothing can be learned; {advice}, or a smaller "
            "min_count"
        )
    return None


class PromptStatistics:
    """Running statistics of each prompt's rewards (DDPO, appendix D.3; ddpo-pytorch's PerPromptStatTracker).

    Args:
        buffer_size: number of the latest rewards remembered for a prompt.
        min_count: number of rewards that a prompt's own statistics need. A prompt with fewer remembered rewards, or
            with equal ones, gets the statistics of the whole rollout.
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
        for prompt, rows in rows_by_prompt(prompts).items():
            remembered = torch.tensor(list(self._rewards[prompt]), dtype=rewards.dtype)
            if len(remembered) < self.min_count:
                continue
            if varies(remembered):
                advantages[rows] = (rewards[rows] - remembered.mean()) / (remembered.std(correction=0) + EPSILON)
            # `remembered` may hold only some of the rollout's rewards, if the buffer is small.
            elif not varies(torch.cat([remembered, rewards[rows].cpu()])):
                advantages[rows] = 0.0
        return advantages

    def state_dict(self) -> dict[str, list[float]]:
        return {prompt: list(values) for prompt, values in self._rewards.items()}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        self._rewards = {prompt: deque(values, maxlen=self.buffer_size) for prompt, values in state.items()}
