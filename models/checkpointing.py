"""Gradient checkpointing of a denoiser call, and the measurements that decide for or against it.

A differentiated call stores its activations until the backward pass (`none`), only the inputs of each block of the
U-Net (`block`, diffusers' own checkpointing), or only its own inputs (`step`, as AlignProp's code does). The backward
pass computes the other activations a second time; the gradients are the same.
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
    """Called for each block that the backward pass recomputes, with the block's name, module and arguments.

    `first` marks the first recomputed block of a denoiser call.
    """

    def __call__(self, name: str, block: nn.Module, args: tuple[Any, ...], first: bool) -> None: ...


@contextmanager
def block_checkpointing(unet: Any, count: BlockCounter) -> Iterator[None]:
    """Checkpoints every block of `unet`, a diffusers model, inside the context; its settings are restored afterwards.

    Enter one context for each call of `unet`: `count` gets `first=True` once for each context.
    """
    names = {module: name for name, module in unet.named_modules()}
    before = [
        (module, module.gradient_checkpointing, vars(module).get("_gradient_checkpointing_func"))
        for module in names
        if hasattr(module, "gradient_checkpointing")
    ]
    checkpointed_blocks: set[nn.Module] = set()
    recomputed = 0

    def checkpointed(block: nn.Module, *args: Any) -> Any:
        # A second forward is the meter's extra row, whose FLOPs are counted without checkpointing.
        if block in checkpointed_blocks:
            return block(*args)
        checkpointed_blocks.add(block)
        calls = 0

        def run(*args: Any) -> Any:
            nonlocal calls, recomputed
            calls += 1
            if calls > 1:  # the first is the forward pass, the second the recomputation
                recomputed += 1
                count(names[block], block, args, recomputed == 1)
            return block(*args)

        # The denoiser is in evaluation mode and draws no random numbers, so no random state has to be restored.
        return checkpoint(run, *args, use_reentrant=False, preserve_rng_state=False)

    unet.enable_gradient_checkpointing(checkpointed)
    try:
        yield
    finally:
        for module, enabled, function in before:
            module.gradient_checkpointing, module._gradient_checkpointing_func = enabled, function


def stored_bytes(run: Callable[[], Tensor], weights: Iterable[Tensor]) -> int:
    """Bytes of the tensors that autograd stores for `run()`, without `weights`, which exist anyway."""
    weight_addresses = {weight.untyped_storage().data_ptr() for weight in weights}
    stored: dict[int, tuple[Tensor, int]] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weight_addresses:
            # The reference keeps the storage alive, so that no address is used twice.
            stored[storage.data_ptr()] = (tensor.detach(), storage.nbytes())
        return tensor.detach()  # an output that kept its own graph alive would never be freed

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run()
    return sum(size for _, size in stored.values())


def memory_bytes(device: torch.device) -> int:
    """Bytes of memory that this process may count on.

    On CUDA this is all memory of the device. On the CPU it is the machine's memory, or the control group's limit if
    that is lower, times this process's share of the cores (trials on one machine share its memory as they share its
    cores). It is not the memory that is free at the moment, because the same trial on the same machine has to make the
    same decision.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[1]

    limits = [psutil.virtual_memory().total]
    for limit in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):  # no control groups, or the text `max` for no limit
            limits.append(int(Path(limit).read_text()))
    share = min(1.0, torch.get_num_threads() / (os.cpu_count() or 1))
    return int(share * min(limits))
