"""FLOPs of one row through a module, with torch's FlopCounterMode.

Counting every operation of a trial would slow it by a third, and FLOPs are linear in the rows, so a module is
counted once per kind of call on a single row and the meter multiplies.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count


def _attention(query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return sdpa_flop_count(query, key, value)


def _attention_backward(grad: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> int:
    return sdpa_backward_flop_count(grad, query, key, value)


# FlopCounterMode knows CUDA's fused attention but counts the CPU's as zero.
_FUSED_ATTENTION_ON_CPU = {
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
}


def count_flops(run: Callable[[], Any]) -> tuple[int, Any]:
    """FLOPs of `run()` (a multiply-add counts two), and what it returned."""
    with FlopCounterMode(display=False, custom_mapping=_FUSED_ATTENTION_ON_CPU) as counter:
        result = run()
    return counter.get_total_flops(), result


def forward_flops(run: Callable[[], Any]) -> int:
    """FLOPs of `run()` without autograd."""
    with torch.no_grad():
        return count_flops(run)[0]


def backward_flops(run: Callable[[], torch.Tensor], inputs: list[torch.Tensor]) -> int:
    """FLOPs of differentiating `run()` with respect to `inputs`; touches no `.grad`."""
    # Under gradient checkpointing the surrounding hooks must not see the tensors this extra call saves.
    # Detached: a saved output that kept its own graph alive would never be freed.
    plain = torch.autograd.graph.saved_tensors_hooks(lambda kept: kept.detach(), lambda kept: kept)
    with torch.enable_grad(), plain:
        output = run()
        wanted = [tensor for tensor in inputs if tensor.requires_grad]
        if not output.requires_grad or not wanted:
            return 0
        return count_flops(lambda: torch.autograd.grad(output.sum(), wanted, allow_unused=True))[0]
