"""The base class of rewards with a large network, which is loaded at the first score."""

from abc import abstractmethod
from typing import Generic, Self, TypeVar

import torch
from torch import nn

from rewards.base import Reward

Network = TypeVar("Network", bound=nn.Module)


class LazyReward(Reward, Generic[Network]):
    """A reward that loads its network at its first score, so that a plan can build and check it without waiting."""

    def __init__(self) -> None:
        self._device = torch.device("cpu")
        self._network: Network | None = None

    @abstractmethod
    def load(self) -> Network:
        """Loads the network from its files."""

    def network(self) -> Network:
        """The frozen network, which the first call loads."""
        if self._network is None:
            with torch.inference_mode(False):  # weights made in inference mode cannot be used in a backward pass
                self._network = self.load().requires_grad_(False).eval().to(self._device)
        return self._network

    def to(self, device: torch.device | str) -> Self:
        self._device = torch.device(device)
        if self._network is not None:
            self._network.to(self._device)
        return self
