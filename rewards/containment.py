"""Own code of a reward runs here: what it does to the state that all code of a process shares is undone afterwards.

Restored are the switches that decide numbers, or where they are computed:

- torch's default dtype and device, grad mode, inference mode, autocast, anomaly detection, number of threads,
  deterministic algorithms, precision of matrix products, cuDNN's flags, kernels of fused attention, and whether
  denormal numbers are flushed;
- the global random generators of torch (CPU and CUDA), NumPy and Python, and NumPy's handling of floating-point errors;
- the working directory.

Random numbers that own code draws from the global generators are keyed, as all of a trial's are: a call begins with
generators seeded by what it is for (`drawing`), so that one trial draws the same whenever and wherever it runs.

Not restored, as own code may need it in its next call: imported modules, environment variables, the import path, log
levels. What own code keeps by itself cannot be undone: generators of its own, counters, running statistics. Such a
reward is found by asking it twice (`bench/run/repeatable.py`).
"""

import hashlib
import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import Any

import numpy as np
import torch

Switch = tuple[Callable[[], Any], Callable[[Any], Any]]
"""How a part of the global state is read, and how it is set."""

_DENORMAL, _ONE = 5e-324, 1.0

_key: ContextVar[tuple[int | str, ...]] = ContextVar("key", default=())


@contextmanager
def drawing(*key: int | str) -> Iterator[None]:
    """Keys the random numbers that own code draws inside the block."""
    token = _key.set(key)
    try:
        yield
    finally:
        _key.reset(token)


@contextmanager
def contained(name: str) -> Iterator[None]:
    """Runs own code: global generators are seeded for it, and all of the global state is as before after the block.

    Args:
        name: what runs; blocks inside each other that are named differently draw different numbers. Outside every
            `drawing`, the seed that torch was given last is the rest of the key.
    """
    with restored(), drawing(*(_key.get() or (torch.initial_seed(),)), name):
        _seed(_key.get())
        yield


@contextmanager
def restored() -> Iterator[None]:
    """The global state is as before after the block, however the block ends."""
    before = [read() for read, _ in SWITCHES]
    grad = torch.is_grad_enabled()
    numpy_state, python_state = np.random.get_state(), random.getstate()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    # Entering inference mode, or leaving it, also sets the grad mode.
    with (
        torch.inference_mode(torch.is_inference_mode_enabled()),
        torch.set_grad_enabled(grad),
        torch.random.fork_rng(devices, device_type="cuda"),
        np.errstate(),
    ):
        try:
            yield
        finally:
            np.random.set_state(numpy_state)
            random.setstate(python_state)
            for (read, write), value in zip(SWITCHES, before, strict=True):
                if read() != value:
                    write(value)


def _seed(key: tuple[int | str, ...]) -> None:
    digest = hashlib.blake2b("/".join(map(str, key)).encode(), digest_size=8).digest()
    seed = int.from_bytes(digest, "little") >> 1
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)


def _attribute(owner: Any, name: str) -> Switch:
    return partial(getattr, owner, name), partial(setattr, owner, name)


def _set_device(device: torch.device) -> None:
    torch.set_default_device(None if device.type == "cpu" else device)


def _optional(read: Callable[[], Any], write: Callable[[Any], Any], refusal: type[Exception]) -> Switch:
    """A switch that cannot always be read, and is left alone where it could not."""

    def reading() -> Any:
        with suppress(refusal):
            return read()
        return None

    return reading, lambda value: None if value is None else write(value)


def _autocast(device: str) -> tuple[Switch, ...]:
    return (
        (partial(torch.is_autocast_enabled, device), partial(torch.set_autocast_enabled, device)),
        (partial(torch.get_autocast_dtype, device), partial(torch.set_autocast_dtype, device)),
    )


def _precisions() -> Iterator[Switch]:
    """Of matrix products and convolutions by backend, which torch 2.9 brought."""
    backends = torch.backends
    places = (backends, backends.cudnn, backends.cuda.matmul, backends.mkldnn)
    names = ("matmul", "conv", "rnn")
    parts = [getattr(place, name, None) for place in (backends.cudnn, backends.mkldnn) for name in names]
    for owner in (*places, *parts):
        if hasattr(owner, "fp32_precision"):
            yield _attribute(owner, "fp32_precision")


SWITCHES: tuple[Switch, ...] = (
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_default_device, _set_device),
    *_autocast("cpu"),
    *_autocast("cuda"),
    (torch.is_autocast_cache_enabled, torch.set_autocast_cache_enabled),
    (torch.is_anomaly_enabled, torch.set_anomaly_enabled),
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    *(_attribute(torch.backends.cudnn, name) for name in ("enabled", "benchmark", "deterministic")),
    # The names before torch 2.9 refuse to tell what was set by the new ones, which therefore come after them.
    _optional(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, RuntimeError),
    _optional(*_attribute(torch.backends.cudnn, "allow_tf32"), RuntimeError),
    *_precisions(),
    (torch.backends.cuda.flash_sdp_enabled, torch.backends.cuda.enable_flash_sdp),
    (torch.backends.cuda.mem_efficient_sdp_enabled, torch.backends.cuda.enable_mem_efficient_sdp),
    (torch.backends.cuda.math_sdp_enabled, torch.backends.cuda.enable_math_sdp),
    (torch.backends.cuda.cudnn_sdp_enabled, torch.backends.cuda.enable_cudnn_sdp),
    (lambda: _DENORMAL * _ONE == 0, torch.set_flush_denormal),
    _optional(os.getcwd, os.chdir, FileNotFoundError),
)
