"""What the methods that differentiate the reward share: a differentiable draw, its memory, its cost, its report.

    θ ← θ − η ∇_θ (1/N) Σ_i L(r(D(x_0⁽ⁱ⁾), c_i)),   x_0 differentiable through some of its denoising steps

Each method writes its own loop over micro-batches, as its paper does.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from methods.base import Method, StepMetrics, TrainingSettings
from methods.common.drift import drift_nfe, penalise_drift
from methods.settings import OURS, setting
from models.checkpointing import Checkpointing, memory_bytes
from models.paths.prediction import Prediction
from models.sampler import SamplerSettings

MEMORY_SHARE = 0.5
"""Share of the memory (see `memory_bytes`) that the activations of kept predictions may take. It is a choice, not a
measurement: the other half is for weights, the activations of decoder and reward, and the allocator."""

LEVELS: tuple[Checkpointing, ...] = ("none", "block", "step")
"""Levels of checkpointing, from the fastest to the one with the least memory; a step reports its level's index as
`checkpointing`."""


class BackpropSettings(TrainingSettings):
    """Settings of all methods that differentiate the reward."""

    batch_size: int = setting(16, "images an update", scales=True, ge=1)
    loss_scale: float = setting(1.0, "factor on the loss", scales=True, gt=0)
    checkpointing: Literal["auto", "none", "block", "step"] = setting(
        "auto",
        "what a differentiated denoiser call stores until the backward pass, which recomputes the rest. "
        "none: its activations; block: the inputs of the U-Net's blocks; step: its own inputs (AlignProp's code); "
        "auto: the first of these that fits in half the memory, by measurement. Gradients are the same",
        source=OURS,
        scales=True,
    )


@dataclass(frozen=True)
class Draw:
    """Differentiable final states of a micro-batch, and the predictions that keep their gradient.

    Attributes:
        final: x_0 `[B, ...]`.
        states: x_t `[B, ...]`, detached, of each prediction that keeps its gradient.
        times: times of these predictions, `[B]` each.
    """

    final: Tensor
    states: list[Tensor] = field(default_factory=list)
    times: list[Tensor] = field(default_factory=list)


@dataclass
class Tally:
    """What the micro-batches of an update add up to.

    Attributes:
        drift: the drift so far, a mean over the update (see `methods.common.drift.penalise_drift`).
    """

    drift: float = 0.0
    _losses: list[Tensor] = field(default_factory=list)
    _rewards: list[Tensor] = field(default_factory=list)

    def add(self, losses: Tensor, rewards: Tensor) -> None:
        """Notes the losses `[B]` and rewards `[B]` of a micro-batch."""
        self._losses.append(losses.detach())
        self._rewards.append(rewards.detach())

    def metrics(self, method: Method, norm: float | None, checkpointing: Checkpointing) -> StepMetrics:
        """The metrics of the update; `norm` is its gradient's norm, None if the update was skipped."""
        extra = {"skipped": float(norm is None), "checkpointing": float(LEVELS.index(checkpointing))}
        return StepMetrics(
            loss=float(torch.cat(self._losses).mean()),
            reward=float(torch.cat(self._rewards).mean()),
            gradient_norm=norm or 0.0,
            updates=int(norm is not None),
            extra=extra | ({"drift": self.drift} if method.settings.drift_weight else {}),
        )


def penalise(method: Method, draw: Draw, prompts: Sequence[str], total: int) -> float:
    """Adds the gradient of the drift penalty at the kept predictions of a draw, and returns their drift.

    Args:
        method: the method whose policy and optimiser are used; 0 is returned if its `drift_weight` is 0.
        draw: the draw of a micro-batch.
        prompts: prompts of the micro-batch.
        total: number of kept predictions of the whole update, over which the drift is a mean.
    """
    if not draw.states:
        return 0.0
    repeated = method.policy.encode(prompts).repeat(len(draw.states))
    states, times = torch.cat(draw.states), torch.cat(draw.times)
    return penalise_drift(method, states, times, repeated, method.policy.sampler.guidance, total)


def sample_with_gradient(
    method: Method, prompts: list[str], samples: Sequence[int], keep: Sequence[bool], checkpointing: Checkpointing
) -> Draw:
    """Draws x_0 with the training sampler, differentiable through the steps in `keep`.

    Args:
        method: the method whose policy and noise are used.
        prompts: B prompts.
        samples: B sample numbers, which key the noise.
        keep: for each step, noisy to clean, whether its prediction keeps its gradient.
        checkpointing: what the kept predictions store.
    """
    policy, noise = method.policy, method.rollout_noise(samples)
    states: list[Tensor] = []
    times: list[Tensor] = []

    def observe(step: int, prediction: Prediction) -> None:
        if keep[step]:
            states.append(prediction.state.detach())
            times.append(prediction.times)

    final = policy.sample(
        policy.start(noise(-1)),
        policy.encode(prompts),
        noise,
        keep=keep,
        checkpointing=checkpointing,
        observe=observe if method.settings.drift_weight else None,
    )
    return Draw(final, states, times)


def choose_checkpointing(method: Method, prompts: Sequence[str], kept: int) -> Checkpointing:
    """The level of checkpointing in the settings, or the level that `auto` chooses.

    `auto` chooses the first of `LEVELS` at which `kept` predictions of a micro-batch fit into `MEMORY_SHARE` of the
    memory. The choice, and with it the recomputed rows in the ledger, may differ between machines; gradients do not.
    All workers of a trial use the first worker's choice, because they must agree.
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
    one = policy.encode(prompts[:1])
    call = rows * policy.stored_bytes(one, "none")
    if kept * call <= room:
        return "none"
    # While a prediction is differentiated, its recomputed activations are in memory too: at most one whole call's.
    if kept * rows * policy.stored_bytes(one, "block") + call <= room:
        return "block"
    return "step"


def update_cost(
    settings: BackpropSettings, sampler: SamplerSettings, prompts: int, forward: int, kept: int, images: int = 1
) -> dict[str, int]:
    """The cost of an update (see `Method.cost`).

    Args:
        settings: settings of the method.
        sampler: the training sampler.
        prompts: number of prompts of the update.
        forward: number of predictions for each prompt.
        kept: number of these predictions that keep their gradient. Each is differentiated, and recomputed unless
            `checkpointing` is `none`; `auto` counts as recomputing.
        images: number of images for each prompt.
    """
    calls = prompts * sampler.rows_per_prediction
    backward = 1 if settings.checkpointing == "none" else 2
    return {
        "updates": 1,
        "reward_queries": prompts * images,
        "images": prompts * images,
        "nfe": calls * (forward + backward * kept) + drift_nfe(settings, calls * kept),
    }
