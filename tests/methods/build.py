"""Builds a method on a small model, as the harness does."""

from pathlib import Path
from typing import Any

from torch import Tensor

from methods import registry
from methods.base import Method
from methods.optimiser import LocalOptimiser
from models.adapter import AdapterSettings
from models.choices import DEFAULT_TARGETS
from models.families.conditioning import Conditioning
from models.families.stable_diffusion import StableDiffusion
from models.meter import Meter
from models.noise import SeedStream
from models.policy import Policy
from models.sampler import Noise, SamplerSettings
from tests.linear import TARGETS, LinearFamily

PROMPTS = ["a cat", "a dog", "a fox", "two dogs"]


def brightness(images: Tensor, prompts: list[str]) -> Tensor:
    """A differentiable reward with an optimum that a tiny model can move towards."""
    return images.mean((1, 2, 3))


def build(
    name: str,
    model: Path | LinearFamily,
    sampler: SamplerSettings | None = None,
    reward=brightness,
    seed: int = 0,
    **settings: Any,
) -> Method:
    cls = registry.load(name)
    validated = cls.Settings(**settings)
    meter = Meter()
    linear = isinstance(model, LinearFamily)
    policy = Policy(
        model if linear else StableDiffusion.load(str(model)),
        sampler or SamplerSettings(3, 2.0, 1.0),
        meter,
        AdapterSettings(rank=2, seed=seed, targets=TARGETS if linear else DEFAULT_TARGETS),
    )
    optimiser = LocalOptimiser(policy.trainable_parameters(), validated) if cls.trains else None

    def metered(images: Tensor, prompts: list[str]) -> Tensor:
        return meter.count_reward(images, lambda batch: reward(batch, prompts), "test")

    return cls(validated, policy, metered, optimiser, SeedStream(seed))


def chain(policy: Policy, start: Tensor, conditioning: Conditioning, noise: Noise) -> list[Tensor]:
    """The T + 1 states of the training sampler's chain, from x_T to x_0."""
    states: list[Tensor] = []
    final = policy.sample(start, conditioning, noise, observe=lambda step, prediction: states.append(prediction.state))
    return [*states, final]


def gradient_of_step(method: Method, prompts: list[str], update: int = 0) -> list[Tensor]:
    """The gradient that the step's `update`-th optimiser update uses, before clipping."""
    gradients: list[list[Tensor]] = []
    original = method.optimiser.step

    def spy() -> float:
        gradients.append([p.grad.clone() for p in method.policy.trainable_parameters()])
        return original()

    method.optimiser.step = spy
    method.step(prompts)
    method.optimiser.step = original
    return gradients[update]
