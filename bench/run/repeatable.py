"""Finds rewards that score the same images differently, in spite of `rewards/containment.py`."""

from collections.abc import Iterator, Mapping
from contextlib import suppress

import torch
from torch import Tensor

from rewards.base import CallableReward, Reward, RewardError
from rewards.containment import drawing
from rewards.remote import RemoteReward

RELATIVE, ABSOLUTE = 1e-4, 1e-6
"""Tolerances of two scores; the sums of a GPU are not bitwise the same twice."""

CHANGES = (
    "reward {name!r} scores the same images differently when it is called again: it keeps state, or draws from a "
    "random generator of its own. Runs of one trial will differ, and so will a trial that is resumed; draw from "
    "torch's, NumPy's or Python's global generator, which is seeded for each call"
)


def unrepeatable(rewards: Mapping[str, Reward], images: Tensor, prompts: list[str]) -> dict[str, str]:
    """Name -> a warning, for each of the user's own rewards that scores `images` differently the second time.

    Each reward, or each part of it, is called twice with the same random numbers; nothing is billed.

    Args:
        rewards: any key -> reward.
        images: `[B, 3, H, W]` in [0, 1]; a few are enough.
        prompts: B prompts.
    """
    own = {leaf.name: leaf for reward in rewards.values() for leaf in _leaves(reward) if _is_own(leaf)}
    return {name: CHANGES.format(name=name) for name, reward in own.items() if not _repeats(reward, images, prompts)}


def _repeats(reward: Reward, images: Tensor, prompts: list[str]) -> bool:
    with suppress(RewardError), drawing("twice"), torch.no_grad():  # a reward may need more images than these few
        first, second = (reward(images, prompts) for _ in range(2))
        return torch.allclose(first, second, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
    return True


def _leaves(reward: Reward) -> Iterator[Reward]:
    for part in reward.parts.values():
        yield from _leaves(part)
    if not reward.parts:
        yield reward


def _is_own(reward: Reward) -> bool:
    """Whether the reward is a user's own; rewards that ship with the package repeat, and are slow."""
    return isinstance(reward, CallableReward | RemoteReward) or not type(reward).__module__.startswith("rewards.")
