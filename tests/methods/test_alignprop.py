from collections import Counter
from statistics import NormalDist

import pytest
import torch
from pydantic import ValidationError

from bench.conformance.compare import relative_error
from methods.alignprop import AlignPropSettings
from methods.common import backprop
from models.sampler import SamplerSettings
from tests.linear import LinearFamily
from tests.methods.build import PROMPTS, build, gradient_of_step


def test_uniform_keeps_the_last_k_steps_with_k_uniform():
    method = build("alignprop", LinearFamily(), SamplerSettings(4, 1.0, 0.0))
    seen = Counter()
    for method.iteration in range(400):
        keep = method.gradient_mask()
        assert keep == sorted(keep), "kept steps are the last ones"
        seen[sum(keep)] += 1
    assert set(seen) == {1, 2, 3, 4}
    assert all(70 < count < 130 for count in seen.values())


def test_per_step_keeps_step_i_with_probability_i_plus_1_over_t_plus_1():
    """(i + 1) / 51 at T = 50 in the v1 code and TRL."""
    method = build("alignprop", LinearFamily(), SamplerSettings(4, 1.0, 0.0), truncation="per-step")
    kept, rounds = torch.zeros(4), 1000
    for method.iteration in range(rounds):
        kept += torch.tensor(method.gradient_mask())
    expected = torch.arange(1, 5) / 5
    torch.testing.assert_close(kept / rounds, expected, atol=0.05, rtol=0)


def test_gaussian_is_the_rewrites_draw():
    """b = int(N(42, 5)) of 50, drawn again until it is one of 1..49; the steps from b on are kept."""
    method = build("alignprop", LinearFamily(), SamplerSettings(50, 1.0, 1.0), truncation="gaussian")
    kept = []
    for method.iteration in range(600):
        keep = method.gradient_mask()
        assert keep == sorted(keep), "kept steps are the last ones"
        kept.append(float(sum(keep)))
    assert min(kept) >= 1
    assert max(kept) <= 49
    normal = NormalDist(42, 5)
    weights = {50 - b: normal.cdf(b + 1) - normal.cdf(b) for b in range(1, 50)}
    expected = sum(k * weight for k, weight in weights.items()) / sum(weights.values())
    assert abs(sum(kept) / len(kept) - expected) < 4 * 5 / 600**0.5
    assert 8 < expected < 9.5


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_gaussian_scales_to_few_steps(steps):
    method = build("alignprop", LinearFamily(), SamplerSettings(steps, 1.0, 1.0), truncation="gaussian")
    seen = set()
    for method.iteration in range(200):
        seen.add(sum(method.gradient_mask()))
    assert {1: seen == {1}, 2: seen == {1}, 5: seen >= {1, 2} and max(seen) <= 4}[steps]


def test_a_gaussian_that_draws_no_step_is_refused():
    with pytest.raises(ValueError, match="almost never draw a step between 1 and 2"):
        build("alignprop", LinearFamily(), truncation="gaussian", gaussian_mean=0.01, gaussian_std=0.01)


def test_an_update_that_keeps_no_step_is_skipped():
    method = build("alignprop", LinearFamily(), SamplerSettings(2, 1.0, 0.0), truncation="per-step", batch_size=2)
    method.iteration = next(i for i in range(100) if not any(_draw(method, i)))
    before = method.policy.state_dict()
    metrics = method.step(PROMPTS[:2])
    assert metrics.updates == 0
    assert metrics.extra["skipped"] == 1
    assert method.policy.meter.ledger.reward_queries == 2
    assert all(torch.equal(before[key], value) for key, value in method.policy.state_dict().items())


def _draw(method, iteration):
    method.iteration = iteration
    return method.gradient_mask()


@pytest.mark.parametrize(("truncation", "extra", "kept"), [("full", {}, 4), ("fixed", {"keep_steps": 2}, 2)])
def test_full_and_fixed(truncation, extra, kept):
    method = build("alignprop", LinearFamily(), SamplerSettings(4, 1.0, 0.0), truncation=truncation, **extra)
    assert method.gradient_mask() == [False] * (4 - kept) + [True] * kept


def test_losses():
    rewards = torch.tensor([5.0, 12.0])
    plain = build("alignprop", LinearFamily())
    torch.testing.assert_close(plain.loss(rewards), -rewards)
    distance = build("alignprop", LinearFamily(), target_reward=10.0, loss_scale=0.01)
    torch.testing.assert_close(distance.loss(rewards), torch.tensor([0.05, 0.02]))


@pytest.mark.parametrize(("name", "target"), [("alignprop", "target_reward"), ("refl", "threshold")])
def test_a_target_above_all_rewards_changes_no_gradient(name, target):
    far, none = (gradient_of_step(build(name, LinearFamily(), **{target: value}), PROMPTS) for value in (1e3, None))
    near = gradient_of_step(build(name, LinearFamily(), **{target: -1e3}), PROMPTS)
    assert any(weight.any() for weight in none)
    assert all(torch.equal(one, other) for one, other in zip(far, none, strict=True))
    assert not all(torch.equal(one, other) for one, other in zip(near, none, strict=True))


def test_keep_steps_belongs_to_fixed():
    with pytest.raises(ValidationError, match="keep_steps"):
        AlignPropSettings(truncation="fixed")
    with pytest.raises(ValidationError, match="keep_steps"):
        AlignPropSettings(keep_steps=2)


def test_more_kept_steps_than_the_sampler_has_are_refused():
    with pytest.raises(ValueError, match="keep_steps is 5, but the training sampler has 4 steps"):
        build("alignprop", LinearFamily(), SamplerSettings(4, 1.0, 0.0), truncation="fixed", keep_steps=5)


@pytest.mark.parametrize(("share", "chosen"), [(1.01, "none"), (0.99, "block"), (0.1, "step")])
def test_auto_takes_the_first_level_that_fits(share, chosen, tiny_model, monkeypatch):
    """Memory is set to a share of what the activations of all kept calls need."""
    sampler = SamplerSettings(8, 2.0, 1.0)
    method = build("alignprop", tiny_model, sampler, truncation="full")
    policy = method.policy
    # 4 images, two rows each, 8 kept calls.
    needed = 4 * 2 * 8 * policy.stored_bytes(policy.encode(PROMPTS[:1]), "none")
    monkeypatch.setattr(backprop, "memory_bytes", lambda device: int(share * needed / backprop.MEMORY_SHARE))
    ours = gradient_of_step(method, PROMPTS)
    recomputed = 4 * 2 * 8 if chosen != "none" else 0
    assert policy.meter.ledger.nfe_recompute == recomputed
    assert backprop.choose_checkpointing(method, PROMPTS, 8) == chosen
    assert policy.meter.ledger.nfe <= method.cost(method.settings, 4, sampler)["nfe"]

    explicit = build("alignprop", tiny_model, sampler, truncation="full", checkpointing=chosen)
    theirs = gradient_of_step(explicit, PROMPTS)
    assert relative_error(ours, theirs) == 0
    # Measuring is billed to nobody.
    assert policy.meter.ledger.flops == explicit.policy.meter.ledger.flops


@pytest.mark.parametrize("name", ["alignprop", "draft", "draft-lv", "refl"])
def test_the_drift_penalty_pulls_back_where_the_gradient_is_kept(name):
    """Its gradient is the difference to an update without it, and its cost is known beforehand."""
    settings = {"alignprop": {"truncation": "full"}, "refl": {"stop_from": 0.9}}.get(name, {})
    settings |= {"checkpointing": "none", "learning_rate": 1e-12}  # the optimiser's own steps are not to be seen here
    sampler = SamplerSettings(3, 2.0, 1.0)

    def moved(micro_batch, drift_weight):
        method = build(
            name,
            LinearFamily(),
            sampler,
            micro_batch=micro_batch,
            drift_weight=drift_weight,
            **settings,
        )
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in method.policy.trainable_parameters():
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
        return gradient_of_step(method, PROMPTS), method

    plain, _ = moved(16, 0.0)
    whole, method = moved(16, 10.0)
    pieces, _ = moved(1, 10.0)
    assert relative_error(whole, plain) > 0.01
    assert relative_error(pieces, whole) < 1e-5
    assert method.policy.meter.ledger.nfe == method.cost(method.settings, 4, sampler)["nfe"]
    # A step against the penalty's own gradient makes the drift smaller.
    method.iteration = 0
    before = method.step(PROMPTS).extra["drift"]
    with torch.no_grad():
        for parameter, a, b in zip(method.policy.trainable_parameters(), whole, plain, strict=True):
            parameter -= 1e-3 * (a - b)
    method.iteration = 0
    assert 0 < method.step(PROMPTS).extra["drift"] < before
