"""A private copy of the global random state, for a library that draws from it."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


class OwnRandomState:
    """A private state of Python's, NumPy's and torch's global generators, which one library advances.

    Args:
        device: the device whose torch generator is kept as well as the CPU's.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._state: dict[str, Any] | None = None

    @contextmanager
    def active(self) -> Iterator[None]:
        """Makes the private state the global one inside the block, and restores the global state after it."""
        outer = self._snapshot()
        if self._state is not None:
            self._restore(self._state)
        try:
            yield
        finally:
            self._state = self._snapshot()
            self._restore(outer)

    def _snapshot(self) -> dict[str, Any]:
        name, keys, *rest = np.random.get_state()
        state = {
            "python": random.getstate(),
            "numpy": (name, np.asarray(keys).tolist(), *rest),
            "torch": torch.get_rng_state(),
        }
        if self.device.type == "cuda":
            state["cuda"] = torch.cuda.get_rng_state(self.device)
        return state

    def _restore(self, state: dict[str, Any]) -> None:
        random.setstate(state["python"])
        np.random.set_state(state["numpy"])
        torch.set_rng_state(state["torch"])
        if "cuda" in state and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda"], self.device)

    def state_dict(self) -> dict[str, Any]:
        """The private state as plain values and tensors; empty before the first use."""
        return self._state or {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._state = state or None
