"""Which trials of a plan are left to run: a finished trial is not run twice, a changed one is another trial."""

from collections.abc import Sequence

from bench import console
from bench.build.trial_spec import Trial
from bench.plan.preflight import reason_to_skip
from bench.run.worker import mended, record_skipped
from bench.store.run_folder import RunFolder


def trials_to_run(trials: Sequence[Trial], run: RunFolder) -> list[Trial]:
    """The trials that are not settled (`bench.store.status`); a diverged trial is, as it would diverge again.

    Records a trial as skipped if there is a reason (`bench.plan.preflight.reason_to_skip`). Mends damaged files, after
    which some trials must run again.
    """
    pending = []
    for trial in trials:
        folder = run.trial(trial.key)
        for text in mended(trial, folder):
            console.warn(f"{trial.key}: {text}")
        if folder.read().status.settled:
            continue
        reason = reason_to_skip(trial)
        if reason:
            record_skipped(trial, folder, reason)
        else:
            pending.append(trial)
    return pending
