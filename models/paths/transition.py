"""The distribution of one step of a sampler, from which a policy gradient takes its actions."""

import math
from dataclasses import dataclass
from typing import Protocol, Self

from torch import Tensor


class Transition(Protocol):
    """p_θ(x_{t−1} | x_t, c) for B rows."""

    @property
    def mode(self) -> Tensor:
        """The most likely next states `[B, ...]`, differentiable in the prediction."""

    def draw(self, noise: Tensor) -> Tensor:
        """The next states `[B, ...]` under `noise` of their shape, differentiable in the prediction."""

    def log_prob(self, action: Tensor) -> Tensor:
        """The log-probability `[B]` of next states, a mean over a row's dimensions."""

    def kl(self, other: Self) -> Tensor:
        """The Kullback-Leibler divergence `[B]` to another transition from the same states, a mean over dimensions."""


@dataclass(frozen=True)
class GaussianTransition:
    """p_θ(x_{t−1} | x_t, c) = N(mean, std²) for B rows.

    Attributes:
        mean: `[B, ...]`.
        std: standard deviation σ `[B, 1, ...]`.
        stochastic: whether every step of the sampler's run has σ > 0, so that each has a log-probability.
    """

    mean: Tensor
    std: Tensor
    stochastic: bool

    @property
    def mode(self) -> Tensor:
        """The most likely next states `[B, ...]`, which are the mean."""
        return self.mean

    def draw(self, noise: Tensor) -> Tensor:
        """The next states `[B, ...]` under standard normal `noise` `[B, ...]`."""
        return self.mean + self.std * noise

    def log_prob(self, action: Tensor) -> Tensor:
        """log N(action; mean, σ²), **averaged** over a row's dimensions as DDPO's code does: `[B]`.

        Multiply by the number of dimensions for the joint log-probability.

        Raises:
            ValueError: some step of the run has no variance (eta 0, or see `DDIM.noiseless_step`).
        """
        if not self.stochastic:
            raise ValueError("sampler: a step has zero variance, so it has no log-probability; use eta > 0")
        squared = (action - self.mean) ** 2 / (2 * self.std**2)
        return (-squared - self.std.log() - 0.5 * math.log(2 * math.pi)).flatten(1).mean(1)

    def kl(self, other: "GaussianTransition") -> Tensor:
        """KL(self ‖ other) `[B]` of transitions with the same σ: (μ − μ')² / 2σ², a mean over a row's dimensions."""
        return mean_square((self.mean - other.mean) / self.std) / 2


def mean_square(difference: Tensor) -> Tensor:
    """The mean square `[B]` of each row of `[B, ...]` over its dimensions."""
    return (difference**2).flatten(1).mean(1)
