"""The optional penalty on drift from the base model: mean ‖ε_θ − ε_base‖² at the latents on which a method trains.

Both predictions have guidance and are in ε, also for models that predict v. The mean is over rows and over a latent's
dimensions, as in evaluation's `drift`. For Gaussian steps with a fixed σ the penalty is the Kullback-Leibler divergence
of each step up to a factor that depends on t only (DPOK, arXiv 2305.16381, section 4.1). The latents are constants: the
gradient of the penalty flows through the predictions, not through the chain that led to the latents.

A method whose loss already uses ε_θ at these latents needs only the base model's forward pass: it calls
`reference_epsilon` before its own forward pass, then `drift_penalty`. A method without such a prediction, or whose
predictions depend on each other in a chain, calls `penalise_drift`.
"""

import torch
from torch import Tensor

from methods.base import Method, TrainingSettings, micro_batches
from methods.common.denoising import squared_error
from models.policy import Policy
from models.sampler import Prediction

PASSES = 3
"""Denoiser passes of `penalise_drift` for each row: the base model's forward, the policy's forward and its backward."""


def base_prediction(
    policy: Policy, latents: Tensor, timesteps: Tensor, embeddings: Tensor, guidance: float = 1.0
) -> Prediction:
    """The base model's prediction; arguments as `Policy.guided_output`.

    Call it before the policy's own forward pass (see `Policy.reference`).
    """
    with policy.reference():
        return policy.predict(latents, timesteps, embeddings, guidance)


def base_epsilon(
    policy: Policy, latents: Tensor, timesteps: Tensor, embeddings: Tensor, guidance: float = 1.0
) -> Tensor:
    """The base model's predicted noise `[B, C, h, w]`, as `base_prediction`."""
    return base_prediction(policy, latents, timesteps, embeddings, guidance).epsilon


def reference_nfe(settings: TrainingSettings, rows: int) -> int:
    """The denoiser rows that `reference_epsilon` costs on `rows` denoiser rows; 0 if the penalty is off."""
    return rows if settings.drift_weight else 0


def reference_epsilon(
    method: Method, latents: Tensor, timesteps: Tensor, embeddings: Tensor, guidance: float = 1.0
) -> Tensor | None:
    """The base model's predicted noise (see `base_epsilon`); None if the method's `drift_weight` is 0."""
    if not method.settings.drift_weight:
        return None
    return base_epsilon(method.policy, latents, timesteps, embeddings, guidance)


def drift_penalty(method: Method, epsilon: Tensor, reference: Tensor | None) -> Tensor:
    """The penalty `[B]` to add to the loss of each row: `drift_weight` times ‖ε_θ − ε_base‖², mean over dimensions.

    Args:
        method: the method whose `drift_weight` is used.
        epsilon: ε_θ `[B, C, h, w]`.
        reference: ε_base `[B, C, h, w]` from `reference_epsilon`; the penalty is 0 if it is None.
    """
    if reference is None:
        return torch.zeros(len(epsilon), device=epsilon.device)
    return method.settings.drift_weight * squared_error(epsilon, reference)


def drift_nfe(settings: TrainingSettings, rows: int) -> int:
    """The denoiser rows, forward and backward, that `penalise_drift` costs on `rows` rows; 0 if the penalty is off."""
    return PASSES * rows if settings.drift_weight else 0


def penalise_drift(
    method: Method, latents: Tensor, timesteps: Tensor, embeddings: Tensor, guidance: float = 1.0, total: int = 0
) -> float:
    """Adds the gradient of `drift_weight` times the mean drift; call it before the optimiser's step.

    Args:
        method: the method whose policy and optimiser are used; the call does nothing if its `drift_weight` is 0.
        latents: x_t `[N, C, h, w]`, which the function detaches.
        timesteps: int64 `[N]`.
        embeddings: `[N, L, D]`.
        guidance: guidance scale of both predictions.
        total: number of rows that the mean is over; N by default.

    Returns:
        The drift: the sum over the rows divided by `total`, without `drift_weight`; 0 if the penalty is off.
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
