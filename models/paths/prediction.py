"""A model's prediction at a corrupted state, as any of the quantities in which papers state their losses."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor

Unit = Literal["output", "epsilon"]
"""Quantity in which a squared error is taken: what the model was trained to predict, or the noise ε."""


class Path(Protocol):
    """What a prediction asks of the noise process that it belongs to."""

    def clean(self, prediction: "Prediction") -> Tensor:
        """x̂_0 `[B, ...]` of a prediction."""

    def target(self, final: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """What the model's output `[B, ...]` should be for clean states under `noise` at `times`."""


@dataclass(frozen=True)
class Prediction:
    """A model's prediction for B rows.

    Attributes:
        state: x_t `[B, ...]`.
        times: times of the rows, `[B]`.
        output: the model's output `[B, ...]`, with guidance.
        epsilon: predicted noise ε `[B, ...]`, with guidance. At a time without signal x̂_0 follows from the output of a
            model that predicts v, but not from ε.
        path: the noise process of the model.
    """

    state: Tensor
    times: Tensor
    output: Tensor
    epsilon: Tensor
    path: Path

    def __len__(self) -> int:
        return len(self.state)

    def __getitem__(self, rows: Any) -> "Prediction":
        """The prediction for some of the rows: a slice, a mask or row numbers."""
        return Prediction(self.state[rows], self.times[rows], self.output[rows], self.epsilon[rows], self.path)

    @property
    def clean(self) -> Tensor:
        """x̂_0 `[B, ...]`: the clean state that the prediction stands for."""
        return self.path.clean(self)

    def error(self, final: Tensor, noise: Tensor, unit: Unit = "output") -> Tensor:
        """The model's own loss `[B]`: the squared error of the prediction, a mean over a row's dimensions.

        Args:
            final: x_0 `[B, ...]` that was corrupted to `state`.
            noise: the noise `[B, ...]` that corrupted it.
            unit: quantity in which the error is taken.
        """
        if unit == "epsilon":
            return mean_square(self.epsilon - noise)
        return mean_square(self.output - self.path.target(final, noise, self.times))

    def distance(self, other: "Prediction") -> Tensor:
        """‖ε − ε'‖² `[B]` to another prediction at the same states, a mean over a row's dimensions.

        With the base model's prediction it is the drift; for Gaussian steps with a fixed σ, the Kullback-Leibler
        divergence of the step is a multiple of it that depends on t only (DPOK, arXiv 2305.16381, section 4.1).
        """
        return mean_square(self.epsilon - other.epsilon)


def mean_square(difference: Tensor) -> Tensor:
    """The mean square `[B]` of each row of `[B, ...]` over its dimensions."""
    return (difference**2).flatten(1).mean(1)
