"""Runs one trial and records its status; every executor calls `run_and_record`, in its process or in an actor."""

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
"""How long a rerun waits for the lock, which workers of a killed run hold for a moment."""


def run_and_record(
    trial: Trial,
    folder: TrialFolder,
    command: str = "",
    launch: Launch = spawn,
    call: str | None = None,
    observe: Observer | None = None,
) -> Status:
    """Runs or resumes `trial` and writes its status and the cause of a failure to `folder`.

    Args:
        trial: the trial to run.
        folder: its folder.
        command: the command line, for the provenance.
        launch: starts the workers of a trial that runs in processes of its own.
        call: an id of the call of `bench run`. Attempts are counted over all processes of one call, which starts a
            trial again when its process has died.
        observe: receives each point of a trial that runs in this process (see `bench.run.trial.Observer`).

    Returns:
        The status that was recorded.

    Raises:
        LockedError: another process is writing the trial.
        KeyboardInterrupt: the user stopped the trial, which is recorded as interrupted.
    """
    # Changes that a method makes to global state are undone, because the next trial may run in this process.
    with folder.lock(LOCK_WAIT_SECONDS), restored():
        status = folder.read().status
        if status.settled:  # another process has finished the trial in the meantime
            return status
        torch.set_num_threads(trial.threads)
        try:
            begun = time.time()
            folder.error_path.unlink(missing_ok=True)
            folder.write_status(
                Status.RUNNING, provenance=provenance(trial, command), **described(trial), started=begun
            )
            # A thread writes heartbeats, because one step of a large model may take minutes. It ignores a full disk and
            # another owner, on which the trial itself stops with a better message.
            with tracked(trial, folder):
                with repeating(folder.heartbeat, BEAT_SECONDS, "heartbeat", retry_on=(OSError, LockedError)):
                    status, cause = _attempts(trial, folder, launch, call, observe)
                write_end = partial(
                    folder.write_status, status, cause, seconds=time.time() - begun, finished=time.time()
                )
                try:
                    write_end()
                except OSError as error:
                    if not disk_full(error):
                        raise
                    write_end()  # the half-written file was removed, which may have made room
            if status == Status.DONE:
                folder.drop_checkpoints()
            return status
        except KeyboardInterrupt:
            with settling():
                folder.write_status(Status.INTERRUPTED, STOPPED)
            raise


def record_skipped(trial: Trial, folder: TrialFolder, cause: str) -> None:
    """Records `trial` as skipped, with the cause."""
    with folder.lock(LOCK_WAIT_SECONDS):
        folder.write_status(Status.SKIPPED, cause, **described(trial))


def mended(trial: Trial, folder: TrialFolder) -> list[str]:
    """Mends the damaged files of a trial that no process writes; returns a line for each (see `TrialFolder.mend`)."""
    if not folder.damage():
        return []
    with folder.lock(LOCK_WAIT_SECONDS):
        return folder.mend(**described(trial)) if folder.damage() else []


def _attempts(
    trial: Trial, folder: TrialFolder, launch: Launch, call: str | None, observe: Observer | None
) -> tuple[Status, str | None]:

    in_process = partial(run_trial, observe=observe) if observe else run_trial
    run = launch if grouped(trial) else in_process
    before = folder.read()
    attempts = before.attempts if call and before.call == call else 0
    cause = lost(folder.path, attempts)
    while attempts <= trial.retries:
        attempts += 1
        folder.write_status(
            Status.RUNNING, call=call, attempts=attempts
        )  # before the attempt, which may kill the process
        try:
            with heeded():
                run(trial, folder)
            return Status.DONE, None
        except Diverged as error:
            return Status.DIVERGED, str(error)
        except Exception as error:
            folder.check_owner()
            where = ""
            if not disk_full(error):  # on a full disk the status needs the room that is left
                write_text(folder.error_path, traceback.format_exc())
                where = f"; the traceback is in trials/{folder.key}/{folder.error_path.name}"
            cause = f"{with_advice(cause_of(error), trial).rstrip('.')}{times(attempts)}{where}"
    return Status.FAILED, cause


def with_advice(cause: str, trial: Trial) -> str:
    """The cause of a failure; if memory ran out, with the settings that would need less."""
    if not ran_out_of_memory(cause):
        return cause
    wanted = " or ".join(f"{place}.{name}={value}" for (place, name), value in smaller(trial).items())
    do = f"{wanted} needs less" if wanted else "a GPU with more memory is needed"
    return f"out of memory; {do} (`bench plan SWEEP --card SIZE` prints what fits): {one_line(cause, 160)}"


def described(trial: Trial) -> dict[str, Any]:
    """The fields of `trial.json` that describe the trial: its spec, names, seed and identity."""
    fields = ("sweep", "method", "variant", "seed", "identity")
    return {"spec": trial.model_dump(mode="json"), **{name: getattr(trial, name) for name in fields}}
