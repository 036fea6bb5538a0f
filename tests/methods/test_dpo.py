import pytest
import torch

from tests.linear import LinearFamily
from tests.methods.build import PROMPTS, build

SMALL = {"beta": 5000.0, "prompts_per_rollout": 4, "images_per_prompt": 2, "updates_per_rollout": 1, "batch_size": 4}


def test_the_buffer_keeps_the_last_rounds_pairs():
    method = build("dpo", LinearFamily(), buffer_rollouts=2, **SMALL | {"images_per_prompt": 3, "batch_size": 20})
    for _ in range(3):
        metrics = method.step(PROMPTS)
    assert [len(entry.prompts) for entry in method.buffer] == [4, 4]
    assert metrics.extra["pairs"] == 4


def test_equal_rewards_prefer_nothing():
    method = build("dpo", LinearFamily(), reward=lambda images, prompts: torch.ones(len(images)), **SMALL)
    assert method.step(PROMPTS).updates == 0


def test_one_image_a_prompt_is_refused():
    with pytest.raises(ValueError, match="images_per_prompt is 1"):
        build("dpo", LinearFamily(), images_per_prompt=1)
