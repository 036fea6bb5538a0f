"""The pull towards the base model, and the two ways to predict with other weights."""

import pytest
import torch

from bench.conformance.compare import relative_error
from bench.conformance.expectations import expectations_of
from methods import registry
from methods.common.drift import penalise_drift
from models.sampler import SamplerSettings
from tests.linear import LinearFamily
from tests.methods.build import PROMPTS, build, gradient_of_step
from tests.methods.shaken import gradients, shaken

VALUE = ["ddpo", "dpok", "rwr", "rwr-sparse", "raft", "d3po", "dpo", "nft"]
GRADIENT = ["alignprop", "draft", "draft-lv", "refl"]
ON_IN_THE_SOURCE = {"dpok", "nft"}


def rows(policy):
    state = torch.randn(4, *policy.state_shape, generator=torch.Generator().manual_seed(1))
    return state, torch.tensor([1, 301, 601, 901]), policy.encode(PROMPTS)


def drift(policy, guidance):
    inputs = rows(policy)
    with policy.using("base"):
        base = policy.predict(*inputs, guidance).epsilon
    return ((policy.predict(*inputs, guidance).epsilon - base) ** 2).mean()


def test_the_penalty_against_finite_differences(tiny_v_model):
    method = shaken("ddpo", tiny_v_model, drift_weight=2.0, micro_batch=3)
    policy = method.policy
    value = penalise_drift(method, *rows(policy), 2.0)
    with torch.no_grad():
        assert value == pytest.approx(float(drift(policy, 2.0)), rel=1e-5)
        direction = [torch.sign(gradient) for gradient in gradients(method)]
        slope = sum(float((g * d).sum()) for g, d in zip(gradients(method), direction, strict=True))
        ends = []
        for step in (2e-4, -4e-4):
            for parameter, towards in zip(policy.trainable_parameters(), direction, strict=True):
                parameter += step * towards
            ends.append(2.0 * float(drift(policy, 2.0)))
    assert (ends[0] - ends[1]) / 4e-4 == pytest.approx(slope, rel=1e-2)


def predictions(method):
    """The arguments of every prediction that the method differentiates, as they are made."""
    made, original = [], method.policy.predict

    def spy(state, times, conditioning, guidance=1.0, checkpointing="none"):
        if torch.is_grad_enabled():
            made.append((state.detach(), times, conditioning, guidance))
        return original(state, times, conditioning, guidance, checkpointing)

    method.policy.predict = spy
    return made


@pytest.mark.parametrize("name", VALUE + GRADIENT)
def test_a_method_adds_the_penalty_at_the_rows_it_trains_on(name):
    """The gradient with the penalty less that without it is the penalty's at the predictions that it differentiates."""
    cls = registry.load(name)
    once = {"updates_per_rollout": 1, "rows_per_image": 0.75}
    own = {key: value for key, value in once.items() if key in cls.Settings.model_fields}
    settings = {**expectations_of(cls).small, **own}

    def method(weight):
        return shaken(name, LinearFamily(prediction_type="v_prediction"), **settings, drift_weight=weight)

    without = method(0.0)
    trained = predictions(without)
    off = gradient_of_step(without, PROMPTS)
    on = gradient_of_step(method(50.0), PROMPTS)
    again = method(50.0)
    rows = sum(len(state) for state, *_ in trained)
    assert rows >= len(PROMPTS)
    for inputs in trained:
        penalise_drift(again, *inputs, total=rows)
    assert relative_error([a - b for a, b in zip(on, off, strict=True)], gradients(again)) < 1e-3


@pytest.mark.parametrize("name", VALUE + GRADIENT)
def test_it_is_off_unless_the_source_has_it_on(name):
    assert (registry.load(name).Settings().drift_weight > 0) == (name in ON_IN_THE_SOURCE)


@pytest.mark.parametrize("name", VALUE)
@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_its_cost_is_known_beforehand(name, weight):
    sampler = SamplerSettings(2, 2.0, 1.0)
    method = build(name, LinearFamily(), sampler, drift_weight=weight, **expectations_of(registry.load(name)).small)
    method.step(PROMPTS)
    book, expected = method.policy.meter.ledger, method.cost(method.settings, 4, sampler)
    assert book.nfe == expected["nfe"]
    without = method.cost(method.settings.model_copy(update={"drift_weight": 0.0}), 4, sampler)["nfe"]
    assert (expected["nfe"] > without) == (weight > 0 and name not in ("d3po", "dpo"))  # these predict the base anyway


def test_other_weights_are_given_back(tiny_model):
    policy = shaken("nft", tiny_model).policy
    inputs, own = rows(policy), policy.state_dict()
    before = policy.predict(*inputs).epsilon
    other = {name: 2 * value for name, value in own.items()}
    with policy.using(other):
        within = policy.predict(*inputs).epsilon
        assert not within.requires_grad
        assert all(torch.equal(value, other[name]) for name, value in policy.state_dict().items())
    assert not torch.equal(within, before)
    with pytest.raises(RuntimeError, match="stop"), policy.using(other):
        raise RuntimeError("stop")
    assert all(torch.equal(value, own[name]) for name, value in policy.state_dict().items())
    assert torch.equal(policy.predict(*inputs).epsilon, before)
