"""Trials as Ray Tune trials on a local Ray that is started and stopped for the user, or on a cluster that runs.

Tune places the trials and limits how many run at once; status, retries and results are ours (`bench.run.worker`), so
Tune's own logging and storage are off or hidden. Every trial has a process of its own: one that had served another
would count that trial's memory into its own peak.
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
from bench.run.executors.ray_daemons import Terse, alive
from bench.run.executors.ray_preflight import OBJECT_STORE_BYTES, check_room, knock
from bench.run.executors.ray_train import launch
from bench.run.group import grouped
from bench.run.trial import Observer
from bench.run.worker import run_and_record
from bench.stopping import settling
from bench.store.files import read_json, write_json
from bench.store.provenance import usable_cores
from bench.store.run_folder import RunFolder

SPECS = "specs"
"""Folder of what actors are told, where Ray writes."""

ENVIRONMENT = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_DISABLE_IMPORT_WARNING": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # 15 by default: beside anything else on the machine a trial would take longer under Ray than inline.
    "RAY_worker_niceness": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}

LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""0 has Ray bind every port of a local Ray to loopback, as it does on macOS; read when it is imported. The address that
`ray.init` takes does not: on Linux it reads 127.0.0.1 as this machine's address in the network, and listens to all.
"""


def parallel(trials: Sequence[Trial], address: str | None = None) -> int:
    """As many of the first one's size as fit on the cores and the GPUs of this machine, or of the cluster."""
    if not trials:
        return 1
    if not address:
        check_room()
    first = trials[0]
    where = f"the cluster at {address}" if address else "this machine"
    wanted, asked = first.threads * first.workers, first.gpus * first.workers
    cores, gpus = _of_cluster(first.threads, address) if address else (usable_cores(), usable_gpus(asked))
    if wanted > cores:
        each = f" ({first.workers} workers with {first.threads} each)" if first.workers > 1 else ""
        what = f"{wanted} cores a trial{each} are asked for and {where} has {cores}"
        if first.workers > 1:
            raise BenchError(what, "resources.workers", f"--set resources.workers={max(1, cores // first.threads)}")
        raise BenchError(what, "resources.cpus", f"--set resources.cpus={cores}, or --executor inline")
    fit = cores // wanted
    if asked > 0:
        refuse_more_gpus(asked, gpus, where)
        fit = min(fit, int(gpus / asked))
    return max(1, fit)


def execute(trials: Sequence[Trial], run: RunFolder, command: str, address: str | None = None) -> None:
    """See `bench.run.executors.Executor`. The working directory must be the run's folder (see `commands/run.py`)."""
    with session(trials, run, address) as scratch:
        fit(trials, run, command, parallel(trials, address), scratch)


@contextmanager
def session(trials: Sequence[Trial], run: RunFolder, address: str | None) -> Iterator[Path]:
    """Ray inside the block, for these trials, and where it writes; it is left without a trace."""
    with redirect_stdout(Terse(sys.stderr)):
        start_ray(trials[0].threads, address)
        try:
            with _scratch(run, address) as scratch, alive():
                yield scratch
        finally:
            stop_ray()


@contextmanager
def _scratch(run: RunFolder, address: str | None) -> Iterator[Path]:
    """Where Ray writes what nobody reads: elsewhere than the run, whose disk may be full, unless machines share it."""
    folder = run.scratch if address else Path(tempfile.mkdtemp(prefix="bench-ray-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def start_ray(threads: int, address: str | None = None) -> bool:
    """Starts a local, quiet Ray, or joins a cluster; workers compute with `threads` threads.

    Returns:
        False where this process had one already.

    Raises:
        BenchError: it does not start, or cannot be joined.
    """
    if not address:
        check_room()
    os.environ.update(ENVIRONMENT)
    # Read by the workers' arithmetic libraries when they are imported, before any trial can say so.
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
            knock(address)
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
    except SystemExit as error:  # of Ray's own handler, which it has while it starts
        raise KeyboardInterrupt from error
    except BenchError:
        raise
    except Exception as error:
        if address:
            raise BenchError(f"no Ray cluster there ({cause_of(error)})", f"--address {address}") from error
        if "AF_UNIX" in str(error):  # its sockets lie among its temporary files
            do = "set RAY_TMPDIR to a folder with a short name such as /tmp"
            raise BenchError(f"Ray did not start ({cause_of(error)})", "TMPDIR", do) from error
        raise BenchError(f"Ray did not start ({cause_of(error)})", None, "use --executor inline") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, terminate)  # Ray put its own there, which exits as if all had ended
    return True


def _of_cluster(threads: int, address: str) -> tuple[int, float]:
    """Cores and GPUs of the cluster at `address`. One joined only to ask is left: trials run from the run's folder."""
    joined_to_ask = start_ray(threads, address)
    import ray

    resources = ray.cluster_resources()
    if joined_to_ask:
        stop_ray()
    return int(resources.get("CPU", 0)), float(resources.get("GPU", 0))


def stop_ray() -> None:
    """Stops it and its workers."""
    import ray

    with settling():  # a worker that outlives it still writes its trial
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
    """Has Tune run the trials, `at_once` of them at a time.

    Args:
        trials: of one size each; `config["trial"]` is the key of one.
        scratch: where Ray writes what nobody reads.
        body: `body(config, run_path, scratch, command, call)` does one; what `bench.run.worker` does by default.
        scheduler: Tune's, which may stop trials; first come, first served by default.
        callbacks: Tune's, called in this process.

    Returns:
        Tune's `ResultGrid`.
    """
    from ray import tune

    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    first = trials[0]
    # Each actor reads its own: the specs of ten thousand trials would take 60 MB of every trial's memory.
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
    # The workers of a trial that has many are placed by Ray Train; what waits for them needs next to nothing.
    needs: dict[str, float] = {"memory": 1} if grouped(first) else {"cpu": first.threads, "gpu": first.gpus}
    tuner = tune.Tuner(
        tune.with_resources(actor, needs),
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
            failure_config=tune.FailureConfig(max_failures=first.retries),  # of a process that died
            callbacks=[_silence(), *callbacks],
        ),
    )
    try:
        return tuner.fit()
    except tune.TuneError as error:  # its text is a traceback, whose last line says what happened
        raise tune.TuneError(str(error).strip().rpartition("\n")[2]) from error


def _body(config: dict[str, Any], run_path: str, scratch: str, command: str, call: str) -> None:
    """What an actor does for one trial."""
    run_in_actor(spec_of(scratch, config["trial"]), RunFolder(Path(run_path)), command, scratch, call)


def run_in_actor(
    trial: Trial,
    run: RunFolder,
    command: str,
    scratch: str,
    call: str | None = None,
    observe: Observer | None = None,
) -> None:
    """A trial in its actor (see `bench.run.worker.run_and_record`).

    A failure is in the store already; Tune need not know, unless of a death.
    """

    try:
        run_and_record(trial, run.trial(trial.key), command, partial(launch, scratch=Path(scratch)), call, observe)
    except LockedError:
        return  # the other process records it, and `bench.run.settle` tells of it
    except OSError as error:
        if not disk_full(error):  # on a full disk nothing more can be recorded here, and another try would not help
            raise


def spec_of(scratch: str, key: str) -> Trial:
    """A trial as `fit` has left it for its actor."""
    return Trial.model_validate(read_json(Path(scratch) / SPECS / f"{key}.json"))


def _silence() -> Any:
    """Tune prints a line a trial whatever its verbosity, unless it is given a callback of that kind."""
    from ray.tune.progress_reporter import TrialProgressCallback

    class Silence(TrialProgressCallback):
        def _print(self, msg: str) -> None:
            return

        def log_result(self, trial: Any, result: dict, error: bool = False) -> None:
            return

    return Silence()
