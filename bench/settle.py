"""After the trials, or after Ctrl-C: no status may say `running` when nothing runs."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from bench.errors import LockedError
from bench.store import RunFolder
from bench.trial_spec import Trial

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


def settle(trials: Sequence[Trial], run: RunFolder, stopped: bool, ended: bool = True) -> None:
    """Gives every trial that was begun and is not being written by anyone a final status.

    Args:
        trials: those that were to run.
        run: where they are recorded.
        stopped: whether the user stopped the run; otherwise a trial without an end has failed.
        ended: whether the executor came to its end; a trial that was not even begun has then failed too.
    """
    unsettled = {"running", "planned"} if ended and not stopped else {"running"}
    for trial in trials:
        folder = run.trial(trial.key)
        if folder.recorded_status() not in unsettled:
            continue
        try:
            with folder.lock(LOCK_WAIT_SECONDS):
                if folder.recorded_status() in unsettled:
                    cause = STOPPED if stopped else lost(folder.path, folder.read().get("attempts", 1))
                    folder.write_status("interrupted" if stopped else "failed", cause)
        except LockedError as error:
            logger.warning("%s", "; ".join(error.lines()))
