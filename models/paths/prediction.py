"""A model's prediction at a corrupted state, as any of the quantities in which papers state their losses."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor

from models.paths.transition import mean_square

Unit = Literal["output", "epsilon", "velocity"]
"""Quantity in which a square is taken: what the model was trained to predict, the noise ε, or the velocity v."""


class Conversions(Protocol):
    """The conversions that a prediction asks of its noise process (`models.paths.base.NoisePath`)."""

    def clean(self, prediction: "Prediction") -> Tensor:
        """x̂_0 `[B, ...]` of a prediction."""

    def velocity(self, final: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """The velocity v `[B, ...]` of clean states under `noise` at `times`."""

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
    path: Conversions

    def __len__(self) -> int:
        return len(self.state)

    def __getitem__(self, rows: Any) -> "Prediction":
        """The prediction for some of the rows: a slice, a mask or row numbers."""
        return Prediction(self.state[rows], self.times[rows], self.output[rows], self.epsilon[rows], self.path)

    @property
    def clean(self) -> Tensor:
        """x̂_0 `[B, ...]`: the clean state that the prediction stands for."""
        return self.path.clean(self)

    @property
    def velocity(self) -> Tensor:
        """v `[B, ...]`: the direction of the noise process at x_t."""
        return self.path.velocity(self.clean, self.epsilon, self.times)

    def error(self, final: Tensor, noise: Tensor, unit: Unit = "output") -> Tensor:
        """The model's own loss `[B]`: the squared error of the prediction, a mean over a row's dimensions.

        Args:
            final: x_0 `[B, ...]` that was corrupted to `state`.
            noise: the noise `[B, ...]` that corrupted it.
            unit: quantity in which the error is taken.
        """
        if unit == "output":
            return mean_square(self.output - self.path.target(final, noise, self.times))
        true = noise if unit == "epsilon" else self.path.velocity(final, noise, self.times)
        return mean_square(getattr(self, unit) - true)

    def distance(self, other: "Prediction", unit: Unit = "epsilon") -> Tensor:
        """‖ε − ε'‖² `[B]`, or in another unit, to a prediction at the same states; a mean over a row's dimensions.

        With the base model's prediction it is the drift; for Gaussian steps with a fixed σ, the Kullback-Leibler
        divergence of the step is a multiple of it that depends on t only (DPOK, arXiv 2305.16381, section 4.1).
        """
        return mean_square(getattr(self, unit) - getattr(other, unit))
