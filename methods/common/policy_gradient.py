"""Updates on a rollout by the ratio p_θ / p_old of its steps, which DDPO and DPOK share except for their surrogate."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from methods.base import Method, micro_batches
from methods.common.drift import drift_penalty, reference, reference_nfe
from methods.common.trajectories import Rollout, TrajectorySettings, relative_dimensions, trained_steps
from models.sampler import SamplerSettings

Surrogate = Callable[[Tensor, Tensor], Tensor]
"""A function of log p_θ − log p_old `[B]` and the advantages `[B]` that returns the loss of each row `[B]`."""


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


def clip_range(method: Method) -> float:
    """ε of the ratio's clip: the setting, which is for Stable Diffusion 1.5's latent, rescaled to this latent."""
    return method.settings.clip_range / relative_dimensions(method.policy)


def learn(
    method: Method, rollout: Rollout, rows: Tensor, advantages: Tensor, surrogate: Surrogate, updates: int
) -> Updates:
    """Does `updates` optimiser updates on disjoint shares of the rows; a share without rows is skipped.

    Args:
        method: the method whose policy and optimiser are used.
        rollout: the trajectories.
        rows: (step, sample) pairs in random order, int64 `[N, 2]`.
        advantages: advantages of the rows, `[N]`.
        surrogate: loss of a row; it must not depend on the other rows of its micro-batch.
        updates: number of updates.
    """
    policy, guidance, limit = method.policy, method.policy.sampler.guidance, clip_range(method)
    done = Updates()
    for update in range(updates):
        chosen, weight = rows[update::updates], advantages[update::updates]
        if not len(chosen):
            continue
        for piece in micro_batches(len(chosen), method.settings.micro_batch):
            steps = rollout.at(*chosen[piece].T)
            base = reference(method, *steps.inputs, guidance)
            prediction = policy.predict(*steps.inputs, guidance)
            log_ratio = steps.log_probability(policy, prediction) - steps.log_probabilities
            loss = surrogate(log_ratio, weight[piece]) + drift_penalty(method, prediction, base)
            method.optimiser.backward(loss.sum() / len(chosen))
            done.losses.append(loss.detach())
            done.clipped.append(((log_ratio.exp() - 1).abs() > limit).float().mean().item())
        done.norms.append(method.optimiser.step())
    return done


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
