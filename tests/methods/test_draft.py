import pytest
import torch

from bench.conformance.compare import relative_error
from models.sampler import SamplerSettings
from tests.linear import LinearFamily
from tests.methods.build import PROMPTS, build, gradient_of_step

SAMPLER = SamplerSettings(3, 2.0, 1.0)


def test_draft_k_is_alignprop_with_k_fixed():
    draft = build("draft", LinearFamily(), SAMPLER, keep_steps=2)
    fixed = build("alignprop", LinearFamily(), SAMPLER, truncation="fixed", keep_steps=2)
    assert relative_error(gradient_of_step(draft, PROMPTS), gradient_of_step(fixed, PROMPTS)) == 0


@pytest.mark.parametrize("name", ["draft", "alignprop"])
def test_more_kept_steps_than_the_sampler_has_are_refused(name):
    settings = {"truncation": "fixed"} if name == "alignprop" else {}
    with pytest.raises(ValueError, match="keep_steps is 4, but the training sampler has 3 steps"):
        build(name, LinearFamily(), SAMPLER, keep_steps=4, **settings)


def test_draft_lv_draws_fresh_noise_each_time():
    method = build("draft-lv", LinearFamily(), SAMPLER, repeats=3)
    draws = list(method._draws(PROMPTS, range(4), "none"))
    states = torch.stack([draw.states[0] for draw in draws[1:]]).flatten(2)
    assert len(draws) == 4
    assert len(states.flatten(0, 1).unique(dim=0)) == 12


@pytest.mark.parametrize("checkpointing", ["none", "step"])
def test_the_cost_is_the_meters(checkpointing, tiny_model):
    """4 images, 3 steps, two rows: 24 rows sampled, 8 each of the two redone; three of those calls kept."""
    method = build("draft-lv", tiny_model, SAMPLER, checkpointing=checkpointing)
    method.step(PROMPTS)
    book = method.policy.meter.ledger
    assert (book.nfe_forward, book.nfe_backward) == (24 + 16, 24)
    assert book.nfe_recompute == (24 if checkpointing == "step" else 0)
    expected = method.cost(method.settings, 4, SAMPLER)
    assert (book.nfe, book.reward_queries, book.images) == (expected["nfe"], 12, 12)
