"""What is asked of a peer: the contract, without bitwise resume and independence of the micro-batch."""

import io
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.conformance.expectations import expectations_of
from bench.conformance.suite import CHECKS, build_subject, run_check
from methods import registry
from models.sampler import SamplerSettings
from tests.methods.build import PROMPTS, brightness, build
from tests.methods.peers.build import needs_trl

pytestmark = needs_trl
PEERS = ["trl-alignprop", "trl-ddpo"]


def build_small(name, model, sampler=None, **settings):
    return build(name, model, sampler, **{**expectations_of(registry.load(name)).small, **settings})


def global_state():
    return torch.get_rng_state().tolist(), random.getstate(), np.random.get_state()[1].tolist()


def test_the_registry_does_not_import_trl():
    code = "import sys, methods.registry; sys.exit(any(name.split('.')[0] == 'trl' for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", PEERS)
def test_the_kit_asks_of_it_what_it_does_not_declare_itself_exempt_from(name, check, tiny_model):
    finding = run_check(build_subject(registry.load(name), {}, tiny_model), check)
    asked = {"contract", "costs", "reward-access", "metrics", "adapter", "edge-cases"}
    assert finding.outcome == ("pass" if check in asked else "does not apply"), finding


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("name", PEERS)
def test_the_meter_agrees_with_the_cost_known_beforehand(name, guidance, tiny_model):
    method = build_small(name, tiny_model, SamplerSettings(3, guidance, 1.0), micro_batch=2)
    metrics = method.step(PROMPTS)
    expected, book = method.cost(method.settings, len(PROMPTS), method.policy.sampler), method.policy.meter.ledger
    assert metrics.updates == expected["updates"] == method.updates
    for axis in ("reward_queries", "images", "nfe"):
        assert getattr(book, axis) == expected[axis], axis
    assert book.decodes == book.images
    rows = 4 * 3 * method.policy.sampler.rows_per_prediction
    assert book.nfe_recompute == (rows if name == "trl-alignprop" else 0)
    assert book.reward_gradients == (book.reward_queries if name == "trl-alignprop" else 0)


@pytest.mark.parametrize("name", PEERS)
def test_the_reward_sees_the_harness_prompts_and_images_between_0_and_1(name, tiny_model):
    seen = []

    def reward(images, prompts):
        assert images.shape == (len(prompts), 3, 8, 8)
        assert images.min() >= 0
        assert images.max() <= 1
        seen.extend(prompts)
        return brightness(images, prompts)

    build(name, tiny_model, reward=reward, **expectations_of(registry.load(name)).small).step(PROMPTS)
    each = 2 if name == "trl-ddpo" else 1
    assert seen[: len(PROMPTS) * each] == [prompt for prompt in PROMPTS for _ in range(each)]


@pytest.mark.parametrize("name", PEERS)
def test_nobody_elses_random_numbers_are_touched(name, tiny_model):
    before = global_state()
    method = build_small(name, tiny_model)
    method.step(PROMPTS)
    assert global_state() == before


@pytest.mark.parametrize("name", PEERS)
def test_one_seed_repeats_whatever_else_draws_and_two_differ(name, tiny_model):
    def adapter(seed, outer):
        torch.manual_seed(outer)
        method = build_small(name, tiny_model, seed=seed)
        torch.rand(outer + 1)
        method.step(PROMPTS)
        return torch.cat([value.flatten() for value in method.policy.state_dict().values()])

    torch.testing.assert_close(adapter(0, outer=1), adapter(0, outer=2))
    assert not torch.equal(adapter(0, outer=1), adapter(1, outer=1))


@pytest.mark.parametrize("name", PEERS)
def test_a_resumed_trial_continues(name, tiny_model):
    """Its optimiser, counters, statistics and random state come back, so it is even the same to rounding."""
    straight = build_small(name, tiny_model)
    straight.step(PROMPTS)
    buffer = io.BytesIO()
    torch.save({"policy": straight.policy.state_dict(), "method": straight.state_dict()}, buffer)
    buffer.seek(0)
    saved = torch.load(buffer, weights_only=True)
    straight.step(PROMPTS)

    resumed = build_small(name, tiny_model)
    resumed.policy.load_state_dict(saved["policy"])
    resumed.load_state_dict(saved["method"])
    resumed.step(PROMPTS)
    assert (resumed.iteration, resumed.updates) == (straight.iteration, straight.updates)
    for key, value in straight.policy.state_dict().items():
        torch.testing.assert_close(resumed.policy.state_dict()[key], value)
    if name == "trl-ddpo":
        ours, theirs = straight.state_dict()["statistics"], resumed.state_dict()["statistics"]
        assert ours.keys() == theirs.keys()
        assert all(theirs[prompt] == pytest.approx(rewards) for prompt, rewards in ours.items())


@pytest.mark.parametrize("name", PEERS)
def test_only_the_adapter_moves_and_the_policy_is_left_for_evaluation(name, tiny_model):
    method = build_small(name, tiny_model)
    adapter = method.policy.state_dict()
    frozen = {k: v.clone() for k, v in method.policy.parts["denoiser"].named_parameters() if not v.requires_grad}
    method.step(PROMPTS)
    assert any(not torch.equal(adapter[k], v) for k, v in method.policy.state_dict().items())
    after = dict(method.policy.parts["denoiser"].named_parameters())
    assert all(torch.equal(value, after[key]) for key, value in frozen.items())
    assert not method.policy.parts["denoiser"].training
    assert all(parameter.grad is None for parameter in method.policy.trainable_parameters())


@pytest.mark.parametrize("name", PEERS)
def test_a_step_says_nothing_and_writes_nothing(name, tiny_model, tmp_path, monkeypatch, capfd, recwarn):
    method = build_small(name, tiny_model)  # loading the model has bars of its own
    monkeypatch.chdir(tmp_path)
    capfd.readouterr()
    recwarn.clear()
    method = type(method)(method.settings, method.policy, method.reward, method.optimiser, method.seeds)
    method.step(PROMPTS)
    method.step(PROMPTS)
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list
    assert not list(Path().iterdir())


def test_alignprop_skips_an_update_whose_draws_keep_no_step(tiny_model):
    """TRL raises in its backward pass; a bound above the last step makes every draw such a one."""
    settings = {"truncation": "per-step", "truncation_range": (50, 50), "micro_batch": 2}
    method = build_small("trl-alignprop", tiny_model, **settings)
    before = method.policy.state_dict()
    metrics = method.step(PROMPTS)
    assert (metrics.updates, metrics.gradient_norm, method.iteration) == (0, 0.0, 1)
    assert method.policy.meter.ledger.reward_queries == 4
    assert all(torch.equal(before[key], value) for key, value in method.policy.state_dict().items())


def test_alignprop_updates_when_only_one_piece_of_the_batch_kept_a_step(tiny_model, monkeypatch):
    method = build_small("trl-alignprop", tiny_model, truncation="per-step", micro_batch=2)
    draws = iter([9, 9, 9, 0, 0, 0])
    monkeypatch.setattr(random, "randint", lambda low, high: next(draws))
    metrics = method.step(PROMPTS)
    assert metrics.updates == 1
    assert metrics.gradient_norm > 0
    assert method.policy.meter.ledger.nfe_backward == 2 * 3 * 2


@pytest.mark.parametrize(
    ("prompts", "images", "micro_batch", "updates"), [(4, 2, 32, 2), (1, 2, 32, 2), (3, 1, 32, 1), (4, 3, 2, 2)]
)
def test_ddpo_cuts_any_rollout_into_equal_pieces(prompts, images, micro_batch, updates, tiny_model):
    method = build_small("trl-ddpo", tiny_model, images_per_prompt=images, micro_batch=micro_batch)
    metrics = method.step(PROMPTS[:prompts])
    book = method.policy.meter.ledger
    assert (metrics.updates, book.reward_queries) == (updates, prompts * images)
    assert book.nfe == method.cost(method.settings, prompts, method.policy.sampler)["nfe"]
    assert np.isfinite([metrics.loss, metrics.gradient_norm]).all()


def test_settings_reach_trls_configuration(tiny_model):
    settings = {"learning_rate": 0.5, "weight_decay": 0.25, "max_grad_norm": 3.0, "adam_betas": (0.5, 0.75)}
    alignprop = build("trl-alignprop", tiny_model, truncation="fixed", keep_steps=1, **settings).trainer.config
    assert (alignprop.truncated_backprop_rand, alignprop.truncated_backprop_timestep) == (False, 2)
    ddpo = build("trl-ddpo", tiny_model, clip_range=0.1, buffer_size=5, **settings).trainer.config
    assert (ddpo.train_clip_range, ddpo.per_prompt_stat_tracking_buffer_size) == (0.1, 5)
    for config in (alignprop, ddpo):
        assert (config.sample_num_steps, config.sample_guidance_scale, config.sample_eta) == (3, 2.0, 1.0)
        assert (config.train_learning_rate, config.train_adam_weight_decay) == (0.5, 0.25)
        assert (config.train_max_grad_norm, config.train_adam_beta1, config.train_adam_beta2) == (3.0, 0.5, 0.75)
    assert build("trl-alignprop", tiny_model).trainer.config.truncated_rand_backprop_minmax == (0, 3)


@pytest.mark.parametrize(
    ("name", "sampler", "settings", "message"),
    [
        ("trl-alignprop", SamplerSettings(3, 0.5, 0.0), {}, "guidance to 1 or more"),
        ("trl-alignprop", SamplerSettings(3, 1.0, 0.0), {"truncation": "fixed", "keep_steps": 4}, "has 3 steps"),
        ("trl-alignprop", SamplerSettings(3, 1.0, 0.0), {"keep_steps": 2}, "keep_steps is for"),
        ("trl-alignprop", None, {"truncation": "full", "truncation_range": (0, 50)}, "truncation_range is for"),
        ("trl-ddpo", SamplerSettings(3, 1.0, 0.0), {}, "eta must be above 0"),
        ("trl-ddpo", SamplerSettings(3, 1.0, 1.0), {"timestep_fraction": 0.3}, "less than one step"),
    ],
)
def test_what_does_not_fit_is_refused(name, sampler, settings, message, tiny_model):
    with pytest.raises(ValueError, match=message):
        build(name, tiny_model, sampler, **settings)


@pytest.mark.parametrize("name", PEERS)
def test_a_constant_reward_and_a_single_prompt_are_survived(name, tiny_model):
    method = build(
        name, tiny_model, reward=lambda x, p: x.mean((1, 2, 3)) * 0 + 1, **expectations_of(registry.load(name)).small
    )
    metrics = method.step(PROMPTS[:1])
    assert np.isfinite([metrics.loss, metrics.reward, metrics.gradient_norm]).all()


def test_alignprop_learns(tiny_v_model):
    method = build("trl-alignprop", tiny_v_model, SamplerSettings(3, 1.0, 0.0), batch_size=4, learning_rate=1e-2)
    rewards = [method.step(PROMPTS).reward for _ in range(12)]
    assert np.mean(rewards[-4:]) > np.mean(rewards[:4])
