import math

import pytest
import torch

from bench.conformance.compare import relative_error
from models.sampler import SamplerSettings
from tests.methods.build import PROMPTS, brightness, build, chain, gradient_of_step, step_distribution
from tests.methods.shaken import gradients, shaken

SMALL = {
    "beta": 0.1,
    "prompts_per_rollout": 4,
    "images_per_prompt": 2,
    "updates_per_rollout": 1,
    "timestep_fraction": 1.0,
}


def test_the_gradient_by_hand(tiny_v_model):
    """−log σ(β log clip(ρ_w) − β log clip(ρ_l)), ρ the joint ratio to the power 1 / 16,384; 4 pairs, 3 steps."""
    sampler = SamplerSettings(3, 2.0, 1.0)
    ours = gradient_of_step(shaken("d3po", tiny_v_model, sampler, **SMALL), PROMPTS)

    policy = (again := shaken("d3po", tiny_v_model, sampler, **SMALL)).policy
    prompts = [prompt for prompt in PROMPTS for _ in range(2)]
    start = policy.start(again.rollout_noise([0, 0, 2, 2, 4, 4, 6, 6])(-1))
    conditioning = policy.encode(prompts)
    states = chain(policy, start, conditioning, again.rollout_noise(range(8)))
    rewards = brightness(policy.decode(states[-1]), prompts)
    total = torch.zeros(())
    for step in range(3):

        def log_p(step=step):
            distribution = step_distribution(policy, states[step], step, conditioning)
            return distribution.log_prob(states[step + 1]).flatten(1).sum(1)

        with policy.using("base"):
            base = log_p()
        ratio = ((log_p() - base) / 16384).exp().clamp(0.9, 1.1)
        for pair in range(0, 8, 2):
            better, worse = sorted((pair, pair + 1), key=lambda index: -rewards[index])
            total = total - torch.log(torch.sigmoid(0.1 * ratio[better].log() - 0.1 * ratio[worse].log()))
    (total / 12).backward()
    assert relative_error(ours, gradients(again)) < 1e-4


def test_the_ratios_are_clipped(tiny_model):
    method = build("d3po", tiny_model, **SMALL)
    far = 0.2 * 16384 / 64  # a ratio of e^0.2 over 16,384 dimensions, from a mean over the tiny latent's 64
    better, worse = torch.tensor([far, 0.0, far]), torch.tensor([0.0, -far, -far])
    margin = torch.tensor([math.log(1.1), -math.log(0.9), math.log(1.1) - math.log(0.9)])
    expected = torch.log(1 + torch.exp(-0.1 * margin))
    torch.testing.assert_close(method.preference_loss(better, worse), expected)


def test_equal_rewards_prefer_nothing(tiny_model):
    method = build("d3po", tiny_model, reward=lambda images, prompts: torch.ones(len(images)), **SMALL)
    before = method.policy.state_dict()
    metrics = method.step(PROMPTS)
    assert (metrics.updates, metrics.loss) == (0, pytest.approx(math.log(2)))
    assert all(torch.equal(value, before[name]) for name, value in method.policy.state_dict().items())


@pytest.mark.parametrize(
    ("eta", "images", "words"), [(0.0, 2, "eta must be above 0"), (1.0, 1, "images_per_prompt is 1")]
)
def test_what_does_not_fit_is_refused(eta, images, words, tiny_model):
    with pytest.raises(ValueError, match=words):
        build("d3po", tiny_model, SamplerSettings(3, 1.0, eta), images_per_prompt=images)
