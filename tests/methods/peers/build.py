"""Ours and a peer on equal terms: the same weights, the same trained-looking adapter, the same noise."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from methods.base import Method
from models.sampler import SamplerSettings
from tests.methods.build import build
from tests.methods.shaken import shake

EMBEDDED = Path(__file__).parents[3] / "models" / "emoji" / "v1"

needs_trl = pytest.mark.skipif(find_spec("trl") is None, reason="the extra `peers` is not installed")

MODELS = ["tiny_model", "tiny_v_model", pytest.param("embedded", marks=pytest.mark.integration)]
"""Predicting ε, predicting v, and the embedded checkpoint, which predicts v."""


def model_folder(name: str, request: pytest.FixtureRequest) -> Path:
    return EMBEDDED if name == "embedded" else request.getfixturevalue(name)


def build_trained(name: str, model: Path, sampler: SamplerSettings, **settings: Any) -> Method:
    """A method whose adapter is not at its start, where half of the gradient is zero because B is."""
    method = build(name, model, sampler, **settings)
    shake(method, seed=1, scale=0.05)
    return method


@contextmanager
def noise_of(ours: Method, images: int) -> Iterator[None]:
    """TRL's pipeline draws x_T and each step's noise as `ours` would, `images` at once."""
    noise = ours.rollout_noise(range(images))
    timesteps = ours.policy.path.timesteps(ours.policy.sampler)
    draws = iter([noise(timestep) for timestep in (-1, *timesteps)])

    def draw(shape: Any, *args: Any, **kwargs: Any) -> Tensor:
        value = next(draws)
        assert value.shape == torch.Size(shape)
        return value

    with (
        mock.patch("diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion.randn_tensor", draw),
        mock.patch("trl.models.modeling_sd_base.randn_tensor", draw),
    ):
        yield


def peers_gradient(theirs: Any, prompts: list[str], truncation: list[int] | None = None) -> list[Tensor]:
    """The gradient that the step's first update uses, before clipping.

    Args:
        theirs: a peer.
        prompts: of the step.
        truncation: what TRL's draw at each denoising step gives.
    """
    gradients: list[list[Tensor]] = []
    theirs.before_update = lambda: gradients.append([p.grad.clone() for p in theirs.policy.trainable_parameters()])
    with mock.patch("random.randint", side_effect=truncation) if truncation else nullcontext():
        theirs.step(prompts)
    return gradients[0]
