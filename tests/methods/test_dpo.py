import pytest
import torch

from bench.conformance.compare import relative_error
from methods.common.denoising import add_noise
from models.sampler import SamplerSettings
from tests.methods.build import PROMPTS, brightness, build, gradient_of_step
from tests.methods.shaken import gradients, shaken

SMALL = {"beta": 5000.0, "prompts_per_rollout": 4, "images_per_prompt": 2, "updates_per_rollout": 1, "batch_size": 4}


def test_the_gradient_by_hand(tiny_v_model):
    """Equation 14 with sums over dimensions, β = 5,000 / 16,384, and the errors of v turned into errors of ε by √ᾱ."""
    sampler = SamplerSettings(3, 2.0, 0.0)
    ours = gradient_of_step(shaken("dpo", tiny_v_model, sampler, **SMALL), PROMPTS)

    policy = (again := shaken("dpo", tiny_v_model, sampler, **SMALL)).policy
    prompts = [prompt for prompt in PROMPTS for _ in range(2)]
    noise = again.rollout_noise(range(8))
    clean = policy.sample(policy.start(noise(-1)), policy.encode(prompts), noise)
    rewards = brightness(policy.decode(clean), prompts)
    total = torch.zeros(())
    for pair, prompt in enumerate(PROMPTS):
        images = sorted((2 * pair, 2 * pair + 1), key=lambda index: -rewards[index])
        noisy = add_noise(again, clean[images], [prompt] * 2, "pairs/0", [pair, pair])
        assert torch.equal(noisy.noise[0], noisy.noise[1])
        assert noisy.times[0] == noisy.times[1]
        alpha = policy.path.alphas_cumprod[noisy.times[0]].float()
        target = alpha.sqrt() * noisy.noise - (1 - alpha).sqrt() * clean[images]

        def error(noisy=noisy, alpha=alpha, target=target):
            v = policy.predict(*noisy.inputs).output
            return alpha * ((v - target) ** 2).sum((1, 2, 3))

        with policy.using("base"):
            base = error()
        better, worse = error() - base
        total = total - torch.log(torch.sigmoid(-5000 / 16384 / 2 * (better - worse)))
    (total / 4).backward()
    assert relative_error(ours, gradients(again)) < 1e-4


def test_the_buffer_keeps_the_last_rounds_pairs(tiny_model):
    method = build("dpo", tiny_model, buffer_rollouts=2, **SMALL | {"images_per_prompt": 3, "batch_size": 20})
    for _ in range(3):
        metrics = method.step(PROMPTS)
    assert [len(entry.prompts) for entry in method.buffer] == [4, 4]
    assert metrics.extra["pairs"] == 4


def test_equal_rewards_prefer_nothing(tiny_model):
    method = build("dpo", tiny_model, reward=lambda images, prompts: torch.ones(len(images)), **SMALL)
    assert method.step(PROMPTS).updates == 0


def test_one_image_a_prompt_is_refused(tiny_model):
    with pytest.raises(ValueError, match="images_per_prompt is 1"):
        build("dpo", tiny_model, images_per_prompt=1)
