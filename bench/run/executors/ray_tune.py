"""The executor that runs trials as Ray Tune trials, on a local Ray that it starts and stops, or on a running cluster.

Tune places the trials and limits how many run at once. `bench.run.worker` records status, retries and results, so
Tune's logging and storage are off or hidden. Every trial has a process of its own, because a process that is used again
would count the memory of its earlier trial in the next one's peak.
"""

import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

from bench.build.trial_spec import Trial
from bench.errors import BenchError, LockedError, cause_of, disk_full
from bench.plan.preflight import refuse_more_gpus, usable_gpus
from bench.run.executors.ray_daemons import OneLineStream, watched_daemons
from bench.run.executors.ray_preflight import OBJECT_STORE_BYTES, check_cluster, check_room
from bench.run.executors.ray_train import launch
from bench.run.group import grouped
from bench.run.trial import Observer
from bench.run.worker import run_and_record
from bench.stopping import settling
from bench.store.files import read_json, write_json
from bench.store.provenance import usable_cores
from bench.store.run_folder import RunFolder

SPECS = "specs"
"""The folder, in Ray's scratch folder, of the trials' specs, which actors read."""

ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # 15 by default, at which a trial on a busy machine would take longer under Ray than inline.
    "RAY_worker_niceness": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}

LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Variable that Ray reads when it is imported; 0 binds every port of a local Ray to loopback, as on macOS.

The address of `ray.init` does not: on Linux Ray replaces 127.0.0.1 by the machine's network address.
"""


def parallel(trials: Sequence[Trial], address: str | None = None) -> int:
    """How many trials of the first one's size fit on the cores and GPUs of this machine, or of the cluster.

    Raises:
        BenchError: not even one fits, or Ray has no room for its temporary files.
    """
    if not trials:
        return 1
    if not address:
        check_room()
    first = trials[0]
    where = f"the cluster at {address}" if address else "this machine"
    wanted_cores, wanted_gpus = first.threads * first.workers, first.gpus * first.workers
    cores, gpus = _of_cluster(first.threads, address) if address else (usable_cores(), usable_gpus(wanted_gpus))
    if wanted_cores > cores:
        each = f" ({first.workers} workers with {first.threads} each)" if first.workers > 1 else ""
        what = f"{wanted_cores} cores a trial{each} are asked for and {where} has {cores}"
        if first.workers > 1:
            raise BenchError(what, "resources.workers", f"--set resources.workers={max(1, cores // first.threads)}")
        raise BenchError(what, "resources.cpus", f"--set resources.cpus={cores}, or --executor inline")
    fit = cores // wanted_cores
    if wanted_gpus > 0:
        refuse_more_gpus(wanted_gpus, gpus, where)
        fit = min(fit, int(gpus / wanted_gpus))
    return max(1, fit)


def execute(trials: Sequence[Trial], run: RunFolder, command: str, address: str | None = None) -> None:
    """Runs the trials under Ray Tune (see `bench.run.executors.Executor`).

    The working directory must be the run's folder (see `bench.run.sweep`).
    """
    with session(trials, run, address) as scratch:
        fit(trials, run, command, parallel(trials, address), scratch)


@contextmanager
def session(trials: Sequence[Trial], run: RunFolder, address: str | None) -> Iterator[Path]:
    """Runs Ray inside the block and gives its scratch folder, which is removed at the end."""
    with redirect_stdout(OneLineStream(sys.stderr)):
        start_ray(trials[0].threads, address)
        try:
            with _scratch(run, address) as scratch, watched_daemons():
                yield scratch
        finally:
            stop_ray()


@contextmanager
def _scratch(run: RunFolder, address: str | None) -> Iterator[Path]:
    """A folder for Ray's own files: a temporary one, as the run's disk may be full; for a cluster, one in the run."""
    folder = run.scratch if address else Path(tempfile.mkdtemp(prefix="bench-ray-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def start_ray(threads: int, address: str | None = None) -> bool:
    """Starts a local Ray, or joins the cluster at `address`; its workers compute with `threads` threads.

    Returns:
        False if this process has joined a Ray already.

    Raises:
        BenchError: Ray does not start, or the cluster cannot be joined.
    """
    if not address:
        check_room()
    os.environ.update(ENVIRONMENT)
    # The workers' arithmetic libraries read it when they are imported, before a trial can set its threads.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if not address:
        os.environ[LOOPBACK] = "0"
    import ray

    if ray.is_initialized():
        return False
    terminate = signal.getsignal(signal.SIGTERM)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    try:
        if address:
            check_cluster(address)
            environment = {**ENVIRONMENT, "OMP_NUM_THREADS": str(threads)}
            ray.init(address=address, runtime_env={"env_vars": environment}, **quiet)
        else:
            ray.init(
                address="local",
                num_cpus=usable_cores(),
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                **quiet,
            )
    except SystemExit as error:  # from Ray's signal handler, which is set while Ray starts
        raise KeyboardInterrupt from error
    except BenchError:
        raise
    except Exception as error:
        if address:
            raise BenchError(f"no Ray cluster there ({cause_of(error)})", f"--address {address}") from error
        if "AF_UNIX" in str(error):  # the path of a socket, among the temporary files, is too long
            do = "set RAY_TMPDIR to a folder with a short name such as /tmp"
            raise BenchError(f"Ray did not start ({cause_of(error)})", "TMPDIR", do) from error
        raise BenchError(f"Ray did not start ({cause_of(error)})", None, "use --executor inline") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminate)  # Ray's handler exits with 0
    return True


def _of_cluster(threads: int, address: str) -> tuple[int, float]:
    """Cores and GPUs of the cluster at `address`, which is left again, as trials join it from the run's folder."""
    joined_here = start_ray(threads, address)
    import ray

    resources = ray.cluster_resources()
    if joined_here:
        stop_ray()
    return int(resources.get("CPU", 0)), float(resources.get("GPU", 0))


def stop_ray() -> None:
    """Stops Ray and its workers."""
    import ray

    with settling():  # a worker that survives would continue to write its trial
        ray.shutdown()


def fit(
    trials: Sequence[Trial],
    run: RunFolder,
    command: str,
    at_once: int,
    scratch: Path,
    body: Callable[..., None] | None = None,
    scheduler: Any = None,
    callbacks: Sequence[Any] = (),
) -> Any:
    """Lets Tune run the trials, `at_once` of them at a time.

    Args:
        trials: trials of one size.
        scratch: the folder for Ray's own files.
        body: `body(config, run_path, scratch, command, call)` runs the trial whose key is `config["trial"]`; `_body` by
            default.
        scheduler: Tune's scheduler, which may stop trials; first come, first served by default.
        callbacks: Tune's callbacks, which are called in this process.

    Returns:
        Tune's `ResultGrid`.
    """
    from ray import tune

    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    first = trials[0]
    # Each actor reads one spec from a file: those of ten thousand trials would take 60 MB in every actor.
    specs = scratch / SPECS
    specs.mkdir(parents=True, exist_ok=True)
    for trial in trials:
        write_json(specs / f"{trial.key}.json", trial.model_dump(mode="json"), durable=False)
    actor = tune.with_parameters(
        body or _body,
        run_path=str(run.path),
        scratch=str(scratch),
        command=command,
        call=uuid.uuid4().hex,
    )
    # Ray Train places the workers of a group; the actor that waits for them needs next to nothing.
    resources: dict[str, float] = {"memory": 1} if grouped(first) else {"cpu": first.threads, "gpu": first.gpus}
    tuner = tune.Tuner(
        tune.with_resources(actor, resources),
        param_space={"trial": tune.grid_search([trial.key for trial in trials])},
        tune_config=tune.TuneConfig(
            max_concurrent_trials=at_once,
            reuse_actors=False,
            scheduler=scheduler,
        ),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(scratch),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=first.retries),  # retries a process that died
            callbacks=[_silence(), *callbacks],
        ),
    )
    try:
        return tuner.fit()
    except tune.TuneError as error:  # its text is a traceback, whose last line is the message
        raise tune.TuneError(str(error).strip().rpartition("\n")[2]) from error


def _body(config: dict[str, Any], run_path: str, scratch: str, command: str, call: str) -> None:
    """Runs one trial in its actor."""
    run_in_actor(spec_of(scratch, config["trial"]), RunFolder(Path(run_path)), command, scratch, call)


def run_in_actor(
    trial: Trial,
    run: RunFolder,
    command: str,
    scratch: str,
    call: str | None = None,
    observe: Observer | None = None,
) -> None:
    """Runs a trial in its actor (see `bench.run.worker.run_and_record`).

    A failure is recorded in the store and hidden from Tune, which only retries a process that died.
    """

    try:
        run_and_record(trial, run.trial(trial.key), command, partial(launch, scratch=Path(scratch)), call, observe)
    except LockedError:
        return  # the other process records the trial, and `bench.run.settle` warns about it
    except OSError as error:
        if not disk_full(error):  # on a full disk nothing can be recorded, and a retry would not help
            raise


def spec_of(scratch: str, key: str) -> Trial:
    """The trial that `fit` has written for the actor."""
    return Trial.model_validate(read_json(Path(scratch) / SPECS / f"{key}.json"))


def _silence() -> Any:
    """A callback that replaces Tune's own, which prints a line for each trial at any verbosity."""
    from ray.tune.progress_reporter import TrialProgressCallback

    class Silence(TrialProgressCallback):
        def _print(self, msg: str) -> None:
            return

        def log_result(self, trial: Any, result: dict, error: bool = False) -> None:
            return

    return Silence()
