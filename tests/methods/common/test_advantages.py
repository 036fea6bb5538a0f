"""A spread that is rounding, relative to the size of the scores, is no spread; any other is what it always was."""

import pytest
import torch

from bench.conformance.expectations import expectations_of
from methods import registry
from methods.common.advantages import EPSILON, PromptStatistics, group_advantages, standardise, varies
from methods.common.preferences import ranked_pairs
from models.sampler import SamplerSettings
from tests.linear import LinearFamily
from tests.methods.build import PROMPTS, build

ULP = 2**-23


def by_each(rewards, prompts):
    """The advantages of every kind of statistics."""
    return {
        "group": group_advantages(rewards, prompts),
        "batch": standardise(rewards),
        "per-prompt": PromptStatistics(32, 2).update(rewards, prompts),
    }


@pytest.mark.parametrize("ulps", [0, 1, 3])
@pytest.mark.parametrize("value", [0.0, 1e-6, 0.1, 60.1, 87.3, -87.3, 119.7, 1e6, -3e30])
@pytest.mark.parametrize("size", range(1, 13))
def test_equal_scores_have_no_advantage(size, value, ulps):
    rewards = torch.full((2 * size,), value)
    rewards[::3] *= 1 + ulps * ULP / 2  # at most so many units in the last place
    for name, advantages in by_each(rewards, [p for p in "ab" for _ in range(size)]).items():
        assert advantages.count_nonzero() == 0, name


def old_standardise(rewards):
    return (rewards - rewards.mean()) / (rewards.std(correction=0) + EPSILON)


def old_group_advantages(rewards, prompts):
    advantages = torch.empty_like(rewards)
    for prompt in dict.fromkeys(prompts):
        rows = [index for index, other in enumerate(prompts) if other == prompt]
        advantages[rows] = rewards[rows] - rewards[rows].mean()
    return advantages / (advantages.std(correction=0) + EPSILON)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("offset", [0.0, -5.0, 87.3])
@pytest.mark.parametrize("size", [2, 5, 8])
def test_scores_with_a_spread_have_bitwise_the_advantages_of_the_formula(size, offset, scale):
    prompts = [p for p in "abcd" for _ in range(size)]
    for seed in range(20):
        rewards = scale * (offset + torch.randn(len(prompts), generator=torch.Generator().manual_seed(seed)))
        assert torch.equal(standardise(rewards), old_standardise(rewards))
        assert torch.equal(group_advantages(rewards, prompts), old_group_advantages(rewards, prompts))
        running = PromptStatistics(32, 2).update(rewards, prompts)
        for prompt in "abcd":
            rows = [index for index, other in enumerate(prompts) if other == prompt]
            assert torch.equal(running[rows], old_standardise(rewards[rows]))


@pytest.mark.parametrize("value", [87.3, -60.1])
def test_a_saturated_group_among_others_has_none(value):
    prompts = ["a"] * 3 + ["b"] * 3
    rewards = torch.tensor([value, value * (1 + ULP), value, 1.0, 2.0, 6.0])
    for name in ("group", "per-prompt"):
        advantages = by_each(rewards, prompts)[name]
        assert advantages[:3].tolist() == [0, 0, 0], name
        assert advantages[3:].abs().min() > 0.1, name
    # Deviations 0 0 0 −2 −1 3, whose σ is √(14 / 6).
    expected = torch.tensor([0, 0, 0, -2, -1, 3]) / (14 / 6) ** 0.5
    torch.testing.assert_close(group_advantages(rewards, prompts), expected, rtol=1e-5, atol=0)


def test_running_statistics_tell_a_new_score_from_those_that_agree():
    statistics = PromptStatistics(buffer_size=4, min_count=2)
    assert statistics.update(torch.full((3,), 87.3), "aaa").count_nonzero() == 0
    later = statistics.update(torch.tensor([90.0, 87.3]), "aa")
    # Remembered: 87.3 87.3 90 87.3, of mean 87.975 and σ 1.169.
    torch.testing.assert_close(later, torch.tensor([1.7320, -0.5774]), rtol=1e-3, atol=0)


def test_a_buffer_that_holds_equal_ones_of_many_leaves_them_to_the_rollouts_statistics():
    """Two are remembered, and agree: a σ of 1e-6 would make every other reward's advantage 10⁶."""
    rewards = torch.tensor([1.0, 4.0, 2.0, 2.0])
    assert torch.equal(PromptStatistics(2, 2).update(rewards, "aaaa"), standardise(rewards))


def test_a_nan_is_not_taken_for_agreement():
    assert varies(torch.tensor([1.0, torch.nan]))
    assert standardise(torch.tensor([1.0, torch.nan])).isnan().all()


def test_a_pair_apart_by_rounding_prefers_nothing():
    assert len(ranked_pairs(torch.tensor([60.1, 60.1 * (1 + ULP), -60.1, -60.1 * (1 + ULP)]), 2)) == 0
    assert ranked_pairs(torch.tensor([60.1, 60.2, 1e-9, 2e-9]), 2).tolist() == [[1, 0], [3, 2]]


def saturated(images, prompts):
    """Constant but for one unit in the last place of every other image."""
    return 87.3 * (1 + ULP * (torch.arange(len(images)) % 2)) + 0 * images.mean((1, 2, 3))


STILL = ["alignprop", "draft", "draft-lv", "refl", "ddpo", "dpok", "nft", "d3po", "dpo"]
SETTINGS = {
    "ddpo batch": {"statistics": "batch"},
    "ddpo per-prompt": {"min_count": 2},
    "ddpo group": {"statistics": "group"},
    "ddpo score-function": {"estimator": "score-function"},
    "ddpo with drift": {"drift_weight": 0.1},
}


@pytest.mark.parametrize("variant", [*STILL, *SETTINGS])
def test_a_constant_reward_leaves_the_adapter_at_the_identity(variant):
    name = variant.partition(" ")[0]
    cls = registry.load(name)
    own = cls.default_sampler or SamplerSettings(3, 2.0, 1.0)
    settings = {**expectations_of(cls).small, **SETTINGS.get(variant, {})}
    if "images_per_prompt" in settings:
        settings["images_per_prompt"] = 3
    method = build(name, LinearFamily(), SamplerSettings(3, own.guidance, own.eta), reward=saturated, **settings)
    for _ in range(2):
        method.step(PROMPTS[: cls.prompts_per_step(method.settings)])
    assert not any(weight.any() for name, weight in method.policy.state_dict().items() if "lora_B" in name)


@pytest.mark.parametrize("statistics", ["batch", "per-prompt"])
def test_trl_s_advantages_of_a_constant_reward_are_replaced(statistics, tiny_model):
    pytest.importorskip("trl")
    settings = {"prompts_per_rollout": 4, "images_per_prompt": 3, "min_count": 2, "statistics": statistics}
    method = build("trl-ddpo", tiny_model, reward=saturated, **settings)
    for _ in range(2):
        method.step(PROMPTS)
    assert not any(weight.any() for name, weight in method.policy.state_dict().items() if "lora_B" in name)
