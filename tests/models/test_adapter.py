import re

import pytest
import torch

from models.adapter import MovingAverage, wrong_targets
from models.choices import DEFAULT_TARGETS
from models.inspection import bare_unet, inspect_model
from models.policy import Policy
from tests.models.test_policy import PROMPTS, perturb, policy, start


@pytest.fixture(scope="module")
def unet(tiny_model):
    return bare_unet(inspect_model(tiny_model).unet)


@pytest.mark.parametrize(
    "targets", [DEFAULT_TARGETS, ["to_q"], ["attn2.to_k"], ["conv_in"], ["proj_in", "ff.net.2", "time_emb_proj"]]
)
def test_suffixes_of_layers_are_accepted(targets, unet):
    assert wrong_targets(unet, targets) == []


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (["to_q", "to_typo"], "'to_typo' matches no module of the denoiser"),
        (["to_q", "to_w"], "did you mean 'to_"),
        ([r".*attn.*to_q"], "not patterns"),
        (["to_*"], "not patterns"),
        (["q"], "entries are suffixes of module names"),
        (["o_q"], "matches no module"),
        (["attn1"], r"'attn1' matches .*attn1 \(Attention\), .*; in it are to_q, to_k, to_v, to_out\.0"),
        (["norm1"], r"norm1 \((GroupNorm|LayerNorm)\)"),
        (["all-linear"], "matches no module"),
        (["TO_Q"], "did you mean|entries are suffixes"),
    ],
)
def test_each_entry_that_matches_no_layer_is_named(targets, words, unet):
    (what,) = wrong_targets(unet, targets)
    assert re.search(words, what)


def test_every_wrong_entry_is_told(unet):
    assert [what.partition(" ")[0] for what in wrong_targets(unet, ["to_w", "to_q", ".*", "to_w"])] == [
        "'to_w'",
        "'.*'",
    ]


# -- which weights a prediction uses ---------------------------------------------------------------------------


def inputs(model: Policy) -> tuple:
    return start(model), torch.tensor([1, 501, 901]), model.encode(PROMPTS)


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


def perturbed(tiny_model) -> tuple[Policy, dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """A policy, its weights, and others for it."""
    model = policy(tiny_model)
    perturb(model)
    own = model.snapshot()
    return model, own, {name: 2 * value for name, value in own.items()}


def test_a_snapshot_is_a_copy_on_the_weights_device(tiny_model):
    model, own, _ = perturbed(tiny_model)
    assert equal(own, model.state_dict())
    assert all(value.device == model.device and not value.requires_grad for value in own.values())
    before = {name: value.clone() for name, value in own.items()}
    perturb(model)
    assert equal(own, before)
    assert not equal(own, model.snapshot())


def test_other_weights_are_used_inside_the_block_and_given_back(tiny_model):
    model, own, other = perturbed(tiny_model)
    with torch.no_grad():
        mine = model.predict(*inputs(model)).output
    with model.using(other):
        theirs = model.predict(*inputs(model)).output
        assert equal(model.snapshot(), other)
    assert not theirs.requires_grad
    assert equal(model.snapshot(), own)
    reference = policy(tiny_model)
    reference.load_state_dict(other)
    with torch.no_grad():
        assert torch.equal(reference.predict(*inputs(reference)).output, theirs)
        assert torch.equal(model.predict(*inputs(model)).output, mine)


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("inner", ["weights", "base"])
@pytest.mark.parametrize("outer", ["weights", "base"])
def test_blocks_may_be_nested(outer, inner, gradient, tiny_model):
    model, own, other = perturbed(tiny_model)
    doubled = {name: 2 * value for name, value in other.items()}

    def base() -> torch.Tensor:
        with model.using("base"):
            return model.predict(*inputs(model)).output

    expected = base()
    with model.using("base" if outer == "base" else other, gradient):
        before = model.predict(*inputs(model)).output
        with model.using("base" if inner == "base" else doubled, gradient):
            within = model.predict(*inputs(model)).output
        assert {parameter.requires_grad for parameter in model.trainable_parameters()} == {not gradient}
        assert torch.equal(model.predict(*inputs(model)).output, before)
        assert equal(model.snapshot(), own if outer == "base" else other)
    assert torch.equal(within, expected) == ("base" in (outer, inner))
    assert equal(model.snapshot(), own)
    assert all(parameter.requires_grad for parameter in model.trainable_parameters())
    assert not torch.equal(model.predict(*inputs(model)).output, expected)


@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("weights", ["other", "base"])
def test_an_exception_leaves_the_policy_as_it_was(weights, gradient, tiny_model):
    model, own, other = perturbed(tiny_model)
    with torch.no_grad():
        before = model.predict(*inputs(model)).output
    with pytest.raises(RuntimeError, match="stop"), model.using("base" if weights == "base" else other, gradient):
        raise RuntimeError("stop")
    assert equal(model.snapshot(), own)
    assert all(parameter.requires_grad for parameter in model.trainable_parameters())
    assert torch.is_grad_enabled()
    assert torch.equal(model.predict(*inputs(model)).output, before)


def test_weights_that_do_not_fit_leave_the_policy_as_it_was(tiny_model):
    model, own, other = perturbed(tiny_model)
    last = list(other)[-1]
    with pytest.raises(RuntimeError, match="size"), model.using({**other, last: torch.ones(7, 7)}):
        raise AssertionError("the block must not begin")
    assert equal(model.snapshot(), own)


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_the_base_models_gradient_with_respect_to_its_input_is_that_of_central_differences(guidance, tiny_v_model):
    """A vector-Jacobian product of the mean of the base model's step, in fp64."""
    model, bare = policy(tiny_v_model, guidance=guidance, eta=1.0), policy(tiny_v_model, guidance=guidance, eta=1.0)
    perturb(model, 1.0)
    for part in (*model.parts.values(), *bare.parts.values()):
        part.double()
    state, direction, vector = torch.randn(
        3, 3, *model.state_shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    )

    def mean(policy: Policy, state: torch.Tensor) -> torch.Tensor:
        times = policy.times()[1].expand(3)
        return policy.transition(policy.predict(state, times, policy.encode(PROMPTS), guidance), 1).mean

    with model.using("base", gradient=True):
        moved = state.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(mean(model, moved), moved, vector)
    h = 1e-5
    with torch.no_grad():  # of another policy, whose adapter is the identity
        above, below = (mean(bare, state + sign * h * direction) for sign in (1, -1))
    expected = ((above - below) / (2 * h) * vector).sum()
    torch.testing.assert_close((gradient * direction).sum(), expected, rtol=1e-6, atol=0)
    assert abs(float(expected)) > 1e-3
    assert all(weight.grad is None for part in model.parts.values() for weight in part.parameters())


def test_no_weight_gets_a_gradient_of_the_base_model(tiny_model):
    model, _, _ = perturbed(tiny_model)
    state, *rest = inputs(model)
    state.requires_grad_()
    with model.using("base", gradient=True):
        model.predict(state, *rest).output.square().sum().backward()
    assert state.grad.abs().max() > 0
    assert all(weight.grad is None for part in model.parts.values() for weight in part.parameters())
    model.predict(state, *rest).output.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.trainable_parameters())


def test_without_asking_for_it_the_base_model_has_no_gradient(tiny_model):
    model, _, other = perturbed(tiny_model)
    state, *rest = inputs(model)
    state.requires_grad_()
    for weights in ("base", other):
        with model.using(weights):
            assert not model.predict(state, *rest).output.requires_grad


@pytest.mark.parametrize("factor", [0.0, 0.3, 1.0])
def test_a_scaled_adapter_is_one_whose_second_matrices_are_scaled(factor, tiny_model):
    model, own, _ = perturbed(tiny_model)
    smaller = {name: factor * value if "lora_B" in name else value for name, value in own.items()}
    with torch.no_grad():
        with model.using(smaller):
            expected = model.predict(*inputs(model)).output
        with model.scaled(factor):
            scaled = model.predict(*inputs(model)).output
            with model.using("base"):
                base = model.predict(*inputs(model)).output
        whole = model.predict(*inputs(model)).output
    torch.testing.assert_close(scaled, expected)
    assert torch.equal(scaled, base) == (factor == 0)
    assert torch.equal(scaled, whole) == (factor == 1)


def test_a_moving_average_weighs_by_age():
    average = MovingAverage({"w": torch.tensor([1.0])})
    for present in (2.0, 3.0, 5.0):
        average.update({"w": torch.tensor([present])}, 0.5)
    assert average.weights["w"] == 1 / 8 + 2 / 8 + 3 / 4 + 5 / 2
    again = MovingAverage({"w": torch.zeros(1)})
    again.load_state_dict(average.state_dict())
    assert torch.equal(again.weights["w"], average.weights["w"])
