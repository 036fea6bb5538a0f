"""Comparison of states and gradients, and blocks in which the global generators or the default dtype are fixed."""

import math
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


@contextmanager
def global_generators(seed: int) -> Iterator[None]:
    """Seeds torch's, Python's and NumPy's global generators for the block, and restores their state afterwards."""
    before = random.getstate(), np.random.get_state()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Makes `dtype` torch's default for tensors and modules created inside the block."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def global_state() -> list[Any]:
    """The state of torch's, Python's and NumPy's global generators, comparable with `same`."""
    numpy: Any = np.random.get_state()
    return [torch.get_rng_state(), list(random.getstate()[1]), [part.tolist() for part in map(np.asarray, numpy)]]


def same(a: Any, b: Any) -> bool:
    """Whether two states are bitwise the same; NaN equals NaN."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a.nan_to_num(), b.nan_to_num())
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b) or (isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b))


def relative_error(ours: list[Tensor], theirs: list[Tensor]) -> float:
    """‖ours − theirs‖ / ‖theirs‖ over all tensors together; NaN, which passes no comparison, if `theirs` is zero."""
    a, b = (torch.cat([tensor.flatten() for tensor in tensors]) for tensors in (ours, theirs))
    length = float(b.norm())
    return float((a - b).norm()) / length if length else math.nan
