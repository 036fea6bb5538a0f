"""Rewards made of rewards, against sums by hand and finite differences."""

import pytest
import torch

from rewards.base import CallableReward, RewardError
from rewards.combine import Clip, Ensemble, Sum

IMAGES = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))
PROMPTS = ["a", "b", "c"]


def reward(scale, name="part", differentiable=True):
    return CallableReward(lambda images, prompts: scale * images.mean((1, 2, 3)), name, differentiable)


def test_a_sum_is_the_weighted_sum_and_shows_its_parts():
    both = Sum({"one": reward(1.0), "two": reward(2.0)}, "both", [1.0, -0.25])
    scores, parts = both.explain(IMAGES, PROMPTS)
    mean = IMAGES.mean((1, 2, 3))
    torch.testing.assert_close(scores, mean - 0.5 * mean)
    torch.testing.assert_close(parts["two"], 2 * mean)
    assert list(parts) == ["one", "two"]


def test_a_part_is_scored_once():
    calls = []

    def count(images, prompts):
        calls.append(len(images))
        return [0.0] * len(images)

    inner = Sum({"counted": CallableReward(count)}, "inner", [1.0])
    _, parts = Clip({"inner": inner}, "outer", min=0.0).explain(IMAGES, PROMPTS)
    assert calls == [3]
    assert list(parts) == ["inner", "counted"], "parts of parts are shown too"


def test_an_ensemble_pays_for_disagreement():
    scores, parts = Ensemble({"low": reward(1.0), "high": reward(3.0)}, "e", k=0.5).explain(IMAGES, PROMPTS)
    values = torch.stack(list(parts.values()))
    torch.testing.assert_close(scores, values.mean(0) - 0.5 * values.std(0, unbiased=False))


def test_an_ensemble_that_agrees_has_a_finite_gradient():
    images = IMAGES.clone().requires_grad_()
    Ensemble({"a": reward(1.0), "b": reward(1.0)}, "e", k=2.0)(images, PROMPTS).sum().backward()
    torch.testing.assert_close(images.grad, torch.full_like(IMAGES, 1 / IMAGES[0].numel()))


@pytest.mark.parametrize(
    "make",
    [
        lambda: Sum({"a": reward(1.0), "b": reward(-2.0)}, "s", [0.5, 2.0]),
        lambda: Ensemble({"a": reward(1.0), "b": reward(2.5)}, "e", k=0.7),
        lambda: Clip({"a": reward(1.0)}, "c", min=0.0, max=10.0),
    ],
)
def test_gradients_against_finite_differences(make):
    images = IMAGES[:1, :, :2, :2].double().clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda pixels: make()(pixels, ["a"]), images, eps=1e-6)


def test_beyond_its_bounds_a_clipped_reward_is_level():
    images = IMAGES.clone().requires_grad_()
    scores = Clip({"a": reward(10.0)}, "c", max=1.0)(images, PROMPTS)
    assert scores.tolist() == [1, 1, 1]
    scores.sum().backward()
    assert images.grad.abs().max() == 0


def test_differentiable_only_where_every_part_is():
    parts = {"a": reward(1.0), "b": reward(1.0, differentiable=False)}
    assert not Sum(parts, "s", [1, 1]).differentiable
    assert Sum({"a": parts["a"]}, "s", [1]).differentiable


def test_a_part_that_fails_is_the_one_that_is_named():
    def broken(images, prompts):
        raise ValueError("no luck")

    with pytest.raises(RewardError, match="'broken' raised ValueError: no luck"):
        Sum({"a": reward(1.0), "b": CallableReward(broken)}, "both", [1, 1])(IMAGES, PROMPTS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda part: Sum({}, "s", []), "at least one part"),
        (lambda part: Sum({"a": part}, "s", [1, 2]), "1 parts and 2 weights"),
        (lambda part: Ensemble({"a": part}, "e"), "at least two parts"),
        (lambda part: Ensemble({"a": part, "b": part}, "e", k=-1), "k must be at least 0"),
        (lambda part: Clip({"a": part}, "c"), "needs `min` or `max`"),
        (lambda part: Clip({"a": part}, "c", min=2, max=1), "min 2 must be below max 1"),
    ],
)
def test_bad_combinations_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make(reward(1.0))


def test_freezing_reaches_every_part():
    network = torch.nn.Linear(1, 1)
    inner = CallableReward(lambda images, prompts: network(images.mean((1, 2, 3))[:, None])[:, 0], "n", True)
    Sum({"clipped": Clip({"n": inner}, "c", min=0)}, "s", [1]).freeze()
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
