import pytest
import torch

from bench.conformance.compare import relative_error
from methods.common.denoising import add_noise
from models.sampler import SamplerSettings
from tests.methods.build import PROMPTS, brightness, build, gradient_of_step
from tests.methods.shaken import gradients, shaken

SMALL = {"prompts_per_rollout": 4, "images_per_prompt": 2, "updates_per_rollout": 1, "timesteps_per_image": 1}


def off_policy(model, sampler):
    """An NFT whose `old` and policy differ, with β and the pull towards the base model large enough to matter."""
    method = shaken("nft", model, sampler, beta=0.7, drift_weight=0.5, **SMALL)
    method.old.weights = {name: 0.5 * value for name, value in method.old.weights.items()}
    return method


def test_the_gradient_by_hand(tiny_v_model):
    """Equation 5 in v, as the paper has it; the images are those that `old` draws."""
    sampler = SamplerSettings(3, 1.0, 0.0)
    ours = gradient_of_step(off_policy(tiny_v_model, sampler), PROMPTS)

    policy = (again := off_policy(tiny_v_model, sampler)).policy
    prompts = [prompt for prompt in PROMPTS for _ in range(2)]
    noise = again.rollout_noise(range(8))
    with policy.using(again.old.weights):
        clean = policy.sample(policy.start(noise(-1)), policy.encode(prompts), noise)
        rewards = brightness(policy.decode(clean), prompts)
    centred = (rewards.reshape(4, 2) - rewards.reshape(4, 2).mean(1, keepdim=True)).flatten()
    good = (0.5 + centred / (centred.std(correction=0) + 1e-6) / 10).clamp(0, 1)
    noisy = add_noise(again, clean, prompts, "denoising", range(8))
    with policy.using(again.old.weights):
        old = policy.predict(*noisy.inputs).output
    with policy.using("base"):
        base = policy.predict(*noisy.inputs).output
    v = policy.predict(*noisy.inputs).output
    alpha = policy.path.alphas_cumprod[noisy.times].float()[:, None, None, None]
    losses = []
    for mixed in (old + 0.7 * (v - old), old - 0.7 * (v - old)):
        difference = alpha.sqrt() * noisy.state - (1 - alpha).sqrt() * mixed - clean
        weight = difference.detach().abs().mean((1, 2, 3), keepdim=True)
        losses.append((difference**2 / weight).mean((1, 2, 3)))
    contrast = 5 / 0.7 * (good * losses[0] + (1 - good) * losses[1])
    drift = (alpha * (v - base) ** 2).mean((1, 2, 3))
    (contrast + 0.5 * drift).mean().backward()
    assert relative_error(ours, gradients(again)) < 1e-4


def test_old_starts_equal_and_follows_with_a_decay_that_rises(tiny_model):
    method = build("nft", tiny_model, old_rate=0.2, old_decay=0.3, **SMALL)
    first = method.policy.state_dict()
    assert all(torch.equal(value, first[name]) for name, value in method.old.weights.items())
    for decay in (0.2, 0.3):
        before = method.old.weights
        method.step(PROMPTS)
        now = method.policy.state_dict()
        for name, value in method.old.weights.items():
            torch.testing.assert_close(value, decay * before[name] + (1 - decay) * now[name])


def test_a_method_of_its_own_weights_moves_towards_the_better_image(tiny_model):
    """β 1, on policy: the gradient on x̂_0 is (2q − 1) times that of the denoising error."""
    method = build("nft", tiny_model, **SMALL)
    clean = torch.zeros(2, *method.policy.state_shape)
    predicted = torch.ones_like(clean, requires_grad=True)
    loss = method.contrast(predicted, predicted.detach(), clean, torch.tensor([1.0, 0.25]))
    loss.sum().backward()
    dimensions = clean[0].numel()
    assert predicted.grad[0].flatten().tolist() == pytest.approx([5 * 2 / dimensions] * dimensions)
    assert predicted.grad[1].flatten().tolist() == pytest.approx([-0.5 * 5 * 2 / dimensions] * dimensions)
