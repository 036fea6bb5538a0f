import math

import pytest
import torch

from models.sampler import SamplerSettings
from tests.linear import LinearFamily
from tests.methods.build import PROMPTS, build

SMALL = {
    "beta": 0.1,
    "prompts_per_rollout": 4,
    "images_per_prompt": 2,
    "updates_per_rollout": 1,
    "timestep_fraction": 1.0,
}


def test_the_ratios_are_clipped(tiny_model):
    method = build("d3po", tiny_model, **SMALL)
    far = 0.2 * 16384 / 64  # a ratio of e^0.2 over 16,384 dimensions, from a mean over the tiny latent's 64
    better, worse = torch.tensor([far, 0.0, far]), torch.tensor([0.0, -far, -far])
    margin = torch.tensor([math.log(1.1), -math.log(0.9), math.log(1.1) - math.log(0.9)])
    expected = torch.log(1 + torch.exp(-0.1 * margin))
    torch.testing.assert_close(method.preference_loss(better, worse), expected)


def test_equal_rewards_prefer_nothing():
    method = build("d3po", LinearFamily(), reward=lambda images, prompts: torch.ones(len(images)), **SMALL)
    before = method.policy.state_dict()
    metrics = method.step(PROMPTS)
    assert (metrics.updates, metrics.loss) == (0, pytest.approx(math.log(2)))
    assert all(torch.equal(value, before[name]) for name, value in method.policy.state_dict().items())


@pytest.mark.parametrize(
    ("eta", "images", "words"), [(0.0, 2, "eta must be above 0"), (1.0, 1, "images_per_prompt is 1")]
)
def test_what_does_not_fit_is_refused(eta, images, words):
    with pytest.raises(ValueError, match=words):
        build("d3po", LinearFamily(), SamplerSettings(3, 1.0, eta), images_per_prompt=images)
