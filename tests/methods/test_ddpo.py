import numpy as np
import pytest
import torch

from bench.conformance.compare import relative_error
from methods.common.advantages import PromptStatistics, group_advantages, standardise
from methods.common.trajectories import roll_out, shuffled_rows
from models.sampler import SamplerSettings
from tests.linear import LinearFamily
from tests.methods.build import PROMPTS, build, gradient_of_step

SMALL = {"prompts_per_rollout": 4, "images_per_prompt": 2}


def test_the_clipped_surrogate_by_hand(tiny_model):
    method = build("ddpo", tiny_model, SamplerSettings(3, 1.0, 1.0), **SMALL)
    e = method.clip_range
    log_ratio = torch.tensor([0.0, 2 * e, 2 * e, -2 * e, -2 * e])
    advantage = torch.tensor([1.0, 1.0, -1.0, 1.0, -1.0])
    ratio = log_ratio.exp()
    expected = torch.tensor([-1.0, -(1 + e), ratio[2], -ratio[3], 1 - e])
    torch.testing.assert_close(method.surrogate(log_ratio, advantage), expected)


def test_the_clip_range_keeps_its_joint_meaning_on_a_small_latent(tiny_model):
    method = build("ddpo", tiny_model, clip_range=1e-4, **SMALL)
    dimensions = 4 * 4 * 4
    assert method.clip_range * dimensions == pytest.approx(1e-4 * 16384)


@pytest.mark.parametrize("estimator", ["importance-sampling", "score-function"])
def test_an_outlier_s_advantage_is_clipped(estimator):
    """One image of sixteen is far better than the rest: its advantage of 3.9 counts as the clip's 2."""
    settings = {"prompts_per_rollout": 4, "images_per_prompt": 4, "updates_per_rollout": 1, "statistics": "batch"}
    settings |= {"estimator": estimator, "micro_batch": 16}

    def outlier(images, prompts):
        values = torch.zeros(len(images))
        values[3] = 10.0
        return values

    methods = [build("ddpo", LinearFamily(), reward=outlier, advantage_clip=clip, **settings) for clip in (2.0, 5.0)]
    clipped, whole = (gradient_of_step(method, PROMPTS) for method in methods)
    assert standardise(outlier([0] * 16, None)).max() == pytest.approx(3.87, abs=0.01)

    def gradient_of(advantages):
        method = build("ddpo", LinearFamily(), reward=outlier, **settings)
        method._advantages = lambda rewards, prompts: advantages
        return gradient_of_step(method, PROMPTS)

    advantages = standardise(outlier([0] * 16, None))
    assert relative_error(clipped, gradient_of(advantages.clamp(-2, 2))) < 1e-6
    assert relative_error(whole, gradient_of(advantages)) < 1e-6
    assert relative_error(clipped, whole) > 0.1


def test_eta_zero_is_refused():
    with pytest.raises(ValueError, match="eta must be above 0"):
        build("ddpo", LinearFamily(), SamplerSettings(3, 1.0, 0.0))


def test_a_timestep_fraction_trains_on_that_share():
    settings = {"timestep_fraction": 0.5, "timestep_choice": "random"}
    method = build("ddpo", LinearFamily(), SamplerSettings(4, 1.0, 1.0), **settings, **SMALL)
    method.step(PROMPTS)
    assert method.policy.meter.ledger.nfe_backward == 8 * 2
    rows = shuffled_rows(method, 8)
    assert all(len({int(step) for step, sample in rows if sample == index}) == 2 for index in range(8))


def test_the_earliest_steps_can_be_chosen():
    settings = {"timestep_fraction": 0.5, "timestep_choice": "earliest"}
    method = build("ddpo", LinearFamily(), SamplerSettings(4, 1.0, 1.0), **settings, **SMALL)
    rows = shuffled_rows(method, 8)
    assert sorted(map(tuple, rows.tolist())) == [(step, sample) for step in (0, 1) for sample in range(8)]


@pytest.mark.parametrize(("initial_noise", "distinct"), [("independent", 8), ("per-prompt", 4)])
def test_the_images_of_a_prompt_can_share_their_first_latent(initial_noise, distinct, monkeypatch):
    method = build("ddpo", LinearFamily(), initial_noise=initial_noise, micro_batch=3, **SMALL)
    rollouts = []
    monkeypatch.setattr("methods.ddpo.roll_out", lambda *args: rollouts.append(roll_out(*args)) or rollouts[-1])
    method.step(PROMPTS)
    (rollout,) = rollouts
    states = rollout.states.flatten(2)
    assert len(states[0].unique(dim=0)) == distinct
    assert len(states[1].unique(dim=0)) == 8  # what the steps add stays each image's own


def test_standardise_and_group_advantages_by_hand():
    rewards = torch.tensor([1.0, 3.0, 10.0, 14.0])
    np.testing.assert_allclose(standardise(rewards), (rewards - 7) / (np.std(rewards.numpy()) + 1e-6), rtol=1e-5)
    deviations = np.array([-1.0, 1.0, -2.0, 2.0])
    np.testing.assert_allclose(
        group_advantages(rewards, ["a", "a", "b", "b"]), deviations / (deviations.std() + 1e-6), rtol=1e-5
    )


def test_prompt_statistics_use_the_rollout_until_a_prompt_is_known():
    """The rule of ddpo-pytorch's tracker, written out with numpy."""
    tracker = PromptStatistics(buffer_size=4, min_count=3)
    first = torch.tensor([1.0, 2.0, 3.0])
    np.testing.assert_allclose(tracker.update(first, ["a", "a", "b"]), standardise(first), rtol=1e-5)
    second = torch.tensor([5.0, 7.0, 9.0])
    advantages = tracker.update(second, ["a", "b", "a"])
    known = np.array([1.0, 2.0, 5.0, 9.0])
    assert advantages[0] == pytest.approx((5 - known.mean()) / (known.std() + 1e-6), rel=1e-5)
    assert advantages[1] == pytest.approx(float(standardise(second)[1]), rel=1e-5)
    again = PromptStatistics(buffer_size=4, min_count=3)
    again.load_state_dict(tracker.state_dict())
    assert again.state_dict() == tracker.state_dict()
