"""Sampling and predictions on the linear-Gaussian model, against their closed forms."""

from itertools import product

import pytest
import torch

from models.adapter import AdapterSettings
from models.meter import Meter
from models.noise import SeedStream
from models.policy import Policy
from models.sampler import SamplerSettings
from tests.linear import TARGETS, LinearFamily, denoised, means, moments, scales, states_of, steps_of

PROMPTS = ["a cat", "a dog", "two dogs"]
STOCHASTIC = SamplerSettings(4, guidance=2.0, eta=0.8)
KINDS = ("epsilon", "v_prediction")


def policy(kind: str = "epsilon", **family) -> Policy:
    """A policy that has left the base model."""
    settings = AdapterSettings(rank=2, targets=TARGETS)
    made = Policy(LinearFamily(prediction_type=kind, **family), STOCHASTIC, Meter(), settings)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in made.trainable_parameters():
            parameter += 0.4 * torch.randn(parameter.shape, generator=generator)
    return made


def noise(key: int) -> torch.Tensor:
    return SeedStream(0).noise("test", 0, key, range(3), (3, 1, 1))


@pytest.mark.parametrize("stochastic", list(product([True, False], repeat=4)))
def test_a_choice_of_noisy_steps_has_the_chain_of_the_closed_form(stochastic):
    model, asked = policy(), []

    def asking(key):
        asked.append(key)
        return noise(key)

    final = model.sample(noise(-1), model.encode(PROMPTS), asking, stochastic=stochastic)
    steps, keys = steps_of(model.path, STOCHASTIC, stochastic), model.noise_keys()
    expected = states_of(steps, means(model, PROMPTS, 2.0), noise(-1), [noise(key) for key in keys])[-1]
    torch.testing.assert_close(final, expected.detach(), rtol=1e-5, atol=1e-6)
    assert asked == [key for key, drawn in zip(keys, stochastic, strict=True) if drawn]


def test_all_steps_noisy_is_the_default_and_none_is_eta_0():
    model = policy()
    inputs = noise(-1), model.encode(PROMPTS), noise
    everywhere = model.sample(*inputs)
    assert torch.equal(model.sample(*inputs, stochastic=[True] * 4), everywhere)
    nowhere = model.sample(*inputs, stochastic=[False] * 4)
    assert torch.equal(nowhere, model.sample(*inputs, sampler=SamplerSettings(4, guidance=2.0, eta=0.0)))
    assert not torch.equal(nowhere, everywhere)


@pytest.mark.parametrize("cut", range(5))
@pytest.mark.parametrize("stochastic", [(), (True, False, False, True)])
def test_two_pieces_of_a_chain_are_the_whole(cut, stochastic):
    model, options = policy(), {"stochastic": stochastic, "keep": [True] * 4}
    conditioning, seen = model.encode(PROMPTS), []

    def observe(step, prediction):
        seen.append(step)

    whole = model.sample(noise(-1), conditioning, noise, **options)
    first = model.sample(noise(-1), conditioning, noise, end=cut, observe=observe, **options)
    second = model.sample(first, conditioning, noise, begin=cut, observe=observe, **options)
    assert torch.equal(second, whole)
    assert seen == [0, 1, 2, 3]
    gradients = [torch.autograd.grad(final.sum(), model.trainable_parameters()) for final in (second, whole)]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_a_choice_of_noisy_steps_has_one_for_each_step():
    model = policy()
    with pytest.raises(ValueError, match="stochastic has 3 entries for 4 steps"):
        model.sample(noise(-1), model.encode(PROMPTS), noise, stochastic=[True] * 3)


@pytest.mark.parametrize("zero_snr", [False, True])
def test_the_mean_of_the_samples_is_that_of_the_data_if_no_signal_is_missing(zero_snr):
    model = policy("v_prediction", zero_snr=zero_snr)
    share, _ = moments(steps_of(model.path, SamplerSettings(4)))
    assert (share == pytest.approx(1, abs=1e-7)) == zero_snr


def predictions(model: Policy, guidance: float):
    """The policy's and the base model's prediction at three times, and ᾱ of them."""
    times = torch.tensor([1, 9, 18])
    inputs = noise(5), times, model.encode(PROMPTS), guidance
    with model.using("base"):
        base = model.predict(*inputs)
    return model.predict(*inputs), base, model.path.alphas_cumprod[times].float().reshape(-1, 1, 1, 1)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("kind", KINDS)
def test_a_prediction_in_every_unit(kind, guidance):
    model = policy(kind)
    ours, base, alpha = predictions(model, guidance)
    values = []
    for prediction, mean in (
        (ours, means(model, PROMPTS, guidance)),
        (base, means(model, PROMPTS, guidance, base=True)),
    ):
        clean, epsilon = denoised(noise(5), alpha, mean)
        velocity = alpha.sqrt() * epsilon - (1 - alpha).sqrt() * clean
        values.append({"epsilon": epsilon, "velocity": velocity, "output": epsilon if kind == "epsilon" else velocity})
        torch.testing.assert_close(prediction.clean, clean, rtol=1e-4, atol=1e-5)
        for unit, value in values[-1].items():
            torch.testing.assert_close(getattr(prediction, unit), value, rtol=1e-4, atol=1e-5)
    final, drawn = noise(6), noise(7)
    target = {"epsilon": drawn, "velocity": alpha.sqrt() * drawn - (1 - alpha).sqrt() * final}
    target["output"] = target["epsilon" if kind == "epsilon" else "velocity"]
    for unit in ("epsilon", "velocity", "output"):
        apart = (values[0][unit] - values[1][unit]).square().mean((1, 2, 3))
        off = (values[0][unit] - target[unit]).square().mean((1, 2, 3))
        torch.testing.assert_close(ours.distance(base, unit), apart, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(ours.error(final, drawn, unit), off, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(ours.distance(base, "epsilon"), ours.distance(base, "velocity"), rtol=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_divergence_of_a_step_is_a_multiple_of_the_drift(kind):
    """Both are squares of μ_c − μ_base times what depends on the step alone (DPOK, arXiv 2305.16381, section 4.1)."""
    model = policy(kind)
    apart = (means(model, PROMPTS, 2.0) - means(model, PROMPTS, 2.0, base=True)).square().mean((1, 2, 3))
    inputs = model.encode(PROMPTS), 2.0
    for number, step in enumerate(steps_of(model.path, STOCHASTIC)):
        at = noise(5), model.times()[number].expand(3)
        with model.using("base"):
            base = model.predict(*at, *inputs)
        ours = model.predict(*at, *inputs)
        divergence = model.transition(ours, number).kl(model.transition(base, number))
        torch.testing.assert_close(divergence, step.offset**2 / (2 * step.std**2) * apart, rtol=1e-3, atol=1e-6)
        _, g = scales(torch.tensor(step.signal**2))
        torch.testing.assert_close(ours.distance(base), (step.signal * g) ** 2 * apart, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_the_base_models_vector_jacobian_product(kind):
    """∂ε / ∂x is g times the identity whatever the weights, the prompt and the guidance; no weight gets a gradient."""
    model, towards = policy(kind), noise(8)
    state, times = noise(5).requires_grad_(), torch.tensor([1, 9, 18])
    with model.using("base", gradient=True):
        epsilon = model.predict(state, times, model.encode(PROMPTS), 2.0).epsilon
        (pulled,) = torch.autograd.grad(epsilon, state, towards, retain_graph=True)
        epsilon.backward(towards)
    alpha = model.path.alphas_cumprod[times].float().reshape(-1, 1, 1, 1)
    torch.testing.assert_close(pulled, scales(alpha)[1] * towards, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(
        epsilon, denoised(state, alpha, means(model, PROMPTS, 2.0, base=True))[1], rtol=1e-4, atol=1e-5
    )
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.trainable_parameters())
