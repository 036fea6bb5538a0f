"""The executor that runs one trial after another in this process: for debugging, CI, and machines without Ray."""

from collections.abc import Sequence
from contextlib import suppress

from bench.build.trial_spec import Trial
from bench.errors import LockedError
from bench.plan.preflight import usable_gpus
from bench.run.worker import run_and_record
from bench.stopping import check
from bench.store.run_folder import RunFolder


def execute(trials: Sequence[Trial], run: RunFolder, command: str, address: str | None = None) -> None:
    """Runs the trials one after another (see `bench.run.executors.Executor`)."""
    for trial in trials:
        check()
        with suppress(LockedError):  # `bench.run.settle` warns about it
            run_and_record(trial, run.trial(trial.key), command)


def parallel(trials: Sequence[Trial], address: str | None = None) -> int:
    """Always 1. Raises `BenchError` if the trials ask for GPUs that this machine lacks."""
    if trials:
        usable_gpus(trials[0].gpus)
    return 1
