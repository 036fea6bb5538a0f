"""What methods that differentiate the reward share: one update, its memory, its cost.

    θ ← θ − η ∇_θ (1/N) Σ_i L(r(D(x_0⁽ⁱ⁾), c_i)),   x_0 differentiable through some of its denoising steps

A method says how it draws x_0 and what L is; the images are decoded, scored and differentiated in micro-batches here.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from methods.base import Method, StepMetrics, TrainingSettings, micro_batches
from methods.common.drift import drift_nfe, penalise_drift
from models.checkpointing import Checkpointing, memory_bytes
from models.sampler import SamplerSettings

MEMORY_SHARE = 0.5
"""Share of the memory (see `memory_bytes`) that kept denoiser calls may store. A choice, not a measurement: the other
half is for weights, the decoder's and the reward's activations, and the allocator."""

LEVELS: tuple[Checkpointing, ...] = ("none", "block", "step")
"""From the fastest to the smallest; a method reports its place as `checkpointing`."""


class BackpropSettings(TrainingSettings):
    """What every method that differentiates the reward has."""

    batch_size: int = Field(default=16, ge=1, description="images an update; 128 in AlignProp's v1 code")
    loss_scale: float = Field(default=1.0, gt=0, description="factor on the loss")
    checkpointing: Literal["auto", "none", "block", "step"] = Field(
        default="auto",
        description="what a kept denoiser call stores until the backward pass: none, its activations; block, the "
        "inputs of the U-Net's blocks; step, its own inputs (AlignProp's code); auto, the first of these that fits in "
        "half the memory, by measurement. Gradients are the same; the rest is computed twice",
    )


@dataclass(frozen=True)
class Draw:
    """Images of a micro-batch whose gradient reaches the adapter, and where it does.

    Attributes:
        latents: x_0 `[B, C, h, w]`.
        states: x_t of each prediction that keeps its gradient, `[B, C, h, w]` each, detached.
        timesteps: int64 `[B]` for each of the states.
    """

    latents: Tensor
    states: list[Tensor] = field(default_factory=list)
    timesteps: list[Tensor] = field(default_factory=list)


Draws = Callable[[list[str], range], Iterator[Draw]]
"""Draws images for the prompts of a micro-batch, whose samples have these numbers; each is differentiated by itself."""


def ascend(
    method: Method,
    prompts: Sequence[str],
    draws: Draws,
    loss: Callable[[Tensor], Tensor],
    checkpointing: Checkpointing,
    images: int = 1,
    kept: int = 1,
) -> StepMetrics:
    """One update on `prompts` by the gradient of the reward.

    Args:
        method: whose policy, reward and optimiser are used; its iteration is counted on.
        draws: yields `images` draws for a micro-batch.
        loss: rewards `[B]` to losses `[B]`.
        checkpointing: what the kept calls of `draws` store, to be reported.
        images: images a prompt.
        kept: predictions a prompt, over all its images, whose gradient is kept. Without one the update is skipped: the
            images are spent, but there is nothing to update with.
    """
    total = len(prompts) * images
    losses, rewards, drift = [], [], 0.0
    for rows in micro_batches(len(prompts), method.settings.micro_batch):
        chosen = list(prompts[rows])
        for draw in draws(chosen, range(rows.start, rows.stop)):
            reward = method.reward(method.policy.decode(draw.latents), chosen)
            each = loss(reward)
            if kept:
                method.optimiser.backward(each.sum() / total)
                drift += _penalise(method, draw, method.policy.embed(chosen), len(prompts) * kept)
            losses.append(each.detach())
            rewards.append(reward.detach())
    norm = method.optimiser.step() if kept else 0.0
    method.iteration += 1
    return StepMetrics(
        loss=float(torch.cat(losses).mean()),
        reward=float(torch.cat(rewards).mean()),
        gradient_norm=norm,
        updates=int(kept > 0),
        extra={"skipped": float(not kept), "checkpointing": float(LEVELS.index(checkpointing))}
        | ({"drift": drift} if method.settings.drift_weight else {}),
    )


def _penalise(method: Method, draw: Draw, embeddings: Tensor, total: int) -> float:
    if not draw.states:
        return 0.0
    repeated = embeddings.repeat(len(draw.states), 1, 1)
    states, timesteps = torch.cat(draw.states), torch.cat(draw.timesteps)
    return penalise_drift(method, states, timesteps, repeated, method.policy.sampler.guidance, total)


def sample_with_gradient(
    method: Method, prompts: list[str], samples: Sequence[int], keep: Sequence[bool], checkpointing: Checkpointing
) -> Draw:
    """x_0 by the whole chain of the training sampler, the steps in `keep` (noisy to clean) differentiable."""
    policy, noise = method.policy, method.rollout_noise(samples)
    states: list[Tensor] = []
    times: list[Tensor] = []
    kept = iter(keep)

    def observe(latents: Tensor, timesteps: Tensor, epsilon: Tensor) -> None:
        if next(kept):
            states.append(latents.detach())
            times.append(timesteps)

    latents = policy.denoise(
        policy.initial_latents(noise(-1)),
        policy.embed(prompts),
        noise,
        keep=keep,
        checkpointing=checkpointing,
        observe=observe if method.settings.drift_weight else None,
    )
    return Draw(latents, states, times)


def choose_checkpointing(method: Method, prompts: Sequence[str], kept: int) -> Checkpointing:
    """The setting, or for `auto` the first level at which `kept` calls of a micro-batch fit (see `MEMORY_SHARE`).

    Between two machines the choice may differ, and with it the recomputed rows in the ledger; gradients do not. Workers
    of one trial must choose alike, so they do as the first of them does.
    """
    settings, policy = method.settings, method.policy
    if settings.checkpointing != "auto":
        return settings.checkpointing
    if not kept:
        return "none"
    rows = policy.workers.rows(min(settings.micro_batch, len(prompts)) * policy.sampler.rows_per_prediction)
    return policy.workers.agree(_first_that_fits(method, prompts, kept, rows))


def _first_that_fits(method: Method, prompts: Sequence[str], kept: int, rows: int) -> Checkpointing:
    policy = method.policy
    room = MEMORY_SHARE * memory_bytes(policy.device)
    embeddings = policy.embed(prompts[:1])
    call = rows * policy.stored_bytes(embeddings, "none")
    if kept * call <= room:
        return "none"
    # While a call is differentiated, what it did not store is there once more: at most the whole call's.
    if kept * rows * policy.stored_bytes(embeddings, "block") + call <= room:
        return "block"
    return "step"


def update_cost(
    settings: BackpropSettings, sampler: SamplerSettings, prompts: int, forward: int, kept: int, images: int = 1
) -> dict[str, int]:
    """What an update by `ascend` spends (see `Method.cost`).

    Args:
        prompts: of the update.
        forward: predictions a prompt.
        kept: those of them that keep their gradient. Each is differentiated, and where its activations are not stored
            (`auto` may decide so) computed again.
        images: images a prompt.
    """
    calls = prompts * sampler.rows_per_prediction
    backward = 1 if settings.checkpointing == "none" else 2
    return {
        "steps": 1,
        "updates": 1,
        "reward_queries": prompts * images,
        "images": prompts * images,
        "nfe": calls * (forward + backward * kept) + drift_nfe(settings, calls * kept),
    }
