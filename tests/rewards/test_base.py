"""The contract: shapes, prompts and what callables may return."""

from functools import partial

import pytest
import torch
from torch import nn

from rewards import registry
from rewards.base import CallableReward, Reward, RewardError
from rewards.combine import Sum


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
        (torch.zeros(1, 3, 8, 8, dtype=torch.int64), ["a"], "or uint8 images, not torch.int64"),
        (torch.rand(1, 3, 0, 8), ["a"], "empty batch"),
        (torch.full((1, 3, 8, 8), torch.nan), ["a"], r"in \[0, 1\]; these hold NaN"),
        (torch.full((1, 3, 8, 8), torch.inf), ["a"], "from inf to inf"),
        (2 * torch.rand(1, 3, 64, 64) - 1, ["a"], "values from -"),
        (255 * torch.ones(1, 3, 8, 8), ["a"], "from 255 to 255"),
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


def steep(images, prompts):
    """Its scores are finite; the square root of 0 has no gradient."""
    bright = images.mean(dim=(1, 2, 3))
    return (bright - bright.min()).sqrt() + bright


def test_a_gradient_that_is_not_finite_names_its_reward() -> None:
    mean = CallableReward(lambda images, prompts: images.mean(dim=(1, 2, 3)), name="mean", differentiable=True)
    reward = Sum({"mean": mean, "steep": CallableReward(steep, name="steep", differentiable=True)}, "both", [1, 1])
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    scores = reward(images, ["a"] * 4)
    assert scores.isfinite().all()
    with pytest.raises(RewardError, match=r"'steep' has a gradient that is not finite, for \d of 4 images"):
        scores.sum().backward()


def test_bytes_score_as_the_pixels_they_stand_for() -> None:
    images = torch.randint(256, (2, 3, 8, 8), dtype=torch.uint8)
    assert torch.equal(Brightness()(images, ["a", "b"]), Brightness()(images.float() / 255, ["a", "b"]))


def test_rounding_outside_the_range_passes() -> None:
    assert Brightness()(torch.full((1, 3, 8, 8), 1 + 5e-4), ["a"]).shape == (1,)


class Returns(Reward):
    """A reward whose answer is given."""

    name = "returns"

    def __init__(self, answer: object, differentiable: bool = True) -> None:
        self.answer, self.differentiable = answer, differentiable

    def score(self, images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (torch.zeros(3), r"shape \(2,\), not \(3,\)"),
        (torch.zeros(2, 1), r"shape \(2,\), not \(2, 1\)"),
        (None, "not NoneType"),
        (torch.zeros(2, dtype=torch.int64), "must return floats, not torch.int64"),
        (torch.zeros(2, device="meta"), "scores on meta for images on cpu"),
        (KeyError("weights"), "raised KeyError: 'weights'"),
        (RuntimeError("out of luck"), "raised RuntimeError: out of luck"),
    ],
)
def test_what_a_reward_does_wrong_names_it(answer: object, message: str) -> None:
    with pytest.raises(RewardError, match=message) as caught:
        Returns(answer, differentiable=False)(torch.rand(2, 3, 8, 8), ["a", "b"])
    assert "'returns'" in str(caught.value)


def test_a_promised_gradient_that_is_cut_is_found_at_once() -> None:
    images = torch.rand(2, 3, 8, 8, requires_grad=True)
    with pytest.raises(RewardError, match="says it is differentiable, but its scores do not depend on the images"):
        Returns(torch.zeros(2))(images, ["a", "b"])
    with torch.no_grad():
        Returns(torch.zeros(2))(images, ["a", "b"])


def test_running_out_of_memory_stays_what_it_is() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        Returns(torch.OutOfMemoryError("no room"))(torch.rand(2, 3, 8, 8), ["a", "b"])


GLOBAL = {"network": nn.Dropout(0.5)}


def uses_a_global(images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    return helper(images).mean((1, 2, 3))


def helper(images: torch.Tensor) -> torch.Tensor:
    return GLOBAL["network"](images)


def test_networks_are_found_wherever_a_reward_keeps_them() -> None:
    class Holder:
        def __init__(self) -> None:
            self.inner = {"network": nn.Linear(1, 1)}

        def score(self, images: torch.Tensor, prompts: list[str]) -> torch.Tensor:
            return images.mean((1, 2, 3))

    network, held, bound = nn.Dropout(0.5), nn.Linear(1, 1), Holder()
    scored = partial(lambda images, prompts, extra: images.mean((1, 2, 3)), extra=[held])
    closed = CallableReward(lambda images, prompts: network(images).mean((1, 2, 3)))
    for reward, expected in (
        (CallableReward(uses_a_global), GLOBAL["network"]),
        (CallableReward(lambda images, prompts, extra=held: images.mean((1, 2, 3)), name="default"), held),
        (closed, network),
        (CallableReward(scored, name="partial"), held),
        (CallableReward(bound.score), bound.inner["network"]),
    ):
        assert list(reward.freeze().modules()) == [expected]
        assert not expected.training
        assert not any(parameter.requires_grad for parameter in expected.parameters())


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


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("differentiable", [True, False])
def test_scores_in_half_precision_are_promoted_where_they_enter(dtype, differentiable) -> None:
    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    reward = CallableReward(lambda x, p: x.mean((1, 2, 3)).to(dtype), "half", differentiable)
    scores = reward(images, list("abcd"))
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores, images.detach().mean((1, 2, 3)).to(dtype).float(), rtol=0, atol=0)
    if differentiable:
        scores.sum().backward()
        torch.testing.assert_close(images.grad, torch.full_like(images, 1 / 192), rtol=1e-2, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_images_in_half_precision_do_not_round_scores_and_get_their_gradient(dtype) -> None:
    images = torch.full((2, 3, 8, 8), 0.5, dtype=dtype, requires_grad=True)
    listed = CallableReward(lambda x, p: [100.123] * len(x), "list")
    assert listed(images, ["a", "b"]).tolist() == torch.tensor([100.123] * 2).tolist()
    Brightness()(images, ["a", "b"]).sum().backward()
    assert images.grad.dtype == dtype
    assert images.grad.float().mean() == pytest.approx(1 / 192, rel=1e-2)


def test_scores_in_double_precision_enter_as_fp32_unless_the_images_are_double() -> None:
    """fp32 is what methods compute in, whether a reward's numbers came as a list, an array or a tensor."""
    images = torch.rand(2, 3, 8, 8)
    doubled = CallableReward(lambda x, p: x.double().mean((1, 2, 3)), "double", differentiable=True)
    assert doubled(images, ["a", "b"]).dtype == torch.float32
    assert doubled(images.double(), ["a", "b"]).dtype == torch.float64


@pytest.mark.parametrize("kind", ["sum", "ensemble", "clip"])
def test_parts_in_half_precision_are_promoted_before_they_are_combined(kind) -> None:
    from rewards.combine import Clip, Ensemble, Sum

    images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    half = CallableReward(lambda x, p: (100 * x.mean((1, 2, 3))).half(), "half", differentiable=True)
    exact = half(images, list("abcd"))
    whole = {
        "sum": lambda: Sum({"half": half}, "it", [1.001]),
        "ensemble": lambda: Ensemble({"half": half, "again": half}, "it"),
        "clip": lambda: Clip({"half": half}, "it", max=50.01),
    }[kind]()
    scores, parts = whole.explain(images, list("abcd"))
    wanted = {"sum": 1.001 * exact, "ensemble": exact, "clip": exact.clamp(max=50.01)}[kind]
    assert scores.dtype == parts["half"].dtype == torch.float32
    torch.testing.assert_close(scores, wanted, rtol=1e-7, atol=0)
