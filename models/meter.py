"""The meter counts what a trial spends into its ledger, where the work happens.

Forward pre-hooks count the calls of denoiser, decoder and text encoder; they also run when gradient checkpointing
recomputes a call, where forward hooks do not (non-reentrant recomputation skips them). Where only blocks of the
denoiser are recomputed, the policy calls `count_recomputed_block`. A hook on the output's gradient counts backward
rows, so that a detached prediction is not billed. The harness wraps the reward in `count_reward`.
"""

import ctypes
import gc
import resource
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.flops import backward_flops, count_flops, forward_flops
from models.ledger import Ledger
from models.workers import Workers


def _in_backward() -> bool:
    # The id of the running autograd graph task; −1 outside a backward pass. Recomputation happens inside a backward
    # pass.
    return torch._C._current_graph_task_id() != -1


def _first_tensor(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    return output[0] if isinstance(output, tuple | list) else next(iter(output.values()))


class Meter:
    """Counts the cost of one trial: `watch` the modules, wrap work in `phase`, read `ledger`.

    Args:
        device: the device whose peak memory is read, and with which clocks are synchronised.
        workers: the workers that share the rows of a batch; this process alone by default.
    """

    def __init__(self, device: torch.device | str = "cpu", workers: Workers | None = None):
        self.device = torch.device(device)
        self.workers = workers or Workers()
        self.ledger = Ledger()
        self._phase: str | None = None
        self._paused = False
        self._whole: int | None = None
        self._flops: dict[tuple, int] = {}
        self.reset_peak_memory()

    # -- time -----------------------------------------------------------------------------------------------

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Bills the seconds of the block to `name`: train, reward, eval or log.

        The seconds of a phase inside another are billed to the inner one only.
        """
        outer, begun = self._phase, self._now()
        inner_before = self.ledger.wall_seconds
        self._phase = name
        try:
            yield
        finally:
            inside = self.ledger.wall_seconds - inner_before
            column = f"{name}_seconds"
            spent = self._now() - begun - inside
            setattr(self.ledger, column, getattr(self.ledger, column) + spent)
            self._phase = outer

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    @property
    def evaluating(self) -> bool:
        """Whether the present phase is evaluation, whose cost has columns of its own in the ledger."""
        return self._phase == "eval"

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Counts nothing inside the block."""
        before, self._paused = self._paused, True
        try:
            yield
        finally:
            self._paused = before

    @contextmanager
    def whole_batch(self, rows: int) -> Iterator[None]:
        """Bills modules called inside the block for `rows` rows, even if this worker computes only a share of them."""
        before, self._whole = self._whole, rows
        try:
            yield
        finally:
            self._whole = before

    # -- modules --------------------------------------------------------------------------------------------

    def watch(self, module: nn.Module, kind: str) -> None:
        """Counts the calls of `module`: `kind` is denoiser, decoder or encoder."""

        def before(called: nn.Module, args: tuple, kwargs: dict) -> None:
            if not self._paused:
                self._count_forward(called, kind, args, kwargs)

        def after(called: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
            tensor = _first_tensor(output)
            if self._paused or _in_backward() or not tensor.requires_grad:
                return
            rows = self._whole or _rows(args, kwargs)
            flops = self._flops_per_row(called, kind, args, kwargs, backward=True)
            tensor.register_hook(lambda grad: self._count_backward(kind, rows, flops))

        module.register_forward_pre_hook(before, with_kwargs=True)
        module.register_forward_hook(after, with_kwargs=True)

    def _count_forward(self, module: nn.Module, kind: str, args: tuple, kwargs: dict) -> None:
        rows, book = self._whole or _rows(args, kwargs), self.ledger
        if self.evaluating:
            book.eval_nfe += rows if kind == "denoiser" else 0
            return
        recomputed = _in_backward()
        flops = rows * self._flops_per_row(module, kind, args, kwargs, backward=False)
        book.flops += flops
        book.flops_recompute += flops if recomputed else 0
        if kind == "denoiser":
            if recomputed:
                book.nfe_recompute += rows
            else:
                book.nfe_forward += rows
        elif kind == "decoder" and not recomputed:
            book.decodes += rows

    def count_recomputed_block(self, name: str, block: nn.Module, args: tuple, rows: int, first: bool) -> None:
        """Bills a block of the denoiser that block-wise gradient checkpointing recomputes.

        Args:
            name: the block's module name in the denoiser.
            block: the block, which is called with `args`.
            args: arguments whose first dimension is the batch, or this worker's share of it.
            rows: denoiser rows of the call.
            first: whether this is the first block of the call. The rows of the call are billed as recomputed once,
                with its first block; the FLOPs are billed for each block. The layers outside of all blocks are not
                recomputed.
        """
        if self._paused:
            return
        flops = rows * self._flops_per_row(block, f"block {name}", args, {}, backward=False)
        self.ledger.flops += flops
        self.ledger.flops_recompute += flops
        self.ledger.nfe_recompute += rows if first else 0

    def _count_backward(self, kind: str, rows: int, flops_per_row: int) -> None:
        if kind == "denoiser":
            self.ledger.nfe_backward += rows
        self.ledger.flops += rows * flops_per_row

    def _flops_per_row(self, module: nn.Module, kind: str, args: tuple, kwargs: dict, backward: bool) -> int:
        rows = _rows(args, kwargs)
        one_args = tuple(_one_row(value, rows) for value in args)
        one_kwargs = {name: _one_row(value, rows) for name, value in kwargs.items()}
        tensors = [value for value in (*one_args, *one_kwargs.values()) if isinstance(value, Tensor)]
        key = (kind, backward, tuple((tuple(t.shape), t.requires_grad) for t in tensors))
        if key not in self._flops:

            def run() -> Tensor:
                return _first_tensor(module(*one_args, **one_kwargs))

            with self.paused():
                if backward:
                    wanted = [*tensors, *module.parameters()]
                    self._flops[key] = backward_flops(run, wanted)
                else:
                    self._flops[key] = forward_flops(run)
        return self._flops[key]

    def count_images(self, rows: int) -> None:
        """Bills `rows` images that training begins to sample; evaluation's images are not billed."""
        if not self.evaluating:
            self.ledger.images += rows

    # -- rewards --------------------------------------------------------------------------------------------

    def count_reward(self, images: Tensor, score: Callable[[Tensor], Tensor], key: str) -> Tensor:
        """Scores `images` `[B, 3, H, W]` with `score`, billing rows, gradients, seconds and FLOPs to the reward.

        Args:
            images: images in [0, 1].
            score: the reward of each image, `[B]`.
            key: names the reward, whose FLOPs are counted once for each key and image size.
        """
        rows, book = images.shape[0], self.ledger
        if self.evaluating:
            book.eval_queries += rows
            return score(images)
        # FLOPs are counted during the first real call, without an extra one: a user's reward may be slow, or count
        # its calls.
        forward_key = ("reward", key, tuple(images.shape[1:]))
        with self.phase("reward"):
            if forward_key in self._flops:
                values = score(images)
            else:
                total, values = count_flops(lambda: score(images))
                self._flops[forward_key] = total // self.workers.rows(rows)
        book.reward_queries += rows
        book.flops += rows * self._flops[forward_key]
        if values.requires_grad:
            backward = self._reward_backward_flops(images, score, key)

            def count(grad: Tensor) -> None:
                book.reward_gradients += rows
                book.flops += rows * backward

            values.register_hook(count)
        return values

    def _reward_backward_flops(self, images: Tensor, score: Callable[[Tensor], Tensor], key: str) -> int:
        cache = ("reward backward", key, tuple(images.shape[1:]))
        if cache not in self._flops:
            probe = images.detach().requires_grad_()
            total = backward_flops(lambda: score(probe), [probe])
            self._flops[cache] = total // self.workers.rows(images.shape[0])
        return self._flops[cache]

    # -- memory ---------------------------------------------------------------------------------------------

    def reset_peak_memory(self) -> None:
        """Resets the peak where the system allows it (CUDA; Linux through /proc)."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            return
        with suppress(OSError):  # not Linux, or not permitted: the peak is then that of the whole process
            Path("/proc/self/clear_refs").write_text("5")

    def read_peak_memory(self) -> int:
        """Updates the ledger's peak memory and returns it.

        The peak is in bytes: those allocated on the GPU, or the resident set of the process on the CPU.
        """
        on_gpu = self.device.type == "cuda"
        peak = torch.cuda.max_memory_allocated(self.device) if on_gpu else _peak_resident_bytes()
        self.ledger.peak_memory_bytes = max(self.ledger.peak_memory_bytes, peak)
        return self.ledger.peak_memory_bytes

    # -- state ----------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, int | float]:
        return asdict(self.ledger)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.ledger = Ledger(**{field.name: state[field.name] for field in fields(Ledger)})


def return_freed_memory() -> None:
    """Returns freed memory to the system, so that an earlier trial of this process is not counted in the next peak.

    The call takes half a second. The C library always keeps some of the memory, so only a fresh process measures one
    trial alone.
    """
    gc.collect()
    with suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL(None).malloc_trim(0)


def _rows(args: tuple, kwargs: dict) -> int:
    value = args[0] if args else next(value for value in kwargs.values() if isinstance(value, Tensor))
    return int(value.shape[0])


def _one_row(value: Any, rows: int) -> Any:
    if isinstance(value, Tensor):
        row = value[:1] if value.dim() and value.shape[0] == rows else value
        return row.detach().requires_grad_(value.requires_grad)
    return value


def _peak_resident_bytes() -> int:
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
