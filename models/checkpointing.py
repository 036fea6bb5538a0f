"""Gradient checkpointing of a denoiser call, and the measurements that decide for or against it.

A kept call stores its activations until the backward pass (`none`), only the inputs of each block of the U-Net
(`block`, diffusers' own checkpointing), or only its own inputs (`step`, as AlignProp's code does). What is not stored
is computed a second time in the backward pass; gradients are the same.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal, Protocol

import psutil
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Checkpointing = Literal["none", "block", "step"]


class BlockCounter(Protocol):
    """Told of each block that is computed again: its name, its arguments and whether it is the call's first."""

    def __call__(self, name: str, block: nn.Module, args: tuple[Any, ...], first: bool) -> None: ...


@contextmanager
def block_checkpointing(unet: Any, count: BlockCounter) -> Iterator[None]:
    """A call of `unet`, a diffusers model, checkpoints each of its blocks; afterwards the module is as it was.

    One call a context: `count` is told which recomputed block is the first of its call.
    """
    names = {module: name for name, module in unet.named_modules()}
    before = [
        (module, module.gradient_checkpointing, vars(module).get("_gradient_checkpointing_func"))
        for module in names
        if hasattr(module, "gradient_checkpointing")
    ]
    seen: set[nn.Module] = set()
    recomputed = 0

    def checkpointed(block: nn.Module, *args: Any) -> Any:
        if block in seen:  # not the call itself but the meter's extra row, whose FLOPs are to be those without
            return block(*args)
        seen.add(block)
        calls = 0

        def run(*args: Any) -> Any:
            nonlocal calls, recomputed
            calls += 1
            if calls > 1:  # the first is the forward pass, the second the recomputation
                recomputed += 1
                count(names[block], block, args, recomputed == 1)
            return block(*args)

        # The denoiser is in evaluation mode and draws nothing, so there is no random state to restore.
        return checkpoint(run, *args, use_reentrant=False, preserve_rng_state=False)

    unet.enable_gradient_checkpointing(checkpointed)
    try:
        yield
    finally:
        for module, enabled, function in before:
            module.gradient_checkpointing, module._gradient_checkpointing_func = enabled, function


def stored_bytes(run: Callable[[], Tensor], weights: Iterable[Tensor]) -> int:
    """Bytes of the tensors that autograd stores for `run()`, without `weights`, which exist anyway."""
    known = {weight.untyped_storage().data_ptr() for weight in weights}
    seen: dict[int, tuple[Tensor, int]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            seen[storage.data_ptr()] = (tensor.detach(), storage.nbytes())  # held, so that no address is used twice
        return tensor.detach()  # an output that kept its own graph alive would never be freed

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(size for _, size in seen.values())


def memory_bytes(device: torch.device) -> int:
    """Bytes of memory that this process may count on.

    On CUDA all of the device's. On the CPU the machine's, or its control group's limit where that is lower, times this
    process's share of the cores (trials on one machine share its memory as they share its cores). Not what happens to
    be free at the moment: the same trial on the same machine has to decide alike.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]

    limits = [psutil.virtual_memory().total]
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # no control groups, or the word `max`
            limits.append(int(Path(limit).read_text()))
    share = min(1.0, torch.get_num_threads() / (os.cpu_count() or 1))
    return int(share * min(limits))
