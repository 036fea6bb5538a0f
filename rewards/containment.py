"""Contains user code, such as a reward's: restores the global state of the process after the code has run.

The switches that decide numbers, or where they are computed, are restored:

- torch's default dtype and device, grad mode, inference mode, autocast, anomaly detection, number of threads,
  deterministic algorithms, precision of matrix products, cuDNN's flags, kernels of fused attention, and whether
  denormal numbers are flushed;
- the global random generators of torch (CPU and CUDA), NumPy and Python, and NumPy's handling of floating-point errors;
- the working directory.

Random numbers that user code draws from the global generators are keyed, like all random numbers of a trial: `drawing`
seeds the generators by the purpose of the call, so that a trial draws the same numbers whenever and wherever it runs.

Imported modules, environment variables, the import path and log levels are not restored, because user code may need
them in its next call. State that user code keeps itself cannot be restored: its own generators, counters, running
statistics. `bench/run/repeatable.py` finds such a reward by scoring images twice.
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
"""The functions that read and set one part of the global state."""

_DENORMAL, _ONE = 5e-324, 1.0

_key: ContextVar[tuple[int | str, ...]] = ContextVar("key", default=())


@contextmanager
def drawing(*key: int | str) -> Iterator[None]:
    """Keys the random numbers that user code draws inside the block."""
    token = _key.set(key)
    try:
        yield
    finally:
        _key.reset(token)


@contextmanager
def contained(name: str) -> Iterator[None]:
    """Seeds the global generators for the user code inside the block, and restores the global state after it.

    Args:
        name: name of the user code, a part of the generators' key, so that nested blocks of other names draw other
            numbers. The rest of the key is that of `drawing`; outside of every `drawing`, it is torch's latest seed.
    """
    with restored(), drawing(*(_key.get() or (torch.initial_seed(),)), name):
        _seed(_key.get())
        yield


@contextmanager
def restored() -> Iterator[None]:
    """Restores the global state after the block, also if the block raises an error."""
    before = [read() for read, _ in SWITCHES]
    grad = torch.is_grad_enabled()
    numpy_state, python_state = np.random.get_state(), random.getstate()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    # Entering or leaving inference mode also sets the grad mode.
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
    """A switch that is left unchanged if reading it raises `refusal`."""

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
    """The switches for the precision of matrix products and convolutions by backend, which exist since torch 2.9."""
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
    # Once the switches of torch 2.9 are set, reading the older ones raises an error, so the older ones come first.
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
