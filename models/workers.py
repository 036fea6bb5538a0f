"""The workers of one trial, and how they share the rows of a batch.

Every worker runs the same program on the same numbers. Only where a network is called is the work shared: each worker
takes its rows, and the outputs are gathered, so that what follows sees the whole batch again. Whoever writes a sampler,
a loss or a method cannot tell one worker from many.

A loss is then the same on every worker, and differentiating it gives each worker the gradient of its own rows with
respect to the weights: the whole gradient is the **sum** over workers. With respect to a batch that was shared out,
rows' gradients are gathered likewise, so that whatever led to the batch has its whole gradient on every worker. (The
conjugate pair of Megatron-LM, arXiv 1909.08053, section 3, here over rows.)
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

T = TypeVar("T")


class Workers:
    """A process's place among the workers of its trial. Without a process group it is the only one.

    Every worker must make the same calls in the same order: each of them waits for all others.
    """

    def __init__(self) -> None:
        grouped = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if grouped else 0
        self.size = dist.get_world_size() if grouped else 1

    @property
    def first(self) -> bool:
        """Whether this is the worker that writes."""
        return self.rank == 0

    def rows(self, count: int) -> int:
        """How many of `count` rows each worker takes; where they do not divide, the last ones repeat a row."""
        return -(-count // self.size)

    def map(self, call: Callable[..., Tensor], *batches: Tensor) -> Tensor:
        """`call(*batches)`, whose row i depends on row i of the batches alone, with the rows shared.

        Args:
            call: rows of every batch in, as many rows out.
            batches: `[B, ...]` each.

        Returns:
            The whole result `[B, ...]`, on every worker; differentiable through `call` and to the batches.
        """
        if self.size == 1:
            return call(*batches)
        return self.gather(call(*map(self.share, batches)), len(batches[0]))

    def share(self, batch: Tensor) -> Tensor:
        """This worker's rows of `[B, ...]`: `[rows(B), ...]`. The gradient comes back whole, on every worker."""
        return batch if self.size == 1 else _Share.apply(batch, self)

    def share_list(self, values: Sequence[T]) -> list[T]:
        """This worker's of B values, as `share` takes rows."""
        return [values[index] for index in self._own(len(values))]

    def gather(self, part: Tensor, count: int) -> Tensor:
        """The whole `[count, ...]` from every worker's `[rows(count), ...]`; a gradient goes to each one's own rows."""
        return part if self.size == 1 else _Gather.apply(part, count, self)

    def agree(self, value: T) -> T:
        """The first worker's value, for what clocks and files decide; plain values and tensors, at any depth."""
        if self.size == 1:
            return value
        values: list[Any] = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def each(self, value: T) -> list[T]:
        """Every worker's value, in the order of their ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def _own(self, count: int) -> list[int]:
        share = self.rows(count)
        return [min(index, count - 1) for index in range(self.rank * share, (self.rank + 1) * share)]

    def _take(self, batch: Tensor) -> Tensor:
        return batch[torch.tensor(self._own(len(batch)), device=batch.device)]

    def _whole(self, part: Tensor, count: int) -> Tensor:
        parts = [torch.empty_like(part, memory_format=torch.contiguous_format) for _ in range(self.size)]
        dist.all_gather(parts, part.contiguous())
        return torch.cat(parts)[:count]


class _Share(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, batch: Tensor, workers: Workers) -> Tensor:
        ctx.workers, ctx.count = workers, len(batch)
        return workers._take(batch)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        # Repeated rows come last, and are cut off: nothing downstream used them.
        return ctx.workers._whole(gradients[0], ctx.count), None


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, part: Tensor, count: int, workers: Workers) -> Tensor:
        ctx.workers, ctx.rows = workers, len(part)
        return workers._whole(part, count)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        whole, begin = gradients[0], ctx.workers.rank * ctx.rows
        own = whole[begin : begin + ctx.rows]
        missing = ctx.rows - len(own)  # repeated rows: their outputs were cut off
        return torch.cat([own, own.new_zeros(missing, *own.shape[1:])]) if missing else own, None, None
