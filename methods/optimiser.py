"""The optimiser of a single worker: AdamW with gradient clipping."""

from typing import Any

import torch
from torch import Tensor

from methods.base import TrainingSettings


def adamw(parameters: list[torch.nn.Parameter], settings: TrainingSettings) -> torch.optim.AdamW:
    """AdamW as the settings say."""
    return torch.optim.AdamW(parameters, **_of_adamw(settings))


def _of_adamw(settings: TrainingSettings) -> dict[str, Any]:
    return {
        "lr": settings.learning_rate,
        "betas": settings.adam_betas,
        "eps": settings.adam_epsilon,
        "weight_decay": settings.weight_decay,
    }


class LocalOptimiser:
    """AdamW over `parameters` in this process (see `methods.base.Optimiser`)."""

    def __init__(self, parameters: list[torch.nn.Parameter], settings: TrainingSettings):
        self.parameters = parameters
        self.max_grad_norm = settings.max_grad_norm
        self._own = _of_adamw(settings)
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
        """Those that are held now."""
        return [parameter.grad for parameter in self.parameters if parameter.grad is not None]

    def state_dict(self) -> dict[str, Any]:
        return {"adamw": self._adamw.state_dict(), "updates": self.updates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._adamw.load_state_dict(state["adamw"])
        for group in self._adamw.param_groups:  # the state may be of a trial with another learning rate
            group.update(self._own)
        self.updates = state["updates"]
