"""Trials as Ray Tune trials on a local Ray that is started and stopped for the user, or on a cluster that runs.

Tune places the trials and limits how many run at once; status, retries and results are ours (`bench.worker`), so
Tune's own logging and storage are off or hidden. Every trial has a process of its own: one that had served another
would count that trial's memory into its own peak.
"""

import logging
import os
import shutil
import socket
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.distributed.group import grouped
from bench.errors import BenchError, cause_of
from bench.files import read_json, write_json
from bench.preflight import refuse_more_gpus, usable_gpus
from bench.provenance import usable_cores
from bench.store import RunFolder
from bench.trial_spec import Trial

OBJECT_STORE_BYTES = 80 * 2**20
"""Near Ray's minimum: nothing large goes through it."""

KNOCK_SECONDS = 10.0

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


def parallel(trials: Sequence[Trial], address: str | None = None) -> int:
    """As many as fit on the cores and the GPUs of this machine, or of the cluster at `address`."""
    if not trials:
        return 1
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
    return max(1, min(fit, len(trials)))


def execute(trials: Sequence[Trial], run: RunFolder, command: str, address: str | None = None) -> None:
    """See `bench.execution.Executor`. The working directory must be the run's folder (see `commands/run.py`)."""
    start_ray(trials[0].threads, address)
    try:
        _fit(trials, run, command, parallel(trials, address))
    finally:
        stop_ray()
        shutil.rmtree(run.scratch, ignore_errors=True)


def start_ray(threads: int, address: str | None = None) -> bool:
    """Starts a local, quiet Ray, or joins a cluster; workers compute with `threads` threads.

    Returns:
        False where this process had one already.

    Raises:
        BenchError: it does not start, or cannot be joined.
    """
    os.environ.update(ENVIRONMENT)
    # Read by the workers' arithmetic libraries when they are imported, before any trial can say so.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import ray

    if ray.is_initialized():
        return False
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    try:
        if address:
            _knock(address)
            environment = {**ENVIRONMENT, "OMP_NUM_THREADS": str(threads)}
            ray.init(address=address, runtime_env={"env_vars": environment}, **quiet)
        else:
            ray.init(
                address="local",
                num_cpus=usable_cores(),
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                _node_ip_address="127.0.0.1",
                **quiet,
            )
    except Exception as error:
        if address:
            raise BenchError(f"no Ray cluster there ({cause_of(error)})", f"--address {address}") from error
        raise BenchError(f"Ray did not start ({cause_of(error)})", None, "use --executor inline") from error
    return True


def _knock(address: str) -> None:
    """Whether anything listens at HOST:PORT. Ray itself would ask for minutes.

    Raises:
        OSError: nothing does.
    """
    host, colon, port = address.rpartition(":")
    if colon and port.isdigit() and "/" not in host:
        socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()


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

    ray.shutdown()


def _fit(trials: Sequence[Trial], run: RunFolder, command: str, at_once: int) -> None:
    from ray import tune

    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    first = trials[0]
    # Each actor reads its own: the specs of ten thousand trials would take 60 MB of every trial's memory.
    specs = run.scratch / "specs"
    specs.mkdir(parents=True, exist_ok=True)
    for trial in trials:
        write_json(specs / f"{trial.key}.json", trial.model_dump(mode="json"), durable=False)
    body = tune.with_parameters(_body, run_path=str(run.path), command=command)
    # The workers of a trial that has many are placed by Ray Train; what waits for them needs next to nothing.
    needs: dict[str, float] = {"memory": 1} if grouped(first) else {"cpu": first.threads, "gpu": first.gpus}
    tuner = tune.Tuner(
        tune.with_resources(body, needs),
        param_space={"trial": tune.grid_search([trial.key for trial in trials])},
        tune_config=tune.TuneConfig(max_concurrent_trials=at_once, reuse_actors=False),
        run_config=tune.RunConfig(
            name="tune",
            storage_path=str(run.scratch),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=0),
            callbacks=[_silence()],
        ),
    )
    tuner.fit()


def _body(config: dict[str, Any], run_path: str, command: str) -> None:
    """What an actor does for one trial. A failure is in the store already; Tune need not know."""
    from bench.errors import LockedError
    from bench.execution.ray_train import launch
    from bench.worker import run_and_record

    run = RunFolder(Path(run_path))
    trial = Trial.model_validate(read_json(run.scratch / "specs" / f"{config['trial']}.json"))
    try:
        run_and_record(trial, run.trial(trial.key), command, partial(launch, scratch=run.scratch))
    except LockedError:
        return  # the other process records it


def _silence() -> Any:
    """Tune prints a line a trial whatever its verbosity, unless it is given a callback of that kind."""
    from ray.tune.progress_reporter import TrialProgressCallback

    class Silence(TrialProgressCallback):
        def _print(self, msg: str) -> None:
            return

        def log_result(self, trial: Any, result: dict, error: bool = False) -> None:
            return

    return Silence()
