"""After the trials, or after Ctrl-C: no status may say `running` when nothing runs."""

from collections.abc import Sequence

from bench.errors import LockedError
from bench.store import RunFolder
from bench.trial_spec import Trial

STOPPED = "stopped by the user; run the sweep again to continue"
LOST = "its process died without a word, often for lack of memory; run the sweep again to continue"


def settle(trials: Sequence[Trial], run: RunFolder, stopped: bool) -> None:
    """Gives every trial that was begun and is not being written by anyone a final status.

    Args:
        trials: those that were to run.
        run: where they are recorded.
        stopped: whether the user stopped the run; otherwise a trial without an end has failed.
    """
    for trial in trials:
        folder = run.trial(trial.key)
        if folder.recorded_status() != "running":
            continue
        try:
            with folder.lock(wait=5.0):
                if folder.recorded_status() == "running":
                    folder.write_status("interrupted" if stopped else "failed", STOPPED if stopped else LOST)
        except LockedError:
            continue  # another run is at it
