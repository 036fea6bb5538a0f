import pytest
import torch

from bench.conformance.compare import relative_error
from methods.common.advantages import group_advantages
from methods.common.denoising import add_noise
from methods.common.rollouts import draw_batch
from models.families.conditioning import join
from models.sampler import SamplerSettings
from tests.methods.build import PROMPTS, brightness, build, gradient_of_step
from tests.methods.shaken import gradients, shaken

SMALL = {"prompts_per_rollout": 4, "images_per_prompt": 2, "updates_per_rollout": 1, "batch_size": 4}


def test_weights_are_n_times_the_softmax(tiny_model):
    method = build("rwr", tiny_model, temperature=0.5)
    rewards = torch.tensor([0.0, 1.0, -1.0])
    weights = method.weights(rewards)
    expected = torch.exp(rewards / 0.5)
    torch.testing.assert_close(weights, 3 * expected / expected.sum())
    assert float(weights.mean()) == pytest.approx(1)


def test_sparse_keeps_the_best_share(tiny_model):
    method = build("rwr-sparse", tiny_model, keep_share=0.25)
    assert method.weights(torch.tensor([1.0, 5.0, 2.0, 3.0])).tolist() == [0, 1, 0, 0]


def test_only_samples_with_a_weight_are_learned_from(tiny_model):
    """One sample of 8 is kept, and fills the batch with noise of its own each time."""
    method = build("rwr-sparse", tiny_model, keep_share=0.1, **SMALL)
    seen = []
    original = method.policy.predict

    def spy(*inputs):
        if torch.is_grad_enabled():  # not while collecting
            seen.append(inputs)
        return original(*inputs)

    method.policy.predict = spy
    method.step(PROMPTS)
    states, times, conditionings = ([inputs[index] for inputs in seen] for index in range(3))
    assert len(join(conditionings).tensors[0].unique(dim=0)) == 1
    assert len(torch.cat(states).flatten(1).unique(dim=0)) == SMALL["batch_size"]
    assert len(torch.cat(times).unique()) > 1


def test_the_buffer_keeps_the_last_rounds(tiny_model):
    method = build("rwr", tiny_model, buffer_rollouts=2, **SMALL)
    for _ in range(3):
        method.step(PROMPTS)
    assert len(method.buffer) == 2
    assert all(len(entry.prompts) == 8 for entry in method.buffer)


def test_the_loss_is_the_models_own(tiny_v_model):
    """Σ w (target − v_θ)² / batch with the target √ᾱ ε − √(1−ᾱ) x_0, by hand."""
    sampler = SamplerSettings(3, 1.0, 0.0)
    ours = gradient_of_step(shaken("rwr", tiny_v_model, sampler, **SMALL | {"batch_size": 8}), PROMPTS)

    policy = (again := shaken("rwr", tiny_v_model, sampler, **SMALL)).policy
    prompts = [prompt for prompt in PROMPTS for _ in range(2)]
    noise = again.rollout_noise(range(8))
    clean = policy.sample(policy.start(noise(-1)), policy.encode(prompts), noise)
    rewards = brightness(policy.decode(clean), prompts)
    weights = again.weights(group_advantages(rewards, prompts))
    noisy = add_noise(again, clean, prompts, "denoising/0", range(8))
    alpha = policy.path.alphas_cumprod[noisy.times].float()[:, None, None, None]
    target = alpha.sqrt() * noisy.noise - (1 - alpha).sqrt() * clean
    state = alpha.sqrt() * clean + (1 - alpha).sqrt() * noisy.noise
    output = policy.predict(state, noisy.times, noisy.conditioning).output
    (weights * ((output - target) ** 2).mean((1, 2, 3))).mean().backward()
    assert relative_error(ours, gradients(again)) < 1e-5


def test_a_batch_larger_than_the_buffer_repeats_it_with_other_numbers(tiny_model):
    method = build("rwr", tiny_model, **SMALL)
    drawn = draw_batch(method, "test", 3, 8)
    assert len(set(drawn)) == 8
    assert {number % 3 for number in drawn} == {0, 1, 2}
    assert sorted(draw_batch(method, "test", 3, 3)) == [0, 1, 2]
