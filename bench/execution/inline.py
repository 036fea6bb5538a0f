"""One trial after another in this process: for debugging, for CI, and where Ray cannot start."""

from collections.abc import Sequence
from contextlib import suppress

from bench.errors import LockedError
from bench.preflight import usable_gpus
from bench.stopping import check
from bench.store import RunFolder
from bench.trial_spec import Trial
from bench.worker import run_and_record


def execute(trials: Sequence[Trial], run: RunFolder, command: str, address: str | None = None) -> None:
    """See `bench.execution.Executor`."""
    for trial in trials:
        check()
        with suppress(LockedError):  # `bench.settle` tells of it
            run_and_record(trial, run.trial(trial.key), command)


def parallel(trials: Sequence[Trial], address: str | None = None) -> int:
    """One at a time."""
    if trials:
        usable_gpus(trials[0].gpus)
    return 1
