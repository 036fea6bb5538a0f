"""A group of worker processes that is started once and runs several things, as starting one takes ten seconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import multiprocessing

from bench.build.trial_spec import Trial
from bench.run.group import joined

SIZE = 2


def together(task: Callable[..., None], folder: Path, *args: Any, on_gpu: bool = False) -> None:
    """Calls `task(folder, *args)` in two processes of one group; an exception in either fails the test.

    Args:
        on_gpu: over NCCL, each with a GPU of its own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    multiprocessing.start_processes(_enter, args=(task, folder, args, on_gpu), nprocs=SIZE, start_method="spawn")


def _enter(rank: int, task: Callable[..., None], folder: Path, args: tuple[Any, ...], on_gpu: bool) -> None:
    torch.set_num_threads(1)
    if on_gpu:
        torch.cuda.set_device(rank)
    with joined(rank, SIZE, f"{folder}/rendezvous", "nccl" if on_gpu else "gloo"):
        task(folder, *args)


def run_all(folder: Path, trials: dict[str, Trial]) -> None:
    """Every trial, each in the folder of its name."""
    from bench.run.group import member

    for name, trial in trials.items():
        member(trial, str(folder / name))
