"""A method whose policy has already left the base model, so that ratios, references and drifts are not trivial."""

from pathlib import Path
from typing import Any

import torch

from methods.base import Method
from models.sampler import SamplerSettings
from tests.linear import LinearFamily
from tests.methods.build import build


def shaken(
    name: str, model: Path | LinearFamily, sampler: SamplerSettings | None = None, scale: float = 0.3, **settings: Any
) -> Method:
    """As `build`, with noise added to the adapter's weights: the same for every call."""
    method = build(name, model, sampler, **settings)
    shake(method, seed=0, scale=scale)
    return method


@torch.no_grad()
def shake(method: Method, seed: int, scale: float) -> None:
    """Moves the adapter by Gaussian noise, the same for every method on the same model."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in method.policy.trainable_parameters():
        parameter += scale * torch.randn(parameter.shape, generator=generator)


def gradients(method: Method) -> list[torch.Tensor]:
    """What a test's own backward pass left on the adapter."""
    return [parameter.grad for parameter in method.policy.trainable_parameters()]
