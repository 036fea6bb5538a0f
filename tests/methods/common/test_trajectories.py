import pytest
import torch

from methods.common.trajectories import roll_out
from models.sampler import SamplerSettings
from tests.methods.build import PROMPTS, chain
from tests.methods.shaken import shaken

SETTINGS = {"images_per_prompt": 2, "initial_noise": "independent"}


@pytest.mark.parametrize("micro_batch", [3, 32])
def test_a_rollout_is_the_samplers_chain_with_the_log_probabilities_of_its_steps(micro_batch, tiny_model):
    method = shaken("ddpo", tiny_model, SamplerSettings(4, 2.0, 1.0), micro_batch=micro_batch, **SETTINGS)
    policy, noise = method.policy, method.rollout_noise(range(4))
    rollout = roll_out(method, PROMPTS)
    states = torch.stack(chain(policy, policy.start(noise(-1)), policy.encode(PROMPTS), noise))
    assert states.shape == (5, 4, *policy.state_shape)
    torch.testing.assert_close(rollout.states, states[:-1], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(rollout.actions, states[1:], rtol=1e-6, atol=1e-6)
    assert rollout.times.tolist() == policy.path.timesteps(SamplerSettings(4))
    torch.testing.assert_close(rollout.rewards, policy.decode(states[-1]).mean((1, 2, 3)), rtol=1e-6, atol=1e-6)
    # Rows of different steps and samples in one prediction, as the methods train on them.
    order = torch.randperm(16, generator=torch.Generator().manual_seed(0))
    step, sample = torch.cartesian_prod(torch.arange(4), torch.arange(4))[order].T
    steps = rollout.at(step, sample)
    with torch.no_grad():
        again = steps.log_probability(policy, policy.predict(*steps.inputs, 2.0))
    torch.testing.assert_close(again, steps.log_probabilities, rtol=1e-6, atol=1e-6)
    assert torch.equal(steps.log_probabilities, rollout.log_probabilities[step, sample])
