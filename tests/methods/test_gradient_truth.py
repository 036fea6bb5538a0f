"""Gradients through a U-Net: finite differences, and the levels of checkpointing against each other."""

import pytest
import torch

from bench.conformance.compare import relative_error
from methods.alignprop import AlignProp
from models.sampler import SamplerSettings
from tests.methods.build import PROMPTS, build, gradient_of_step

# -- finite differences -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpointing", ["none", "block", "step"])
def test_full_alignprop_agrees_with_central_differences(checkpointing, tiny_model):
    """Two parameters a, b: the adapter is θ + a·u + b·v with random directions u and v over all of its weights.

    In fp64, through the sampler (guidance, eta 1), the decoder, the reward and the method's own loss and batching.
    """
    method = build(
        "alignprop",
        tiny_model,
        SamplerSettings(3, 2.0, 1.0),
        truncation="full",
        target_reward=1.0,
        micro_batch=3,
        checkpointing=checkpointing,
        learning_rate=1e-300,  # an update that moves nothing, so that steps can be repeated
        weight_decay=0.0,
    )
    policy, parameters = method.policy, method.policy.trainable_parameters()
    for part in policy.parts.values():
        part.double()
    generator = torch.Generator().manual_seed(3)
    start = [p.detach() + 0.2 * torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    directions = [[torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters] for _ in range(2)]

    def place(a: float, b: float) -> None:
        with torch.no_grad():
            for parameter, at, u, v in zip(parameters, start, *directions, strict=True):
                parameter.copy_(at + a * u + b * v)

    def loss(a: float, b: float) -> float:
        place(a, b)
        losses = []
        method.loss = lambda rewards: losses.append(AlignProp.loss(method, rewards)) or losses[-1]
        method.iteration = 0
        method.step(PROMPTS)
        return float(torch.cat(losses).detach().mean())  # StepMetrics would do, but the sum stays in fp64 here

    place(0, 0)
    gradient = gradient_of_step(method, PROMPTS)
    h = 1e-5
    numerical = [(loss(h, 0) - loss(-h, 0)) / (2 * h), (loss(0, h) - loss(0, -h)) / (2 * h)]
    for direction, expected in zip(directions, numerical, strict=True):
        exact = sum(float((g * u).sum()) for g, u in zip(gradient, direction, strict=True))
        assert abs(expected) > 1e-5, "a gradient of zero would prove nothing"
        assert exact == pytest.approx(expected, rel=1e-6)


# -- checkpointing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpointing", ["block", "step"])
@pytest.mark.parametrize("name", ["alignprop", "draft", "draft-lv", "refl"])
def test_checkpointing_changes_no_gradient_and_is_counted_apart(name, checkpointing, tiny_model):
    settings = {"alignprop": {"truncation": "full"}, "refl": {"stop_from": 0.9}}.get(name, {})
    plain = build(name, tiny_model, checkpointing="none", **settings)
    again = build(name, tiny_model, checkpointing=checkpointing, **settings)
    assert relative_error(gradient_of_step(again, PROMPTS), gradient_of_step(plain, PROMPTS)) < 1e-6
    before, after = plain.policy.meter.ledger, again.policy.meter.ledger
    assert (before.nfe_recompute, before.flops_recompute) == (0, 0)
    assert after.nfe_recompute == after.nfe_backward == before.nfe_backward
    assert after.flops == before.flops + after.flops_recompute
    assert after.nfe_forward == before.nfe_forward
    assert after.nfe == again.cost(again.settings, 4, again.policy.sampler)["nfe"]
