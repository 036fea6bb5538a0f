import pytest
import torch

from bench.conformance.compare import relative_error
from models.sampler import SamplerSettings
from tests.methods.build import PROMPTS, brightness, build, gradient_of_step

SAMPLER = SamplerSettings(3, 2.0, 1.0)


def test_draft_k_is_alignprop_with_k_fixed(tiny_model):
    draft = build("draft", tiny_model, SAMPLER, keep_steps=2)
    fixed = build("alignprop", tiny_model, SAMPLER, truncation="fixed", keep_steps=2)
    assert relative_error(gradient_of_step(draft, PROMPTS), gradient_of_step(fixed, PROMPTS)) == 0


@pytest.mark.parametrize("name", ["draft", "alignprop"])
def test_more_kept_steps_than_the_sampler_has_are_refused(name, tiny_model):
    settings = {"truncation": "fixed"} if name == "alignprop" else {}
    with pytest.raises(ValueError, match="keep_steps is 4, but the training sampler has 3 steps"):
        build(name, tiny_model, SAMPLER, keep_steps=4, **settings)


def test_draft_lv_by_hand(tiny_model):
    """The mean of DRaFT-1's gradient and those of the last step, redone on the image under fresh noise."""
    method = build("draft-lv", tiny_model, SAMPLER, repeats=2)
    ours = gradient_of_step(method, PROMPTS)

    again = build("draft-lv", tiny_model, SAMPLER, repeats=2)
    policy, noise = again.policy, again.rollout_noise(range(4))
    conditioning = policy.encode(PROMPTS)
    x_0 = policy.sample(policy.start(noise(-1)), conditioning, noise, keep=[False, False, True])
    total = brightness(policy.decode(x_0), PROMPTS).mean()
    last = policy.path.timesteps(3)[-1]
    rows = torch.full((4,), last)
    alpha = policy.path.alphas_cumprod[last].float()
    for repeat in range(2):
        fresh = again.seeds.noise(f"draft-lv/{repeat}", 0, last, range(4), policy.state_shape)
        x_1 = alpha.sqrt() * x_0.detach() + (1 - alpha).sqrt() * fresh
        epsilon = policy.predict(x_1, rows, conditioning, SAMPLER.guidance).epsilon
        clean = (x_1 - (1 - alpha).sqrt() * epsilon) / alpha.sqrt()
        total = total + brightness(policy.decode(clean), PROMPTS).mean()
    (-total / 3).backward()
    theirs = [parameter.grad for parameter in policy.trainable_parameters()]
    assert relative_error(ours, theirs) < 1e-5


def test_draft_lv_draws_fresh_noise_each_time(tiny_model):
    method = build("draft-lv", tiny_model, SAMPLER, repeats=3)
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
