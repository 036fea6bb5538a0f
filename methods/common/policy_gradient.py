"""What DDPO and DPOK share of their updates on a rollout by the ratio p_θ / p_old of its steps."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from methods.base import Method
from methods.common.drift import drift_penalty, reference, reference_nfe
from methods.common.trajectories import Rollout, TrajectorySettings, relative_dimensions, trained_steps
from models.sampler import SamplerSettings


@dataclass(frozen=True)
class Updates:
    """The numbers that the updates on a rollout report.

    Attributes:
        losses: losses `[B]` of each micro-batch, with the drift penalty.
        norms: norm of the gradient of each update before clipping.
        clipped: share of rows outside the clip range in each micro-batch.
    """

    losses: list[Tensor] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    clipped: list[float] = field(default_factory=list)

    def add(self, losses: Tensor, log_ratios: Tensor, limit: float) -> None:
        """Notes a micro-batch: its losses and log-ratios `[B]`, and ε of the clip."""
        self.losses.append(losses.detach())
        self.clipped.append(((log_ratios.exp() - 1).abs() > limit).float().mean().item())


def clip_range(method: Method) -> float:
    """ε of the ratio's clip: the setting, which is for Stable Diffusion 1.5's latent, rescaled to this latent."""
    return method.settings.clip_range / relative_dimensions(method.policy)


def shares(rows: int, updates: int) -> Iterator[Tensor]:
    """The numbers of the rows of each update, int64: disjoint shares of `rows` rows; an update without rows is skipped.

    An update has single steps of any trajectory, in random order, as in DPOK's code; in DDPO's it has whole ones.
    """
    for update in range(updates):
        share = torch.arange(rows)[update::updates]
        if len(share):
            yield share


def log_ratios(method: Method, rollout: Rollout, step: Tensor, sample: Tensor) -> tuple[Tensor, Tensor]:
    """log p_θ − log p_old of some actions of a rollout, and the penalty on their predictions' drift: `[B]` each.

    Args:
        method: the method whose policy is θ, and whose `drift_weight` is used.
        rollout: the trajectories, drawn by p_old.
        step, sample: the numbers of the actions' steps and trajectories, int64 `[B]`.
    """
    steps, guidance = rollout.at(step, sample), method.policy.sampler.guidance
    base = reference(method, *steps.inputs, guidance)
    prediction = method.policy.predict(*steps.inputs, guidance)
    log_ratio = steps.log_probability(method.policy, prediction) - steps.log_probabilities
    return log_ratio, drift_penalty(method, prediction, base)


def cost(settings: TrajectorySettings, prompts: int, sampler: SamplerSettings, updates: int) -> dict[str, int]:
    """The cost of a rollout and `updates` updates on it (see `Method.cost`)."""
    images = prompts * settings.images_per_prompt
    calls = images * sampler.rows_per_prediction
    rows = calls * trained_steps(settings, sampler)
    return {
        "updates": updates,
        "reward_queries": images,
        "images": images,
        # A forward pass for each step of the rollout; a forward and a backward pass for each trained step; the base
        # model's forward pass for the drift penalty.
        "nfe": calls * sampler.steps + 2 * rows + reference_nfe(settings, rows),
    }
