"""Updates on a rollout by the ratio p_θ / p_old of its steps: what DDPO and DPOK share, but for their surrogate."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from methods.base import Method, micro_batches
from methods.common.drift import drift_penalty, reference_epsilon, reference_nfe
from methods.common.trajectories import Rollout, TrajectorySettings, relative_dimensions, trained_steps
from models.sampler import SamplerSettings

Surrogate = Callable[[Tensor, Tensor], Tensor]
"""The loss of each row `[B]`, from log p_θ − log p_old `[B]` and the advantages `[B]`."""


@dataclass(frozen=True)
class Updates:
    """What the updates on a rollout report.

    Attributes:
        losses: of each micro-batch, `[B]`, the drift penalty included.
        norms: of each update's gradient before clipping.
        clipped: of each micro-batch, the share of rows outside the clip range.
    """

    losses: list[Tensor] = field(default_factory=list)
    norms: list[float] = field(default_factory=list)
    clipped: list[float] = field(default_factory=list)


def clip_range(method: Method) -> float:
    """ε for this latent's dimensions: the setting's, which stands on Stable Diffusion 1.5's, rescaled."""
    return method.settings.clip_range / relative_dimensions(method.policy)


def learn(
    method: Method, rollout: Rollout, rows: Tensor, advantages: Tensor, surrogate: Surrogate, updates: int
) -> Updates:
    """Does `updates` optimiser updates on disjoint shares of the rows; a share without rows is none.

    Args:
        method: whose policy and optimiser are used.
        rollout: the trajectories.
        rows: (step, sample) pairs in random order, int64 `[N, 2]`.
        advantages: of the rows, `[N]`.
        surrogate: of rows that are independent given the rollout, so that they batch freely.
    """
    policy, guidance, limit = method.policy, method.policy.sampler.guidance, clip_range(method)
    done = Updates()
    for update in range(updates):
        chosen, weight = rows[update::updates], advantages[update::updates]
        if not len(chosen):
            continue
        for piece in micro_batches(len(chosen), method.settings.micro_batch):
            steps = rollout.at(*chosen[piece].T)
            reference = reference_epsilon(method, *steps.inputs, guidance)
            prediction = policy.predict(*steps.inputs, guidance)
            log_ratio = steps.log_probability(policy, prediction) - steps.log_probabilities
            loss = surrogate(log_ratio, weight[piece]) + drift_penalty(method, prediction.epsilon, reference)
            method.optimiser.backward(loss.sum() / len(chosen))
            done.losses.append(loss.detach())
            done.clipped.append(((log_ratio.exp() - 1).abs() > limit).float().mean().item())
        done.norms.append(method.optimiser.step())
    return done


def cost(settings: TrajectorySettings, prompts: int, sampler: SamplerSettings, updates: int) -> dict[str, int]:
    """What a rollout and `updates` updates on it spend (see `Method.cost`)."""
    images = prompts * settings.images_per_prompt
    calls = images * sampler.rows_per_prediction
    rows = calls * trained_steps(settings, sampler)
    return {
        "steps": 1,
        "updates": updates,
        "reward_queries": images,
        "images": images,
        # A forward for the rollout; a forward and a backward for each trained step, and the base model's for drift.
        "nfe": calls * sampler.steps + 2 * rows + reference_nfe(settings, rows),
    }
