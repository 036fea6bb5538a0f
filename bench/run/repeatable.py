"""Rewards that score the same images differently: what `rewards/containment.py` cannot undo is found and named here."""

from collections.abc import Iterator, Mapping
from contextlib import suppress

import torch
from torch import Tensor

from rewards.base import CallableReward, Reward, RewardError
from rewards.containment import drawing
from rewards.remote import RemoteReward

RELATIVE, ABSOLUTE = 1e-4, 1e-6
"""How far apart two scores may be: a GPU's sums are not bitwise the same twice."""


CHANGES = (
    "reward {name!r} scores the same images differently when it is asked again: it keeps state, or draws from a random "
    "generator of its own. Runs of one trial will differ, and so will a trial that is resumed; draw from torch's, "
    "NumPy's or Python's global generator, which is seeded for each call"
)


def unrepeatable(rewards: Mapping[str, Reward], images: Tensor, prompts: list[str]) -> dict[str, str]:
    """Name -> a sentence, for each own reward, parts included, that scores `images` differently the second time.

    It is asked twice with the same random numbers; nothing is billed.

    Args:
        rewards: by any key.
        images: `[B, 3, H, W]` in [0, 1]; a few are enough.
        prompts: B of them.
    """
    own = {leaf.name: leaf for reward in rewards.values() for leaf in _leaves(reward) if _is_own(leaf)}
    return {name: CHANGES.format(name=name) for name, reward in own.items() if not _repeats(reward, images, prompts)}


def _repeats(reward: Reward, images: Tensor, prompts: list[str]) -> bool:
    with suppress(RewardError), drawing("twice"), torch.no_grad():  # it may ask for more images than these few
        first, second = (reward(images, prompts) for _ in range(2))
        return torch.allclose(first, second, rtol=RELATIVE, atol=ABSOLUTE, equal_nan=True)
    return True


def _leaves(reward: Reward) -> Iterator[Reward]:
    for part in reward.parts.values():
        yield from _leaves(part)
    if not reward.parts:
        yield reward


def _is_own(reward: Reward) -> bool:
    """Whether somebody else wrote it: those that ship with the package repeat, and are slow to ask."""
    return isinstance(reward, CallableReward | RemoteReward) or not type(reward).__module__.startswith("rewards.")
