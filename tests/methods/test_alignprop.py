from collections import Counter

import pytest
import torch
from pydantic import ValidationError

from methods.alignprop import AlignPropSettings
from models.sampler import SamplerSettings
from tests.methods.build import PROMPTS, build


def test_uniform_keeps_the_last_k_steps_with_k_uniform(tiny_model):
    method = build("alignprop", tiny_model, SamplerSettings(4, 1.0, 0.0))
    seen = Counter()
    for method.iteration in range(400):
        keep = method.kept_steps()
        assert keep == sorted(keep), "kept steps are the last ones"
        seen[sum(keep)] += 1
    assert set(seen) == {1, 2, 3, 4}
    assert all(70 < count < 130 for count in seen.values())


def test_per_step_keeps_step_i_with_probability_i_plus_1_over_t_plus_1(tiny_model):
    """(i + 1) / 51 at T = 50 in the v1 code and TRL."""
    method = build("alignprop", tiny_model, SamplerSettings(4, 1.0, 0.0), truncation="per-step")
    kept, rounds = torch.zeros(4), 1000
    for method.iteration in range(rounds):
        kept += torch.tensor(method.kept_steps())
    expected = torch.arange(1, 5) / 5
    torch.testing.assert_close(kept / rounds, expected, atol=0.05, rtol=0)


def test_an_update_that_keeps_no_step_is_skipped(tiny_model):
    method = build("alignprop", tiny_model, SamplerSettings(2, 1.0, 0.0), truncation="per-step", batch_size=2)
    method.iteration = next(i for i in range(100) if not any(_draw(method, i)))
    before = method.policy.state_dict()
    metrics = method.step(PROMPTS[:2])
    assert metrics.updates == 0
    assert method.policy.meter.ledger.reward_queries == 2
    assert all(torch.equal(before[key], value) for key, value in method.policy.state_dict().items())


def _draw(method, iteration):
    method.iteration = iteration
    return method.kept_steps()


@pytest.mark.parametrize(("truncation", "extra", "kept"), [("full", {}, 4), ("fixed", {"keep_steps": 2}, 2)])
def test_full_and_fixed(truncation, extra, kept, tiny_model):
    method = build("alignprop", tiny_model, SamplerSettings(4, 1.0, 0.0), truncation=truncation, **extra)
    assert method.kept_steps() == [False] * (4 - kept) + [True] * kept


def test_losses(tiny_model):
    rewards = torch.tensor([5.0, 12.0])
    plain = build("alignprop", tiny_model)
    torch.testing.assert_close(plain.loss(rewards), -rewards)
    distance = build("alignprop", tiny_model, loss="distance-to-target", loss_scale=0.01)
    torch.testing.assert_close(distance.loss(rewards), torch.tensor([0.05, 0.02]))


def test_keep_steps_belongs_to_fixed():
    with pytest.raises(ValidationError, match="keep_steps"):
        AlignPropSettings(truncation="fixed")
    with pytest.raises(ValidationError, match="keep_steps"):
        AlignPropSettings(keep_steps=2)


def test_more_kept_steps_than_the_sampler_has_are_refused(tiny_model):
    with pytest.raises(ValueError, match="keep_steps is 5, but the training sampler has 4 steps"):
        build("alignprop", tiny_model, SamplerSettings(4, 1.0, 0.0), truncation="fixed", keep_steps=5)
