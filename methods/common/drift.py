"""The optional pull towards the base model: mean ‖ε_θ − ε_base‖² where the method trains.

Both are guided and in ε, whatever the model predicts; the mean is over rows and over a latent's dimensions, as
evaluation measures drift. For Gaussian steps with a fixed σ it is the Kullback-Leibler divergence of each step up to a
factor that depends on t only (DPOK, arXiv 2305.16381, section 4.1). The states are constants: the penalty's gradient is
that of the predictions, not of the path that led there.

A method whose loss predicts ε_θ there anyway needs only the base model's forward: `reference_epsilon` before its own
forward, then `drift_penalty`. One that has no such prediction, or whose predictions hang in a chain, calls
`penalise_drift`.
"""

import torch
from torch import Tensor

from methods.base import Method, TrainingSettings, micro_batches
from methods.common.denoising import squared_error
from models.policy import Policy
from models.sampler import Prediction

PASSES = 3
"""Denoiser passes a row of `penalise_drift`: the base model's forward, the policy's forward and its backward."""


def base_prediction(
    policy: Policy, latents: Tensor, timesteps: Tensor, embeddings: Tensor, guidance: float = 1.0
) -> Prediction:
    """What the base model predicts. Call it before the policy's own forward, never after."""
    with policy.reference():
        return policy.predict(latents, timesteps, embeddings, guidance)


def base_epsilon(
    policy: Policy, latents: Tensor, timesteps: Tensor, embeddings: Tensor, guidance: float = 1.0
) -> Tensor:
    """The base model's predicted noise `[B, C, h, w]` of `base_prediction`."""
    return base_prediction(policy, latents, timesteps, embeddings, guidance).epsilon


def reference_nfe(settings: TrainingSettings, rows: int) -> int:
    """Denoiser rows that `reference_epsilon` costs on `rows` predictions; 0 where the penalty is off."""
    return rows if settings.drift_weight else 0


def reference_epsilon(
    method: Method, latents: Tensor, timesteps: Tensor, embeddings: Tensor, guidance: float = 1.0
) -> Tensor | None:
    """`base_epsilon` where the method's `drift_weight` is above 0; None where the penalty is off."""
    if not method.settings.drift_weight:
        return None
    return base_epsilon(method.policy, latents, timesteps, embeddings, guidance)


def drift_penalty(method: Method, epsilon: Tensor, reference: Tensor | None) -> Tensor:
    """`drift_weight` times the drift of each row, mean over its dimensions, to be added to the loss: `[B]`."""
    if reference is None:
        return torch.zeros(len(epsilon), device=epsilon.device)
    return method.settings.drift_weight * squared_error(epsilon, reference)


def drift_nfe(settings: TrainingSettings, rows: int) -> int:
    """Denoiser rows, forward and backward, that `penalise_drift` costs on `rows` predictions; 0 where it is off."""
    return PASSES * rows if settings.drift_weight else 0


def penalise_drift(
    method: Method, latents: Tensor, timesteps: Tensor, embeddings: Tensor, guidance: float = 1.0, total: int = 0
) -> float:
    """Adds the gradient of `drift_weight` times the mean drift; call it before the optimiser's step.

    Args:
        method: whose policy and optimiser are used; nothing happens where its `drift_weight` is 0.
        latents: x_t `[N, C, h, w]`; detached here.
        timesteps: int64 `[N]`.
        embeddings: `[N, L, D]`.
        guidance: of both predictions.
        total: rows that the mean is over, N by default.

    Returns:
        The sum over the rows divided by `total`, unweighted; 0 where the penalty is off.
    """
    settings, policy = method.settings, method.policy
    if not settings.drift_weight:
        return 0.0
    drift = 0.0
    for piece in micro_batches(len(latents), settings.micro_batch):
        arguments = (latents[piece].detach(), timesteps[piece], embeddings[piece], guidance)
        base = base_epsilon(policy, *arguments)
        squared = squared_error(policy.epsilon(*arguments), base)
        loss = squared.sum() / (total or len(latents))
        method.optimiser.backward(settings.drift_weight * loss)
        drift += float(loss.detach())
    return drift
