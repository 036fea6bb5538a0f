"""The worker processes of one trial: how they start, and how the cause of a worker's failure reaches the parent."""

import logging
import os
import shutil
import signal
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

from bench.build.trial_spec import Trial
from bench.errors import BenchError, Diverged, WorkerError, cause_of
from bench.run.trial import run_trial
from bench.store.files import read_json, write_json
from bench.store.trial_folder import TrialFolder
from models.workers import Workers

Launch = Callable[[Trial, TrialFolder], None]
"""Function that runs a trial's workers to their end, and raises the error of the worker that failed first."""

PATIENCE = timedelta(minutes=30)
"""How long a worker waits for the others, one of which may be writing a large checkpoint."""


def grouped(trial: Trial) -> bool:
    """Whether the trial's loop runs in a process group; the loop of any other trial runs in the calling process."""
    return trial.workers > 1 or trial.zero > 0


def member(trial: Trial, path: str, owner: str | None = None) -> None:
    """Runs the trial's loop in one worker of the process group; a failure is written to a file and raised.

    Args:
        path: the trial's folder.
        owner: the token of the process that holds the folder's lock, which may die before its workers.
    """
    import torch

    torch.set_num_threads(trial.threads)
    workers = Workers()
    if workers.size != trial.workers:  # otherwise each worker would silently train on all of the data
        raise BenchError(f"{trial.workers} workers were asked for and the process group has {workers.size}")
    _silence_deepspeed()
    try:
        run_trial(trial, TrialFolder(Path(path), owner), workers)
    except Exception as error:
        failure = {"diverged": isinstance(error, Diverged), "cause": cause_of(error), "time": time.time()}
        write_json(_failures(Path(path)) / f"rank-{workers.rank}.json", failure)
        raise


def _silence_deepspeed() -> None:
    """Hides DeepSpeed's greeting and the warnings about the deprecated names by which it calls torch."""
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")


def launched(launch: Callable[[], Any], folder: TrialFolder) -> None:
    """Runs `launch`; if workers fail, raises the error of the first one instead of the launcher's.

    Raises:
        Diverged: a worker's numbers were not finite.
        WorkerError: a worker failed for another reason.
    """
    failures = _failures(folder.path)
    shutil.rmtree(failures, ignore_errors=True)
    failures.mkdir(parents=True)
    try:
        launch()
    except Exception as error:
        read = [read_json(path) for path in sorted(failures.glob("rank-*.json"))]
        first = min((each for each in read if isinstance(each, dict)), key=lambda each: each["time"], default=None)
        if first is None:
            raise WorkerError(f"a worker died: {cause_of(error)}") from error
        if first["diverged"]:
            raise Diverged(first["cause"]) from error
        raise WorkerError(first["cause"]) from error
    finally:
        shutil.rmtree(failures, ignore_errors=True)


def spawn(trial: Trial, folder: TrialFolder) -> None:
    """A `Launch` that starts one process for each worker on this machine."""
    from torch import multiprocessing

    rendezvous = folder.path / ".rendezvous"
    rendezvous.unlink(missing_ok=True)

    def run() -> None:
        with _ctrl_c_blocked():
            context = multiprocessing.start_processes(
                _spawned,
                args=(trial.model_dump(mode="json"), str(folder.path), folder.owner, str(rendezvous)),
                nprocs=trial.workers,
                start_method="spawn",
                join=False,
            )
        try:
            while not context.join():
                pass
        finally:
            for process in context.processes:  # after a stop they would continue to train
                process.kill()
                process.join()

    try:
        launched(run, folder)
    finally:
        rendezvous.unlink(missing_ok=True)


@contextmanager
def _ctrl_c_blocked() -> Iterator[None]:
    """Blocks SIGINT inside the block; processes that are started there inherit this until they unblock it."""
    resource_tracker.ensure_running()  # its start would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _spawned(rank: int, spec: dict[str, Any], path: str, owner: str | None, rendezvous: str) -> None:
    # A terminal sends SIGINT to all processes, and torch does when the parent is gone. A worker dies of it at once: a
    # KeyboardInterrupt could be swallowed, or end the process as if its work were done.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    import torch

    trial = Trial.model_validate(spec)
    on_gpu = trial.gpus > 0 and torch.cuda.is_available()
    if on_gpu:
        torch.cuda.set_device(rank)
    with joined(rank, trial.workers, rendezvous, "nccl" if on_gpu else "gloo"):
        member(trial, path, owner)


@contextmanager
def joined(rank: int, size: int, rendezvous: str, backend: str) -> Iterator[None]:
    """Joins a process group on this machine inside the block; `rendezvous` is a file that does not exist yet."""
    from torch import distributed as dist

    describe(rank, rank, size)
    dist.init_process_group(backend, init_method=f"file://{rendezvous}", rank=rank, world_size=size, timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def describe(rank: int, local_rank: int, size: int) -> None:
    """Sets the environment variables from which DeepSpeed learns a worker's rank."""
    import torch

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(local_rank), "WORLD_SIZE": str(size)}
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def _failures(path: Path) -> Path:
    """The folder in which workers write their failures."""
    return path / "workers"
