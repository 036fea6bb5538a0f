import pytest

from bench.build.trial_spec import Budget
from bench.plan.budget import affordable_prompts
from methods.alignprop import AlignProp
from methods.ddpo import DDPO
from methods.dpok import DPOK
from methods.rwr import RWR
from models.meter import Ledger
from models.sampler import SamplerSettings

SAMPLER = SamplerSettings(5, 1.0, 1.0)


def allowed(method, budget, settings=None, training=1, **spent):
    book = Ledger(**spent).as_axes()
    return affordable_prompts(method, method.Settings(**settings or {}), SAMPLER, budget, book, 0, training)


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


@pytest.mark.parametrize(
    ("method", "settings", "training", "left", "wanted"),
    [
        (DDPO, {"statistics": "batch"}, 8, 2, 2),
        (DDPO, {"statistics": "batch"}, 8, 1, 0),  # a batch of one image has no spread
        (RWR, {"statistics": "batch"}, 8, 1, 0),
        (DDPO, {"statistics": "group"}, 4, 5, 5),  # five draws of four prompts: one of them is a group of two
        (DDPO, {"statistics": "group"}, 4, 4, 0),
        (DDPO, {"statistics": "per-prompt", "min_count": 2}, 4, 1, 1),  # the third draw of a prompt
        (DDPO, {"statistics": "per-prompt", "min_count": 16}, 4, 1, 0),
        (DPOK, {}, 8, 1, 1),  # its baseline is learned
    ],
)
def test_a_last_step_is_not_cut_to_what_teaches_nothing(method, settings, training, left, wanted):
    settings = {"images_per_prompt": 1, **settings}
    budget = Budget(axis="reward_queries", limit=8 + left)
    assert allowed(method, budget, settings, training, reward_queries=8, steps=1) == wanted
