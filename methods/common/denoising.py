"""The model's own training loss on the latents that a method gives."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from methods.base import Method


@dataclass(frozen=True)
class NoisyRows:
    """Latents at random timesteps of the forward process, and the model's training targets.

    Attributes:
        latents: x_t `[B, C, h, w]`.
        timesteps: int64 `[B]`, uniform over the training timesteps.
        noise: ε `[B, C, h, w]`.
        target: training target of the model, ε or v, `[B, C, h, w]`.
        embeddings: embeddings of the prompts, `[B, L, D]`.
    """

    latents: Tensor
    timesteps: Tensor
    noise: Tensor
    target: Tensor
    embeddings: Tensor


def add_noise(method: Method, clean: Tensor, prompts: Sequence[str], purpose: str, samples: Sequence[int]) -> NoisyRows:
    """Draws a timestep and noise for each row of `clean` `[B, C, h, w]`.

    Args:
        method: the method whose policy and random numbers are used, at its present iteration.
        clean: x_0 of the rows.
        prompts: B prompts.
        purpose: name of the draw; draws of one iteration with different names differ.
        samples: B indices; rows with the same index get the same timestep and noise.
    """
    policy, schedule = method.policy, method.policy.schedule
    timesteps = method.seeds.integers(purpose, method.iteration, samples, 0, schedule.train_timesteps)
    timesteps = timesteps.to(policy.device)
    noise = method.seeds.noise(purpose, method.iteration, 0, samples, policy.latent_shape).to(policy.device)
    return NoisyRows(
        schedule.add_noise(clean, noise, timesteps),
        timesteps,
        noise,
        schedule.target(clean, noise, timesteps),
        policy.embed(prompts),
    )


def squared_error(prediction: Tensor, target: Tensor) -> Tensor:
    """The squared error of each row `[B]`, averaged over its dimensions."""
    return ((prediction - target) ** 2).flatten(1).mean(1)
