"""The optional penalty on drift from the base model: mean ‖ε_θ − ε_base‖² at the states on which a method trains.

Both predictions have guidance and are in ε, also for models that predict v. The mean is over rows and over a latent's
dimensions, as in evaluation's `drift`. For Gaussian steps with a fixed σ the penalty is the Kullback-Leibler divergence
of each step up to a factor that depends on t only (DPOK, arXiv 2305.16381, section 4.1). The states are constants: the
gradient of the penalty flows through the predictions, not through the chain that led to the states.

A method whose loss already uses a prediction at these states needs only the base model's forward pass: it calls
`reference` before its own forward pass, then `drift_penalty`. A method without such a prediction, or whose
predictions depend on each other in a chain, calls `penalise_drift`.
"""

import torch
from torch import Tensor

from methods.base import Method, TrainingSettings, micro_batches
from models.families.conditioning import Conditioning
from models.paths.prediction import Prediction
from models.policy import Policy

PASSES = 3
"""Denoiser passes of `penalise_drift` for each row: the base model's forward, the policy's forward and its backward."""


def base_prediction(
    policy: Policy, state: Tensor, times: Tensor, conditioning: Conditioning, guidance: float = 1.0
) -> Prediction:
    """The base model's prediction; arguments as `Policy.predict`.

    Call it before the policy's own forward pass (see `Policy.using`).
    """
    with policy.using("base"):
        return policy.predict(state, times, conditioning, guidance)


def reference_nfe(settings: TrainingSettings, rows: int) -> int:
    """The denoiser rows that `reference` costs on `rows` denoiser rows; 0 if the penalty is off."""
    return rows if settings.drift_weight else 0


def reference(
    method: Method, state: Tensor, times: Tensor, conditioning: Conditioning, guidance: float = 1.0
) -> Prediction | None:
    """The base model's prediction (see `base_prediction`); None if the method's `drift_weight` is 0."""
    if not method.settings.drift_weight:
        return None
    return base_prediction(method.policy, state, times, conditioning, guidance)


def drift_penalty(method: Method, prediction: Prediction, base: Prediction | None) -> Tensor:
    """The penalty `[B]` to add to the loss of each row: `drift_weight` times ‖ε_θ − ε_base‖², mean over dimensions.

    Args:
        method: the method whose `drift_weight` is used.
        prediction: the policy's prediction.
        base: the base model's, from `reference`; the penalty is 0 if it is None.
    """
    if base is None:
        return torch.zeros(len(prediction), device=prediction.state.device)
    return method.settings.drift_weight * prediction.distance(base)


def drift_nfe(settings: TrainingSettings, rows: int) -> int:
    """The denoiser rows, forward and backward, that `penalise_drift` costs on `rows` rows; 0 if the penalty is off."""
    return PASSES * rows if settings.drift_weight else 0


def penalise_drift(
    method: Method, state: Tensor, times: Tensor, conditioning: Conditioning, guidance: float = 1.0, total: int = 0
) -> float:
    """Adds the gradient of `drift_weight` times the mean drift; call it before the optimiser's step.

    Args:
        method: the method whose policy and optimiser are used; the call does nothing if its `drift_weight` is 0.
        state: x_t `[N, ...]`, which the function detaches.
        times: times of the rows, `[N]`.
        conditioning: conditioning of the rows.
        guidance: guidance scale of both predictions.
        total: number of rows that the mean is over; N by default.

    Returns:
        The drift: the sum over the rows divided by `total`, without `drift_weight`; 0 if the penalty is off.
    """
    settings, policy = method.settings, method.policy
    if not settings.drift_weight:
        return 0.0
    drift = 0.0
    for piece in micro_batches(len(state), settings.micro_batch):
        arguments = (state[piece].detach(), times[piece], conditioning[piece], guidance)
        base = base_prediction(policy, *arguments)
        loss = policy.predict(*arguments).distance(base).sum() / (total or len(state))
        method.optimiser.backward(settings.drift_weight * loss)
        drift += float(loss.detach())
    return drift
