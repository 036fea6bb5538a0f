"""A reward whose network is large: its files are found when it is built, and read at its first score."""

from abc import abstractmethod
from typing import Generic, Self, TypeVar

import torch
from torch import nn

from rewards.base import Reward

Network = TypeVar("Network", bound=nn.Module)


class LazyReward(Reward, Generic[Network]):
    """A plan builds rewards to check them, and should not wait for gigabytes."""

    def __init__(self) -> None:
        self._device = torch.device("cpu")
        self._network: Network | None = None

    @abstractmethod
    def load(self) -> Network:
        """Reads the files."""

    def network(self) -> Network:
        """Loaded at the first call, frozen."""
        if self._network is None:
            with torch.inference_mode(False):  # weights read there could not serve a backward pass later
                self._network = self.load().requires_grad_(False).eval().to(self._device)
        return self._network

    def to(self, device: torch.device | str) -> Self:
        self._device = torch.device(device)
        if self._network is not None:
            self._network.to(self._device)
        return self
