"""The rewards that need no download on a device that is not the host, without one (`tests/on_meta.py`)."""

import pytest
import torch

from rewards.base import features
from rewards.registry import build, names
from tests.on_meta import on_meta

PROMPTS = ["a cat", "two dogs"]
EMBEDDED = [name for name in names() if name.startswith("emoji-")]
WEIGHTLESS = [name for name in names() if name == "colourfulness" or "compressibility" in name]


@pytest.mark.parametrize("name", EMBEDDED + WEIGHTLESS)
def test_a_reward_scores_and_is_differentiated_where_its_images_are(name):
    with on_meta():
        reward = build(name).freeze().to("meta")
        images = torch.zeros(2, 3, 64, 64, device="meta", requires_grad=reward.differentiable)
        scores = reward(images, PROMPTS)
        assert scores.is_meta
        if reward.differentiable:
            scores.sum().backward()
            assert images.grad.is_meta
        if hasattr(reward, "embed"):
            assert features(reward, images).is_meta
