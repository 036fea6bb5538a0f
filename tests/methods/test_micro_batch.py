"""How a batch is cut must not matter on the embedded checkpoint either, at every method's own settings and in fp32."""

from pathlib import Path

import pytest
import torch

from bench.conformance.compare import default_dtype, relative_error
from bench.sweep import prompts as prompt_sets
from methods import registry
from models.sampler import SamplerSettings
from rewards.registry import build as build_reward
from tests.methods.build import gradient_of_step
from tests.methods.peers.build import EMBEDDED
from tests.methods.shaken import shaken

NATIVE = [name for name in registry.names() if registry.load(name).trains and not registry.load(name).own_trainer]


def contrast(images, prompts):
    """A reward without a network, whose gradient is another at every pixel."""
    return images.square().mean((1, 2, 3))


@pytest.mark.slow
@pytest.mark.parametrize("name", NATIVE)
def test_the_gradient_on_the_embedded_checkpoint(name):
    """Micro-batches of 1, 4 and 16 from one state, sixteen images or more, all in one update.

    How much of fp32's rounding is amplified depends on the processor (refl: 7e-6 on one, 6e-5 on another). What is
    above 1e-5 is asked again in fp64, where only what is no rounding is left; without the reward's network, which is
    fp32. DPOK's value function is not learned first: AdamW's first updates turn rounding into steps of its learning
    rate, and the advantages are what the fit leaves over (0.23 apart in fp32, 4e-16 in fp64).
    """
    cls = registry.load(name)
    sampler = cls.default_sampler or SamplerSettings(steps=5, guidance=1.0, eta=1.0)
    given = {"updates_per_rollout": 1, "value_updates": 0}
    one_update = {key: value for key, value in given.items() if key in cls.Settings.model_fields}
    images = cls.cost(cls.Settings(), 1, sampler)["images"]
    prompts = list(prompt_sets.read("animals", Path()))[: max(2, 16 // images)]

    def gradient(size, dtype):
        with default_dtype(dtype):
            reward = build_reward("emoji-aesthetic") if dtype == torch.float32 else contrast
            method = shaken(name, EMBEDDED, sampler, scale=0.02, reward=reward, **{**one_update, "micro_batch": size})
            for module in method.policy.parts.values():
                module.to(dtype)
            return gradient_of_step(method, prompts)

    def apart(dtype):
        whole = gradient(16, dtype)
        return max(relative_error(gradient(size, dtype), whole) for size in (1, 4))

    single = apart(torch.float32)
    assert single < 1e-3, "more than any rounding of fp32"
    if not single < 1e-5:
        assert apart(torch.float64) < 1e-10, f"{single:.1e} in fp32"
