"""Runs one trial and records how it went. Every executor calls this, in process or in an actor."""

import time
import traceback
from functools import partial
from typing import Any

import torch

from bench.background import repeating
from bench.build.trial_spec import Trial
from bench.errors import Diverged, LockedError, cause_of, disk_full, one_line, ran_out_of_memory
from bench.plan.memory.fitting import smaller
from bench.run.group import Launch, grouped, spawn
from bench.run.settle import STOPPED, lost, times
from bench.run.tracking.follow import tracked
from bench.run.trial import Observer, run_trial
from bench.stopping import heeded, settling
from bench.store.files import write_text
from bench.store.provenance import provenance
from bench.store.status import Status
from bench.store.trial_folder import TrialFolder
from rewards.containment import restored

BEAT_SECONDS = 5.0
LOCK_WAIT_SECONDS = 20.0
"""A killed run's workers live on for a moment; a rerun waits that long for them to go."""


def run_and_record(
    trial: Trial,
    folder: TrialFolder,
    command: str = "",
    launch: Launch = spawn,
    call: str | None = None,
    observe: Observer | None = None,
) -> Status:
    """Runs `trial` to its end, or resumes it, and leaves its status and cause in `folder`.

    Args:
        trial: what to run.
        folder: where it is recorded.
        command: the command line, for the provenance.
        launch: starts the workers of a trial that has its own processes.
        call: of `bench run`, where it may begin the trial anew after a death of its process, and for no other reason:
            attempts are counted over all of them.
        observe: is told each point, where the trial runs in this process (see `bench.run.trial.Observer`).

    Returns:
        The status that was recorded.

    Raises:
        LockedError: another process is writing the trial.
        KeyboardInterrupt: the user stopped it; it is recorded as interrupted.
    """
    # What a method or a library does to the global state ends with the trial: the next one may run in this process.
    with folder.lock(LOCK_WAIT_SECONDS), restored():
        status = folder.read().status
        if status.settled:  # another process finished it in the meantime
            return status
        torch.set_num_threads(trial.threads)
        try:
            begun = time.time()
            folder.error_path.unlink(missing_ok=True)
            folder.write_status(
                Status.RUNNING, provenance=provenance(trial, command), **described(trial), started=begun
            )
            # One step of a large model may take minutes. A full disk or another owner stops the trial itself, with a
            # better message.
            with tracked(trial, folder):
                with repeating(folder.heartbeat, BEAT_SECONDS, "heartbeat", retry_on=(OSError, LockedError)):
                    status, cause = _attempts(trial, folder, launch, call, observe)
                ended = partial(folder.write_status, status, cause, seconds=time.time() - begun, finished=time.time())
                try:
                    ended()
                except OSError as error:
                    if not disk_full(error):
                        raise
                    ended()  # what was begun has been removed, so that there may be room now
            if status == Status.DONE:
                folder.drop_checkpoints()
            return status
        except KeyboardInterrupt:
            with settling():
                folder.write_status(Status.INTERRUPTED, STOPPED)
            raise


def record_skipped(trial: Trial, folder: TrialFolder, cause: str) -> None:
    """Leaves in `folder` that `trial` was not begun, and why."""
    with folder.lock(LOCK_WAIT_SECONDS):
        folder.write_status(Status.SKIPPED, cause, **described(trial))


def mended(trial: Trial, folder: TrialFolder) -> list[str]:
    """Mends what is damaged of a trial that nobody is writing, and says what it was (see `TrialFolder.mend`)."""
    if not folder.damage():
        return []
    with folder.lock(LOCK_WAIT_SECONDS):
        return folder.mend(**described(trial)) if folder.damage() else []


def _attempts(
    trial: Trial, folder: TrialFolder, launch: Launch, call: str | None, observe: Observer | None
) -> tuple[Status, str | None]:

    watched = partial(run_trial, observe=observe) if observe else run_trial
    run = launch if grouped(trial) else watched
    before = folder.read()
    tried = before.attempts if call and before.call == call else 0
    cause = lost(folder.path, tried)
    while tried <= trial.retries:
        tried += 1
        folder.write_status(Status.RUNNING, call=call, attempts=tried)  # first, as nothing is written after a death
        try:
            with heeded():
                run(trial, folder)
            return Status.DONE, None
        except Diverged as error:
            return Status.DIVERGED, str(error)
        except Exception as error:
            folder.check_owner()
            where = ""
            if not disk_full(error):  # else what room is left is for the status, and its cause says all
                write_text(folder.error_path, traceback.format_exc())
                where = f"; the traceback is in trials/{folder.key}/{folder.error_path.name}"
            cause = f"{with_advice(cause_of(error), trial).rstrip('.')}{times(tried)}{where}"
    return Status.FAILED, cause


def with_advice(cause: str, trial: Trial) -> str:
    """The cause of a failure; where memory ran out, what of the sweep would need less of it."""
    if not ran_out_of_memory(cause):
        return cause
    wanted = " or ".join(f"{place}.{name}={value}" for (place, name), value in smaller(trial).items())
    do = f"{wanted} needs less" if wanted else "a card with more is needed"
    return f"out of memory; {do} (`bench plan SWEEP --card SIZE` prints what fits): {one_line(cause, 160)}"


def described(trial: Trial) -> dict[str, Any]:
    """The fields of `trial.json` that say what the trial is."""
    fields = ("sweep", "method", "variant", "seed", "identity")
    return {"spec": trial.model_dump(mode="json"), **{name: getattr(trial, name) for name in fields}}
