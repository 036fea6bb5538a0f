"""Bytes of tensors: those of weights, and the peak of the tensors that are alive while code runs.

Bytes are counted from the tensors themselves, so that a CPU, a GPU and a dry pass (`models/dry.py`) give the same
numbers. Memory outside tensors is not counted: a kernel's workspace, the allocator's rounding, CUDA's context.
"""

import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_ignoring = 0


@contextmanager
def untracked() -> Iterator[None]:
    """Excludes the work inside the block from what `LiveTensors` measures."""
    global _ignoring  # a count, because blocks nest
    _ignoring += 1
    try:
        yield
    finally:
        _ignoring -= 1


class LiveTensors(TorchDispatchMode):
    """Counts the bytes of the tensors that operations inside the block make, and their peak.

    Storages that exist before the block, such as weights, are not counted. Each operation takes about ten microseconds
    longer, so a trial measures one step only.

    Attributes:
        now: bytes that are alive at present.
    """

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self._begin = 0
        self._peak = 0
        self._storages: dict[int, weakref.ref] = {}

    @property
    def rise(self) -> int:
        """The peak, in bytes above those that were alive at the last `restart`."""
        return self._peak - self._begin

    def restart(self) -> None:
        """Forgets the peak so far."""
        self._begin = self._peak = self.now

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if _ignoring:
            return func(*args, **kwargs)
        for leaf in tree_leaves((args, kwargs)):
            self._record(leaf, 0)  # an argument that no operation in the block has made counts nothing
        outputs = func(*args, **kwargs)
        for leaf in tree_leaves(outputs):
            self._record(leaf, None)
        return outputs

    def _record(self, value: Any, size: int | None) -> None:
        """Adds the storage of a tensor that is new to the block; `size` replaces its own number of bytes."""
        if not isinstance(value, Tensor) or value.layout != torch.strided:
            return
        storage = value.untyped_storage()
        key = storage._cdata
        if key in self._storages:
            return
        counted = storage.nbytes() if size is None else size

        def freed(_: Any) -> None:
            self._storages.pop(key, None)
            self.now -= counted

        self._storages[key] = weakref.ref(storage, freed)
        self.now += counted
        self._peak = max(self._peak, self.now)


def held_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the storages behind `tensors`, each counted once."""
    storages = {}
    for tensor in tensors:
        storage = tensor.untyped_storage()
        storages[storage._cdata] = storage.nbytes()
    return sum(storages.values())


def weight_bytes(modules: Iterable[nn.Module], trained: bool | None = None) -> int:
    """Bytes of the parameters and buffers that this process holds; of a parameter sharded by ZeRO, its own shard.

    Args:
        modules: a module that appears twice counts once.
        trained: True for trained parameters only, False for frozen parameters and buffers only, None for all.
    """
    tensors: dict[int, Tensor] = {}
    for module in modules:
        for tensor in (*module.parameters(), *module.buffers()):
            if trained is None or tensor.requires_grad == trained:
                tensors[id(tensor)] = getattr(tensor, "ds_tensor", tensor)
    return held_bytes(tensors.values())
