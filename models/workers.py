"""The workers of one trial, and how they share the rows of a batch.

Every worker runs the same program on the same numbers. The work is shared only where a network is called: each worker
computes its own rows, and the outputs are gathered, so that the code after the call has the whole batch again. A
sampler, a loss or a method is written as for one process.

A loss is then the same on every worker. Differentiating it gives each worker the gradient of its own rows with respect
to the weights, so the whole gradient is the **sum** over workers. The gradient with respect to a shared batch is
gathered from all workers, so that the code before the call has the whole gradient on every worker. (This is the
conjugate pair of Megatron-LM, arXiv 1909.08053, section 3, over rows.)
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

T = TypeVar("T")


class Workers:
    """The place of this process among the workers of its trial; the only one if there is no process group.

    All workers must make the same calls in the same order, because a call waits for the other workers.
    """

    def __init__(self) -> None:
        grouped = dist.is_available() and dist.is_initialized()
        self.rank = dist.get_rank() if grouped else 0
        self.size = dist.get_world_size() if grouped else 1

    @property
    def first(self) -> bool:
        """Whether this is the worker of rank 0, which writes files."""
        return self.rank == 0

    def rows(self, count: int) -> int:
        """The number of rows that a worker takes of `count`, rounded up; the last workers repeat the last row."""
        return -(-count // self.size)

    def map(self, call: Callable[..., Tensor], *batches: Tensor) -> Tensor:
        """Computes `call(*batches)` with the rows shared among the workers.

        Args:
            call: takes rows of all batches and returns as many rows; row i depends on row i of the batches only.
            batches: tensors `[B, ...]`.

        Returns:
            The whole result `[B, ...]` on every worker, differentiable with respect to the weights and the batches.
        """
        if self.size == 1:
            return call(*batches)
        return self.gather(call(*map(self.share, batches)), len(batches[0]))

    def share(self, batch: Tensor) -> Tensor:
        """This worker's rows `[rows(B), ...]` of `[B, ...]`. Its backward pass gathers the gradient of all rows."""
        return batch if self.size == 1 else _Share.apply(batch, self)

    def share_list(self, values: Sequence[T]) -> list[T]:
        """This worker's share of a list of B values, at the same indices as the rows of `share`."""
        return [values[index] for index in self._own(len(values))]

    def gather(self, part: Tensor, count: int) -> Tensor:
        """The whole batch `[count, ...]` from the `[rows(count), ...]` of all workers.

        Its backward pass gives each worker the gradient of its own rows.
        """
        return part if self.size == 1 else _Gather.apply(part, count, self)

    def agree(self, value: T) -> T:
        """The first worker's `value`, on every worker, for decisions that depend on clocks or files.

        Values are plain objects and tensors, nested at any depth.
        """
        if self.size == 1:
            return value
        values: list[Any] = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def each(self, value: T) -> list[T]:
        """The values of all workers in the order of their ranks."""
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
        # Repeated rows come last and are cut off, because no output depends on them.
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
