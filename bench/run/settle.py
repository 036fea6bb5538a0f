"""Gives every trial a final status after a run or Ctrl-C, so that none stays `running` when no process runs it."""

import logging
import shutil
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.build.trial_spec import Trial
from bench.errors import BenchError, LockedError, cause_of, one_line
from bench.stopping import settling
from bench.store.run_folder import RunFolder
from bench.store.status import Status
from bench.store.trial_folder import TrialFolder

logger = logging.getLogger(__name__)

STOPPED = "stopped by the user; run the sweep again to continue"

LOCK_WAIT_SECONDS = 5.0

LITTLE_BYTES = 2**20
"""Free space below which a full disk is named as the cause of a process's death."""


def lost(path: Path, attempts: int) -> str:
    """The cause of failure of a trial whose process died without recording one; `path` is the trial's folder."""
    full = shutil.disk_usage(path).free < LITTLE_BYTES
    why = "and the disk is full: free some space" if full else "often for lack of memory"
    return f"its process died without an error message{times(attempts)}, {why}; run the sweep again to continue"


def times(attempts: int) -> str:
    """` (tried 3 times)`; empty after a single attempt."""
    return f" (tried {attempts} times)" if attempts > 1 else ""


@contextmanager
def settled(trials: Sequence[Trial], run: RunFolder) -> Iterator[None]:
    """Gives each trial that the block runs a final status, unless it has one or another process is writing it.

    If the block ends normally, a trial that has not ended, or not begun, has failed. If the user or an error ends the
    block, a running trial is interrupted.
    """
    try:
        yield
    except KeyboardInterrupt:
        with settling():
            _settle(trials, run, STOPPED)
        raise
    except BaseException as error:
        _settle(trials, run, _cut_short(error))
        raise
    _settle(trials, run)


def _settle(trials: Sequence[Trial], run: RunFolder, interrupted: str | None = None) -> None:
    unsettled = {Status.RUNNING} if interrupted else {Status.RUNNING, Status.PLANNED}
    for trial in trials:
        folder = run.trial(trial.key)
        if folder.recorded_status() not in unsettled:
            continue
        try:
            with folder.lock(LOCK_WAIT_SECONDS):
                _give_status(folder, unsettled, interrupted)
        except LockedError as error:
            logger.warning("%s", "; ".join(error.lines()))


def _give_status(folder: TrialFolder, unsettled: Collection[Status], interrupted: str | None) -> None:
    if folder.recorded_status() not in unsettled:  # the trial has ended while this process waited for the lock
        return
    if interrupted:
        folder.write_status(Status.INTERRUPTED, interrupted)
    else:
        folder.write_status(Status.FAILED, lost(folder.path, folder.read().attempts))


def _cut_short(error: BaseException) -> str:
    why = one_line(error.what) if isinstance(error, BenchError) else cause_of(error)
    return f"cut short: {why}; run the sweep again to continue"
