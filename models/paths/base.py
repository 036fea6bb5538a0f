"""The contract of a noise process: how clean states are corrupted, and how a sampler undoes it step by step."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from models.noise import SeedStream
from models.paths.prediction import Prediction
from models.paths.transition import Transition
from models.sampler import SamplerSettings


class NoisePath(ABC):
    """The noise process of a model, and the samplers on it.

    Class attributes that an author sets:
        gaussian: whether transitions are Gaussian; a method that needs their means is refused on others.
    """

    gaussian: ClassVar[bool] = True

    @abstractmethod
    def timesteps(self, sampler: SamplerSettings) -> list[int]:
        """The keys of the noise of a sampler's run, one for each of its T steps, from noisy to clean.

        Raises:
            ValueError: the process cannot be sampled in such steps; the message is one sentence.
        """

    @abstractmethod
    def times(self, sampler: SamplerSettings, device: torch.device | str = "cpu") -> Tensor:
        """The times of a sampler's run, from noisy to clean, and the time after the last one: `[T + 1]`."""

    @abstractmethod
    def draw_times(self, seeds: SeedStream, purpose: str, step: int, samples: Sequence[int]) -> Tensor:
        """A random time of the forward process for each of the numbered `samples`, `[B]`."""

    def unfit(self, sampler: SamplerSettings, random: bool = False) -> str | None:
        """Why the process cannot be sampled in a sampler's steps, in one sentence; None if it can.

        Args:
            sampler: the sampler.
            random: whether every step must add noise, as log-probabilities need.
        """
        try:
            self.timesteps(sampler)
        except ValueError as error:
            return str(error)
        return None

    def start(self, noise: Tensor) -> Tensor:
        """x_T `[B, ...]` from standard normal noise."""
        return noise

    @abstractmethod
    def corrupt(self, final: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """x_t `[B, ...]` of the forward process, from clean states x_0, noise of the same shape, and times `[B]`."""

    @abstractmethod
    def prediction(self, output: Tensor, state: Tensor, times: Tensor) -> Prediction:
        """The prediction that the model's output `[B, ...]` stands for at x_t `state` `[B, ...]`."""

    @abstractmethod
    def clean(self, prediction: Prediction) -> Tensor:
        """x̂_0 `[B, ...]` of a prediction."""

    @abstractmethod
    def velocity(self, final: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """The velocity v `[B, ...]` of clean states x_0 under noise ε, both `[B, ...]`, at times `[B]`."""

    @abstractmethod
    def target(self, final: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """What the model's output `[B, ...]` should be for clean states under `noise` at `times`."""

    @abstractmethod
    def transition(self, prediction: Prediction, step: int | Tensor, sampler: SamplerSettings) -> Transition:
        """The distribution of the next state.

        Args:
            prediction: the prediction at x_t.
            step: the number of the step, from 0: one for all rows, or int64 `[B]`.
            sampler: the sampler whose run the step belongs to.
        """
