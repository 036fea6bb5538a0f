"""The worker processes of one trial: what each of them does, and how one that fails tells why."""

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
from bench.store.files import read_json, write_json
from bench.store.trial_folder import TrialFolder

Launch = Callable[[Trial, TrialFolder], None]
"""Runs a trial's workers to their end; raises what the first of them to fail died of."""

PATIENCE = timedelta(minutes=30)
"""How long a worker waits for the others: one of them may be writing a large checkpoint."""


def grouped(trial: Trial) -> bool:
    """Whether the trial's loop runs in a process group; a plain trial runs where it stands."""
    return trial.workers > 1 or trial.zero > 0


def member(trial: Trial, path: str, owner: str | None = None) -> None:
    """What each worker does, inside the process group: the trial's loop. Leaves word of its failure, and raises it.

    Args:
        path: the trial's folder.
        owner: the token of the process that holds its lock; that one may die before its workers do.
    """
    import torch

    from bench.run.trial import run_trial
    from models.workers import Workers

    torch.set_num_threads(trial.threads)
    workers = Workers()
    if workers.size != trial.workers:  # each would train on all of the data, and nothing would say so
        raise BenchError(f"{trial.workers} workers were asked for and the process group has {workers.size}")
    _quieten()
    try:
        run_trial(trial, TrialFolder(Path(path), owner), workers)
    except Exception as error:
        word = {"diverged": isinstance(error, Diverged), "cause": cause_of(error), "time": time.time()}
        write_json(_words(Path(path)) / f"rank-{workers.rank}.json", word)
        raise


def _quieten() -> None:
    """DeepSpeed greets, and calls torch by names that are about to change."""
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"torch\.distributed")


def launched(launch: Callable[[], Any], folder: TrialFolder) -> None:
    """Runs `launch`, and raises what the first worker to fail said rather than how its launcher tells of it.

    Raises:
        Diverged: a worker's numbers were not finite.
        WorkerError: anything else that a worker died of.
    """
    words = _words(folder.path)
    shutil.rmtree(words, ignore_errors=True)
    words.mkdir(parents=True)
    try:
        launch()
    except Exception as error:
        said = [read_json(path) for path in sorted(words.glob("rank-*.json"))]
        told = sorted((word for word in said if isinstance(word, dict)), key=lambda word: word["time"])
        if not told:
            raise WorkerError(f"a worker died: {cause_of(error)}") from error
        if told[0]["diverged"]:
            raise Diverged(told[0]["cause"]) from error
        raise WorkerError(told[0]["cause"]) from error
    finally:
        shutil.rmtree(words, ignore_errors=True)


def spawn(trial: Trial, folder: TrialFolder) -> None:
    """A `Launch` on this machine: a process for each worker."""
    from torch import multiprocessing

    rendezvous = folder.path / ".rendezvous"
    rendezvous.unlink(missing_ok=True)

    def run() -> None:
        with _deaf_to_ctrl_c():
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
            for process in context.processes:  # of a run that was stopped they would train on
                process.kill()
                process.join()

    try:
        launched(run, folder)
    finally:
        rendezvous.unlink(missing_ok=True)


@contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    """Processes that are started inside the block do not hear Ctrl-C until they say so; this one hears it after."""
    resource_tracker.ensure_running()  # its start would end the block's effect
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _spawned(rank: int, spec: dict[str, Any], path: str, owner: str | None, rendezvous: str) -> None:
    # Ctrl-C reaches all processes of a terminal, and torch sends it when the parent is gone. This one dies of it at
    # once: as an exception it could be lost, or end the process as if its work were done.
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
    """A process group of this machine's processes, which meet in a file that is not there yet."""
    from torch import distributed as dist

    describe(rank, rank, size)
    dist.init_process_group(backend, init_method=f"file://{rendezvous}", rank=rank, world_size=size, timeout=PATIENCE)
    try:
        yield
    finally:
        dist.destroy_process_group()


def describe(rank: int, local_rank: int, size: int) -> None:
    """The environment that DeepSpeed reads where no launcher of its own has written it."""
    import torch

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(local_rank), "WORLD_SIZE": str(size)}
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")


def _words(path: Path) -> Path:
    return path / "workers"


class Witness:
    """The folder of a worker that is not the first: it writes nothing (see `TrialFolder`)."""

    adapter = Path()

    def load_checkpoint(self) -> None:
        """The first worker's is everyone's."""

    def cut(self, after_point: int) -> None:
        pass

    def read_curve(self) -> list[dict[str, Any]]:
        """What is observed is observed by the first worker."""
        return []

    def heartbeat(self, progress: float | None = None, latest: float | None = None) -> None:
        pass

    def append_point(self, *args: Any) -> None:
        pass

    def warn(self, about: str, point: int, text: str) -> None:
        pass

    def write_evaluation(self, rows: Any) -> None:
        pass

    def save_picture(self, *args: Any) -> None:
        pass

    def save_checkpoint(self, payload: dict[str, Any]) -> None:
        pass
