"""Runs one trial and records how it went. Every executor calls this, in process or in an actor."""

import time
import traceback
from functools import partial
from typing import TYPE_CHECKING

from bench.background import repeating
from bench.distributed.group import Launch, grouped, spawn
from bench.errors import Diverged, FullDiskError, LockedError, cause_of
from bench.files import is_full, write_text
from bench.provenance import provenance
from bench.tracking.beside import tracked
from bench.trial_folder import Status, TrialFolder
from bench.trial_spec import Trial

if TYPE_CHECKING:
    from bench.trial import Observer

BEAT_SECONDS = 5.0
LOCK_WAIT_SECONDS = 20.0
"""A killed run's workers live on for a moment; a rerun waits that long for them to go."""

DIED = "its process died in every attempt, often for lack of memory"
FULL = "the disk is full; free some space and run the same command again"

SETTLED: frozenset[str] = frozenset({"done", "diverged", "pruned"})
"""Statuses that another run of the same trial would only repeat. What was skipped runs once its requirement is met."""


def run_and_record(
    trial: Trial,
    folder: TrialFolder,
    command: str = "",
    launch: Launch = spawn,
    observe: "Observer | None" = None,
    session: str = "",
) -> Status:
    """Runs `trial` to its end, or resumes it, and leaves its status and cause in `folder`.

    Args:
        trial: what to run.
        folder: where it is recorded.
        command: the command line, for the provenance.
        launch: starts the workers of a trial that has its own processes.
        observe: is told each new point, where the trial runs in this process.
        session: the same for every process that a scheduler starts for the trial; their attempts count together.

    Returns:
        The status that was recorded.

    Raises:
        LockedError: another process is writing the trial.
        KeyboardInterrupt: the user stopped it; it is recorded as interrupted.
        FullDiskError: not even the cause could be recorded.
    """
    import torch

    threads = torch.get_num_threads()
    with folder.lock(LOCK_WAIT_SECONDS):
        record = folder.read()
        status = record["status"]
        if status in SETTLED:  # another process finished it in the meantime
            return status
        before = int(record.get("attempts", 0)) if session and record.get("session") == session else 0
        torch.set_num_threads(trial.threads)
        try:
            begun = time.time()
            folder.error_path.unlink(missing_ok=True)
            about = {"provenance": provenance(trial, command), "session": session, **_described(trial)}
            folder.write_status("running", **about, started=begun, attempts=before)
            # One step of a large model may take minutes. A full disk stops the trial itself, with a better message.
            with tracked(trial, folder):
                with repeating(folder.heartbeat, BEAT_SECONDS, "heartbeat", retry_on=(OSError,)):
                    status, cause = _attempts(trial, folder, launch, observe, before)
                folder.write_status(status, cause, seconds=time.time() - begun, finished=time.time())
            if status == "done":
                folder.drop_checkpoints()
            return status
        except KeyboardInterrupt:
            folder.write_status("interrupted", "stopped by the user; run the sweep again to continue")
            raise
        except OSError as error:
            if is_full(error, folder.path):
                raise FullDiskError(str(folder.path)) from error
            raise
        finally:
            torch.set_num_threads(threads)


def record_skipped(trial: Trial, folder: TrialFolder, cause: str) -> None:
    """Leaves in `folder` that `trial` was not begun, and why."""
    with folder.lock(LOCK_WAIT_SECONDS):
        folder.write_status("skipped", cause, **_described(trial))


def _attempts(
    trial: Trial, folder: TrialFolder, launch: Launch, observe: "Observer | None", before: int
) -> tuple[Status, str | None]:
    """Tries until it ends or has been tried enough. `before`: attempts that processes of this run died in."""
    from bench.trial import run_trial

    watched = partial(run_trial, observe=observe) if observe else run_trial
    run = launch if grouped(trial) else watched
    cause = DIED
    for attempt in range(before + 1, trial.retries + 2):
        folder.write_status("running", attempts=attempt)
        try:
            run(trial, folder)
            return "done", None
        except Diverged as error:
            return "diverged", str(error)
        except LockedError:
            raise  # the trial is another's now
        except Exception as error:
            full = is_full(error, folder.path)
            if not full:
                write_text(folder.error_path, traceback.format_exc())
            tried = f" (tried {attempt} times)" if attempt > 1 else ""
            cause = f"{FULL if full else cause_of(error)}{tried}"
    return "failed", cause


def _described(trial: Trial) -> dict:
    fields = ("sweep", "method", "variant", "seed", "identity")
    return {"spec": trial.model_dump(mode="json"), **{name: getattr(trial, name) for name in fields}}
