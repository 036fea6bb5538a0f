"""Tuning by Ray Tune's ASHA, which stops running trials.

Each method's trials have a scheduler of their own, so that methods do not compete. At every point of its curve a trial
waits, with its checkpoint saved, until Tune has decided; a trial that is stopped ends exactly at the point.
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
"""How long to wait for the process of a stopped trial to end."""


class Halving:
    """An executor that prunes by ASHA (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning").

    Args:
        search: grace, reduction and metric of the search.
        candidates: variant -> its candidates.
        fingerprint: the search's fingerprint, which is recorded with a pruned trial.
    """

    def __init__(self, search: Search, candidates: dict[str, list[Candidate]], fingerprint: str):
        self.search, self.candidates, self.fingerprint = search, candidates, fingerprint

    def execute(self, trials: Sequence[Trial], run: RunFolder, command: str, address: str | None = None) -> None:
        """Runs trials under ASHA (see `bench.run.executors.Executor`); settled trials only report their curves."""
        from ray.tune.schedulers import ASHAScheduler

        search, keys = self.search, {trial.key for trial in trials}
        with session(trials, run, address) as scratch:
            at_once = parallel(trials, address)
            for candidates in self.candidates.values():
                own = [trial for candidate in candidates for trial in candidate.trials if trial.key in keys]
                if not own:
                    continue
                limit = own[0].budget.limit
                scheduler = ASHAScheduler(
                    time_attr="spent",
                    metric="value",
                    mode="max",
                    max_t=limit,  # type: ignore[arg-type]  # a float works too
                    grace_period=limit * search.grace,  # type: ignore[arg-type]
                    reduction_factor=search.reduction,
                )
                body = partial(_run_reporting, metric=search.metric)
                callbacks = [self._pruning(run, own[0].budget)]
                for result in fit(own, run, command, at_once, scratch, body, scheduler, callbacks=callbacks):
                    if result.error is None:
                        with suppress(LockedError):  # `bench.run.settle` warns about it
                            self._prune(run, result.config["trial"], result.metrics, own[0].budget, LOCK_SECONDS)

    def parallel(self, trials: Sequence[Trial], address: str | None = None) -> int:
        """How many trials fit on the machine or cluster."""
        return parallel(trials, address)

    def _prune(self, run: RunFolder, key: str, last: dict[str, Any], budget: Budget, patience: float) -> None:
        """Records a trial as pruned if Tune ended it while its status was running; `last` is its last report."""
        folder = run.trial(key)
        if folder.recorded_status() != Status.RUNNING or "spent" not in last:  # or another process is running it
            return
        cause = (
            f"stopped by ASHA at {last['spent']:,g} of {budget.limit:,g} {budget.axis}, {self.search.metric} "
            f"{last['value']:.3f}: not in the best 1 of {self.search.reduction} there"
        )
        with folder.lock(patience):
            folder.write_status(Status.PRUNED, cause, search=self.fingerprint)

    def _pruning(self, run: RunFolder, budget: Budget) -> Any:
        """A callback that records a stopped trial at once, unless its process has not ended yet."""
        from ray.tune import Callback

        prune = partial(self._prune, run, budget=budget, patience=1.0)

        class Pruning(Callback):
            def on_trial_complete(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
                with suppress(LockedError):
                    prune(trial.config["trial"], trial.last_result)

        return Pruning()


def _run_reporting(config: dict[str, Any], run_path: str, scratch: str, command: str, call: str, metric: str) -> None:
    """Runs one trial under ASHA in its actor."""
    trial, run = spec_of(scratch, config["trial"]), RunFolder(Path(run_path))
    folder, reporter = run.trial(trial.key), Reporter(trial, metric)
    if folder.recorded_status().settled:  # any other trial reports its points while it runs
        for point in folder.read_curve():
            reporter(point)
    run_in_actor(trial, run, command, scratch, call, reporter)


class Reporter:
    """Observer that reports each point of a trial once to Ray Tune; if Tune stops the trial, the call does not return.

    A point after which the budget affords no step is not reported, so that a finished trial is not stopped.

    Args:
        trial: the trial.
        metric: `search.metric`.
    """

    def __init__(self, trial: Trial, metric: str):
        self.trial, self.metric = trial, metric
        self._last = -1  # a retried trial passes its earlier points again

    def __call__(self, point: Point) -> None:
        from ray import tune

        value = value_of(point, self.metric)
        if point.point <= self._last or not math.isfinite(value) or not affords_a_step(self.trial, point.axes):
            return
        self._last = point.point
        tune.report({"spent": spent(self.trial.budget.axis, point.axes), "value": value})
