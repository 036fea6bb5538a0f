"""After the trials, or after Ctrl-C: no status may say `running` when nothing runs."""

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
"""Less free space than a trial's next point needs."""


def lost(path: Path, attempts: int) -> str:
    """The cause of a trial whose process ended without one, and left no more than the folder `path`."""
    full = shutil.disk_usage(path).free < LITTLE_BYTES
    why = "and the disk is full: free some space" if full else "often for lack of memory"
    return f"its process died without a word{times(attempts)}, {why}; run the sweep again to continue"


def times(attempts: int) -> str:
    """How often a trial was tried, where that is news."""
    return f" (tried {attempts} times)" if attempts > 1 else ""


@contextmanager
def settled(trials: Sequence[Trial], run: RunFolder) -> Iterator[None]:
    """Gives each of the trials, which the block runs, a final status if it has none and nobody is writing it.

    One without an end of its own has failed where the block came to its own end, also if it was not even begun. Where
    the block did not, by the user or by an error, it is the block that failed: such a trial is interrupted.
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
    if folder.recorded_status() not in unsettled:  # it has ended while the lock was waited for
        return
    if interrupted:
        folder.write_status(Status.INTERRUPTED, interrupted)
    else:
        folder.write_status(Status.FAILED, lost(folder.path, folder.read().attempts))


def _cut_short(error: BaseException) -> str:
    why = one_line(error.what) if isinstance(error, BenchError) else cause_of(error)
    return f"cut short: {why}; run the sweep again to continue"
