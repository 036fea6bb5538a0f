import pytest

from bench.budget import affordable_prompts
from bench.trial_spec import Budget
from methods.alignprop import AlignProp
from methods.ddpo import DDPO
from models.meter import Ledger
from models.sampler import SamplerSettings

SAMPLER = SamplerSettings(5, 1.0, 1.0)


def allowed(method, budget, **spent):
    settings = method.Settings()
    return affordable_prompts(method, settings, SAMPLER, budget, Ledger(**spent).as_axes())


def test_a_rollout_method_cuts_its_last_step():
    assert allowed(DDPO, Budget(axis="reward_queries", limit=100)) == 8
    assert allowed(DDPO, Budget(axis="reward_queries", limit=100), reward_queries=64) == 4
    assert allowed(DDPO, Budget(axis="reward_queries", limit=100), reward_queries=96) == 0


def test_a_gradient_method_does_not_begin_a_step_that_would_cross():
    assert allowed(AlignProp, Budget(axis="reward_queries", limit=40), reward_queries=16) == 16
    assert allowed(AlignProp, Budget(axis="reward_queries", limit=40), reward_queries=32) == 0


@pytest.mark.parametrize(("axis", "column"), [("seconds", "train_seconds"), ("flops", "flops")])
def test_what_is_known_only_afterwards_stops_once_spent(axis, column):
    assert allowed(DDPO, Budget(axis=axis, limit=10), **{column: 9}) == 8
    assert allowed(DDPO, Budget(axis=axis, limit=10), **{column: 10}) == 0


def test_a_safety_stop_ends_a_trial_too():
    assert allowed(DDPO, Budget(axis="reward_queries", limit=10_000, stops={"updates": 3}), updates=2) == 0
