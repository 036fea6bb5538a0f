"""Bytes of tensors: those that weights take, and the most that were alive at once while something ran.

Counted from the tensors themselves, so that a CPU, a GPU and a dry pass without numbers (`models/dry.py`) mean the same
by a byte. What lies outside tensors is not seen: a kernel's workspace, the allocator's rounding, CUDA's context.
"""

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of the tensors that operations inside the block make.

    Storages that were there before, weights above all, count nothing. Every operation takes some ten microseconds more.

    Attributes:
        now: bytes that are alive.
        peak: the most that were alive at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._known: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        for leaf in tree_leaves((args, kwargs)):
            self._see(leaf, 0)  # not made here, unless it is known: then this is no news
        made = func(*args, **kwargs)
        for leaf in tree_leaves(made):
            self._see(leaf, None)
        return made

    def _see(self, value: Any, size: int | None) -> None:
        if not isinstance(value, Tensor) or value.layout != torch.strided:
            return
        storage = value.untyped_storage()
        key = storage._cdata
        if key in self._known:
            return
        held = storage.nbytes() if size is None else size

        def gone(_: Any) -> None:
            self._known.pop(key, None)
            self.now -= held

        self._known[key] = weakref.ref(storage, gone)
        self.now += held
        self.peak = max(self.peak, self.now)


def held_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the storages behind `tensors`, each counted once."""
    storages = {}
    for tensor in tensors:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage.nbytes()
    return sum(storages.values())


def weight_bytes(modules: Iterable[nn.Module]) -> int:
    """Bytes of the parameters and buffers of modules; what several share counts once."""
    return held_bytes(tensor for module in modules for tensor in (*module.parameters(), *module.buffers()))
