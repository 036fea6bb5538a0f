"""Tuning that stops running trials: Ray Tune's ASHA.

Each method's trials are scheduled by themselves: methods do not compete here. A trial waits at every point of its
curve until Tune has decided, with its checkpoint kept, so that one which is stopped ends exactly there.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from bench.errors import LockedError
from bench.execution.ray_tune import fit, parallel, session, spec_of
from bench.search.candidates import Candidate
from bench.search.choosing import value_of
from bench.store import RunFolder
from bench.sweep import Search
from bench.trial_spec import Budget, Trial

LOCK_SECONDS = 20.0
"""How long a stopped trial's process may take to be gone."""


class Halving:
    """An executor that prunes by ASHA (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning").

    Args:
        search: its grace, reduction and metric.
        candidates: variant -> what is tried of it.
    """

    def __init__(self, search: Search, candidates: dict[str, list[Candidate]]):
        self.search, self.candidates = search, candidates

    def execute(self, trials: Sequence[Trial], run: RunFolder, command: str, address: str | None = None) -> None:
        """See `bench.execution.Executor`; settled trials tell ASHA how they did, and do not run again."""
        from ray.tune.schedulers import ASHAScheduler

        search, asked = self.search, {trial.key for trial in trials}
        with session(trials, run, address) as scratch:
            for found in self.candidates.values():
                own = [trial for candidate in found for trial in candidate.trials if trial.key in asked]
                if not own:
                    continue
                limit = own[0].budget.limit
                scheduler = ASHAScheduler(
                    time_attr="spent",
                    metric="value",
                    mode="max",
                    max_t=limit,  # type: ignore[arg-type]  # any number does
                    grace_period=limit * search.grace,  # type: ignore[arg-type]
                    reduction_factor=search.reduction,
                )
                body = partial(_watched, metric=search.metric)
                pruning = _pruning(run, own[0].budget, search)
                at_once = parallel(own, address)
                for result in fit(own, run, command, at_once, scratch, body, scheduler, callbacks=[pruning]):
                    if result.error is None:
                        _prune(run, result.config["trial"], result.metrics, own[0].budget, search, LOCK_SECONDS)

    def parallel(self, trials: Sequence[Trial], address: str | None = None) -> int:
        """As many as fit."""
        return parallel(trials, address)


def _prune(run: RunFolder, key: str, last: dict[str, Any], budget: Budget, search: Search, patience: float) -> None:
    """A trial that Tune ended and that has no end of its own was stopped."""
    folder = run.trial(key)
    if folder.recorded_status() != "running":
        return
    cause = (
        f"stopped by ASHA at {last['spent']:,g} of {budget.limit:,g} {budget.axis}, {search.metric} "
        f"{last['value']:.3f}: not in the best 1 of {search.reduction} there"
    )
    with folder.lock(patience):
        folder.write_status("pruned", cause)


def _pruning(run: RunFolder, budget: Budget, search: Search) -> Any:
    """A callback that records a stopped trial when it stops; one whose process is not gone yet is left for later."""
    from ray.tune import Callback

    class Pruning(Callback):
        def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
            with suppress(LockedError):
                _prune(run, trial.config["trial"], trial.last_result, budget, search, patience=1.0)

    return Pruning()


def _watched(config: dict[str, Any], run_path: str, scratch: str, command: str, call: str, metric: str) -> None:
    """What an actor does for one trial under ASHA: the points it has already, then those it makes."""
    from bench.worker import run_and_record

    trial, run = spec_of(scratch, config["trial"]), RunFolder(Path(run_path))
    teller = Teller(trial.budget, metric)
    folder = run.trial(trial.key)
    for point in folder.read_curve():
        teller(point)
    try:
        run_and_record(trial, folder, command, call=call, observe=teller)
    except LockedError:
        return  # the other process records it


class Teller:
    """Tells Tune of a trial's points, each once; it does not return from one at which Tune stops the trial.

    The last point is not told: the trial is at its end there, and shall come to it.

    Args:
        budget: of the trial.
        metric: `search.metric`.
        keep: makes the checkpoint that Tune is given with a point, for a scheduler that needs one.
    """

    def __init__(self, budget: Budget, metric: str, keep: Callable[[], Any] | None = None):
        self.budget, self.metric, self.keep, self.told = budget, metric, keep, -1

    def __call__(self, point: dict[str, Any]) -> None:
        from ray import tune

        from bench.budget import spent

        gone, value = spent(self.budget.axis, point["axes"]), value_of(point, self.metric)
        if point["point"] <= self.told or gone >= self.budget.limit or not math.isfinite(value):
            return
        self.told = point["point"]
        tune.report({"spent": gone, "value": value}, checkpoint=self.keep() if self.keep else None)
