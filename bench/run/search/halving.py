"""Tuning that stops running trials: Ray Tune's ASHA.

Each method's trials are scheduled by themselves: methods do not compete here. A trial waits at every point of its
curve until Tune has decided, with its checkpoint kept, so that one which is stopped ends exactly there.
"""

import math
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from bench.build.trial_spec import Budget, Trial
from bench.errors import LockedError
from bench.plan.budget import affords_a_step
from bench.run.executors.ray_tune import fit, parallel, run_in_actor, session, spec_of
from bench.run.search.candidates import Candidate
from bench.run.search.choosing import value_of
from bench.store.records import Point
from bench.store.run_folder import RunFolder
from bench.store.status import Status
from bench.sweep.schema import Search
from models.ledger import spent

LOCK_SECONDS = 20.0
"""How long a stopped trial's process may take to be gone."""


class Halving:
    """An executor that prunes by ASHA (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning").

    Args:
        search: its grace, reduction and metric.
        candidates: variant -> what is tried of it.
        fingerprint: of the search, for the record of what it prunes.
    """

    def __init__(self, search: Search, candidates: dict[str, list[Candidate]], fingerprint: str):
        self.search, self.candidates, self.fingerprint = search, candidates, fingerprint

    def execute(self, trials: Sequence[Trial], run: RunFolder, command: str, address: str | None = None) -> None:
        """See `bench.run.executors.Executor`; settled trials report their curves to ASHA, and do not run again."""
        from ray.tune.schedulers import ASHAScheduler

        search, asked = self.search, {trial.key for trial in trials}
        with session(trials, run, address) as scratch:
            at_once = parallel(trials, address)
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
                callbacks = [self._pruning(run, own[0].budget)]
                for result in fit(own, run, command, at_once, scratch, body, scheduler, callbacks=callbacks):
                    if result.error is None:
                        with suppress(LockedError):  # `bench.run.settle` tells of it
                            self._prune(run, result.config["trial"], result.metrics, own[0].budget, LOCK_SECONDS)

    def parallel(self, trials: Sequence[Trial], address: str | None = None) -> int:
        """As many as fit."""
        return parallel(trials, address)

    def _prune(self, run: RunFolder, key: str, last: dict[str, Any], budget: Budget, patience: float) -> None:
        """A trial that Tune ended and that has no end of its own was stopped."""
        folder = run.trial(key)
        if folder.recorded_status() != Status.RUNNING or "spent" not in last:  # or another process had begun it
            return
        cause = (
            f"stopped by ASHA at {last['spent']:,g} of {budget.limit:,g} {budget.axis}, {self.search.metric} "
            f"{last['value']:.3f}: not in the best 1 of {self.search.reduction} there"
        )
        with folder.lock(patience):
            folder.write_status(Status.PRUNED, cause, search=self.fingerprint)

    def _pruning(self, run: RunFolder, budget: Budget) -> Any:
        """A callback that records a stopped trial at once; one whose process is not gone yet is left for later."""
        from ray.tune import Callback

        prune = partial(self._prune, run, budget=budget, patience=1.0)

        class Pruning(Callback):
            def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
                with suppress(LockedError):
                    prune(trial.config["trial"], trial.last_result)

        return Pruning()


def _watched(config: dict[str, Any], run_path: str, scratch: str, command: str, call: str, metric: str) -> None:
    """What an actor does for one trial under ASHA."""
    trial, run = spec_of(scratch, config["trial"]), RunFolder(Path(run_path))
    folder, reporter = run.trial(trial.key), Reporter(trial, metric)
    if folder.recorded_status().settled:  # the loop of any other trial reports its points, once it is running
        for point in folder.read_curve():
            reporter(point)
    run_in_actor(trial, run, command, scratch, call, reporter)


class Reporter:
    """Reports a trial's points to Ray Tune, each once; where Tune stops the trial at a point, the call does not return.

    A point that no further step can follow is not reported: the trial has reached its end there and is not stopped.

    Args:
        trial: whose points they are.
        metric: `search.metric`.
    """

    def __init__(self, trial: Trial, metric: str):
        self.trial, self.metric = trial, metric
        self._last = -1  # a trial that is attempted again passes its earlier points again

    def __call__(self, point: Point) -> None:
        from ray import tune

        value = value_of(point, self.metric)
        if point.point <= self._last or not math.isfinite(value) or not affords_a_step(self.trial, point.axes):
            return
        self._last = point.point
        tune.report({"spent": spent(self.trial.budget.axis, point.axes), "value": value})
