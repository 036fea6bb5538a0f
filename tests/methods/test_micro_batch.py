"""How a batch is cut must not matter on the embedded checkpoint either, at every method's own settings and in fp32."""

from pathlib import Path

import pytest

from bench import prompts as prompt_sets
from bench.conformance.compare import relative_error
from methods import registry
from models.sampler import SamplerSettings
from rewards.registry import build as build_reward
from tests.methods.build import gradient_of_step
from tests.methods.peers.build import EMBEDDED
from tests.methods.shaken import shaken

NATIVE = [name for name in registry.names() if registry.load(name).trains and registry.load(name).exact]


@pytest.mark.slow
@pytest.mark.parametrize("name", NATIVE)
def test_the_gradient_on_the_embedded_checkpoint(name):
    """Micro-batches of 1, 4 and 16 from one state, sixteen images or more, all in one update."""
    cls = registry.load(name)
    sampler = cls.default_sampler or SamplerSettings(steps=5, guidance=1.0, eta=1.0)
    one_update = {"updates_per_rollout": 1} if "updates_per_rollout" in cls.Settings.model_fields else {}
    images = cls.cost(cls.Settings(), 1, sampler)["images"]
    prompts = list(prompt_sets.read("animals", Path()))[: max(2, 16 // images)]
    reward = build_reward("emoji-aesthetic")

    def gradient(size):
        settings = {**one_update, "micro_batch": size}
        return gradient_of_step(shaken(name, EMBEDDED, sampler, scale=0.02, reward=reward, **settings), prompts)

    whole = gradient(16)
    for size in (1, 4):
        assert relative_error(gradient(size), whole) < 1e-5
