"""The optimiser of a trial with one worker: AdamW with gradient clipping."""

from typing import Any

import torch
from torch import Tensor

from methods.base import Optimiser, TrainingSettings
from models.adapter import MovingAverage
from models.policy import Policy


def adamw(parameters: list[torch.nn.Parameter], settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW on `parameters` with the learning rate, betas, epsilon and weight decay of `settings`."""
    return torch.optim.AdamW(parameters, **_adamw_options(settings))


def _adamw_options(settings: TrainingSettings) -> dict[str, Any]:
    return {
        "lr": settings.learning_rate,
        "betas": settings.adam_betas,
        "eps": settings.adam_epsilon,
        "weight_decay": settings.weight_decay,
    }


class Averaging:
    """An optimiser that adds the weights after each update to a moving average.

    Args:
        optimiser: does the updates.
        policy: the policy whose adapter is updated.
        average: the average that is kept.
        decay: share of the average that stays at each update, above 0 and below 1.
    """

    def __init__(self, optimiser: Optimiser, policy: Policy, average: MovingAverage, decay: float):
        self._optimiser, self._policy = optimiser, policy
        self._average, self._decay = average, decay

    def backward(self, loss: Tensor) -> None:
        self._optimiser.backward(loss)

    def step(self) -> float:
        norm = self._optimiser.step()
        self._average.update(self._policy.snapshot(), self._decay)
        return norm


class LocalOptimiser:
    """AdamW over `parameters` in this process (see `methods.base.Optimiser`)."""

    def __init__(self, parameters: list[torch.nn.Parameter], settings: TrainingSettings):
        self.parameters = parameters
        self.max_grad_norm = settings.max_grad_norm
        self._options = _adamw_options(settings)
        self.updates = 0
        self._adamw = adamw(parameters, settings)

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def step(self) -> float:
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm)
        self._adamw.step()
        self._adamw.zero_grad(set_to_none=True)
        self.updates += 1
        return float(norm)

    def gradients(self) -> list[Tensor]:
        """The gradients that the parameters hold at present."""
        return [parameter.grad for parameter in self.parameters if parameter.grad is not None]

    def state_dict(self) -> dict[str, Any]:
        return {"adamw": self._adamw.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._adamw.load_state_dict(state["adamw"])
        for group in self._adamw.param_groups:  # the state may come from a trial with another learning rate
            group.update(self._options)
        self.updates = state["updates"]
