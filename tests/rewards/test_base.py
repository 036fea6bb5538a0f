"""The contract: shapes, prompts and what callables may return."""

import pytest
import torch

from rewards import registry
from rewards.base import CallableReward, Reward, RewardError


class Brightness(Reward):
    name = "brightness"

    def score(self, images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        return images.mean(dim=(1, 2, 3))


def test_a_reward_scores_each_image() -> None:
    assert Brightness()(torch.ones(2, 3, 4, 4), ["a", "b"]).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("images", "prompts", "message"),
    [
        (torch.rand(3, 8, 8), ["a"], r"shape \[B, 3, H, W\], not \(3, 8, 8\)"),
        (torch.rand(1, 1, 8, 8), ["a"], "not \\(1, 1, 8, 8\\)"),
        ([1, 2], ["a"], "not list"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), ["a"], "float images"),
        (torch.rand(0, 3, 8, 8), [], "empty batch"),
        (torch.rand(2, 3, 8, 8), ["a"], "2 images and 1 prompts"),
        (torch.rand(2, 3, 8, 8), "ab", "not one string"),
    ],
)
def test_bad_input_names_the_reward(images: torch.Tensor, prompts: list[str], message: str) -> None:
    with pytest.raises(RewardError, match=message) as caught:
        Brightness()(images, prompts)
    assert "'brightness'" in str(caught.value)


def test_any_callable_is_a_reward() -> None:
    def count_words(images: torch.Tensor, prompts: list[str]) -> list[float]:
        return [len(prompt.split()) for prompt in prompts]

    reward = CallableReward(count_words)
    images = torch.rand(2, 3, 8, 8, requires_grad=True)
    scores = reward(images, ["a cat", "a big cat"])
    assert reward.name == "count_words"
    assert not reward.differentiable
    assert scores.tolist() == [2, 3]
    assert scores.dtype == images.dtype
    assert not scores.requires_grad


def test_a_differentiable_callable_keeps_its_gradient() -> None:
    reward = CallableReward(lambda images, prompts: images.mean(dim=(1, 2, 3)), name="mean", differentiable=True)
    images = torch.rand(2, 3, 8, 8, requires_grad=True)
    reward(images, ["a", "b"]).sum().backward()
    assert images.grad is not None


def test_wrong_outputs_are_refused() -> None:
    images = torch.rand(2, 3, 8, 8)
    with pytest.raises(RewardError, match="shape \\(2,\\), not \\(1,\\)"):
        CallableReward(lambda images, prompts: [1.0], name="short")(images, ["a", "b"])
    with pytest.raises(RewardError, match="must return a tensor, not list"):
        CallableReward(lambda images, prompts: [1.0, 2.0], name="list", differentiable=True)(images, ["a", "b"])


def test_the_registry_lists_and_refuses() -> None:
    assert {"colourfulness", "emoji-aesthetic", "emoji-aesthetic-gold", "emoji-animal"} <= set(registry.names())
    assert set(registry.summaries()) == set(registry.names())
    with pytest.raises(KeyError, match="emoji-aesthetic"):
        registry.build("beauty")
