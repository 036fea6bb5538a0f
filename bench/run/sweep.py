"""Runs a sweep in its run's folder: tunes its methods if it has a `search`, then runs the trials that are left.

What is run is announced on standard error, and watched there; reports and results are the caller's.
"""

import sys
from collections.abc import Sequence
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from typing import Any

from bench import console, stopping
from bench.build.trial_spec import Trial
from bench.errors import BenchError
from bench.plan.planner import Planner, resolved_sweep
from bench.plan.preflight import check_deepspeed, check_model
from bench.run.executors import Executor, load_executor
from bench.run.pending import trials_to_run
from bench.run.progress import watching
from bench.run.search.tuning import Tuning
from bench.run.settle import settled
from bench.store.left_aside import print_left_aside
from bench.store.plan_file import describe_run
from bench.store.provenance import this_command
from bench.store.records import TuningRecord
from bench.store.run_folder import RunFolder
from bench.store.status import Status
from bench.sweep.load import LoadedSweep


@dataclass(frozen=True)
class Outcome:
    """How the run of a sweep ended.

    Attributes:
        stopped: whether the user stopped it.
        compared: whether the comparison was planned; False if the user stopped the tuning before it.
        left_aside: warnings about unfinished trials of earlier plans.
    """

    stopped: bool
    compared: bool
    left_aside: tuple[str, ...] = ()


class SweepRun:
    """Runs a sweep's trials by an executor.

    Args:
        planner: the planner of the sweep.
        executor_name: the name of the executor.
        address: a running Ray cluster to join.

    Raises:
        BenchError: a setting is invalid, or this environment cannot run the trials.
    """

    def __init__(self, planner: Planner, executor_name: str, address: str | None = None):
        self.planner, self.trials = planner, planner.trials()
        check_model(self.trials[0].model)
        check_deepspeed(self.trials[0].zero)
        self.executor = load_executor(executor_name)
        if address and executor_name != "ray":
            do = "leave out --executor, or --address"
            raise BenchError("only the ray executor can join a cluster", "--address", do)
        self.executor_name, self.address, self.command = executor_name, address, this_command()
        self.room = self.executor.parallel(self.trials, address)

    def execute(self, run: RunFolder) -> Outcome:
        """Runs what is left of the tuning and of the comparison in `run`, which the caller has locked.

        Raises:
            BenchError: the search does not fit the sweep, or no configuration of a method has finished.
            KeyboardInterrupt: the user stopped the run twice.
        """
        if self.planner.loaded.sweep.search is None:
            return self._compare(run, self.planner.loaded, self.trials)
        tuning = Tuning(self.planner, run, self.executor_name, self.command, self.room)
        record = tuning.run(self._run_left)
        if record is None:
            return Outcome(stopped=True, compared=False)
        tuning.announce(record)
        aside = print_left_aside(run.tuning, (), [row.trial for row in run.tuning.planned()])
        return self._compare(run, tuning.tuned(record), tuning.compared(record), record, aside)

    def _compare(
        self,
        run: RunFolder,
        loaded: LoadedSweep,
        trials: Sequence[Trial],
        tuning: TuningRecord | None = None,
        aside: tuple[str, ...] = (),
    ) -> Outcome:
        """Writes the plan of the comparison and runs the trials that are left."""
        todo, at_once = trials_to_run(trials, run), min(self.room, len(trials))
        about = describe_run(trials, loaded.sweep, self.command, self.executor_name, at_once, tuning)
        about["warnings"] = list(self.planner.warnings)
        aside += print_left_aside(run, trials)
        run.write_plan(resolved_sweep(loaded), trials, **_with_history(about, run, bool(todo)))
        self._announce(trials, todo, run, at_once)
        return Outcome(execute(self.executor, todo, run, self.command, self.address), compared=True, left_aside=aside)

    def _run_left(
        self, trials: Sequence[Trial], run: RunFolder, at_once: int, executor: Executor | None = None
    ) -> bool:
        """Runs the trials of a tuning that are left (see `bench.run.search.tuning.RunTrials`)."""
        todo = trials_to_run(trials, run)
        if not todo:
            return False
        self._announce(trials, todo, run, at_once)
        if executor is not None:  # ASHA's executor compares running trials with the settled ones.
            todo = [trial for trial in trials if run.trial(trial.key).recorded_status() != Status.SKIPPED]
        return execute(executor or self.executor, todo, run, self.command, self.address)

    def _announce(self, trials: Sequence[Trial], todo: Sequence[Trial], run: RunFolder, at_once: int) -> None:
        budget = trials[0].budget
        skipped = sum(run.trial(trial.key).recorded_status() == Status.SKIPPED for trial in trials)
        already = len(trials) - len(todo) - skipped
        parts = [console.plural(len(trials), "trial")]
        if already:
            parts.append(f"{already} done already")
        if skipped:
            parts.append(f"{skipped} skipped")
        parts.append(f"{budget.limit:,g} {budget.axis} each")
        if todo:
            parts.append(f"{min(at_once, len(todo))} at a time ({self.executor_name})")
        path = console.shown(run.path)
        where = path if run.label == str(run.path) else f"{run.label}, through {path}"
        console.note(f"{run.plan_record().name}: {', '.join(parts)} → {where}")


def _with_history(about: dict[str, Any], run: RunFolder, runs_trials: bool) -> dict[str, Any]:
    """The plan's fields `about`, with those of an earlier call that stay true of the trials it ran.

    The most trials that ran at a time are kept, because seconds depend on them; a call that runs no trial keeps
    command and executor too.
    """
    if not run.exists():
        return about
    try:
        before = run.plan_record()
    except BenchError as error:
        console.warn(f"{error.where} {error.what}; it is written again")
        return about
    for text in before.damage:
        console.warn(text)
        about = {**about, "warnings": [*about["warnings"], f"{text.partition(';')[0]}, and was written again"]}
    kept = {} if runs_trials else before.model_dump(exclude_unset=True, include={"command", "executor"})
    return {**about, **kept, "parallel": max(before.parallel, about["parallel"] if runs_trials else 1)}


def execute(
    executor: Executor, trials: Sequence[Trial], run: RunFolder, command: str, address: str | None = None
) -> bool:
    """Runs the trials with progress on standard error, and gives each a final status.

    Returns:
        Whether the user stopped them.

    Raises:
        KeyboardInterrupt: the user stopped them twice.
    """
    stopping.check()
    if not trials:
        return False
    # Ray reports dead processes on standard output, which is kept for the results. Its workers put the driver's
    # directory first on their import path, and a user's own `models` package there would shadow ours.
    with redirect_stdout(sys.stderr), chdir(run.path), watching(trials, run):
        try:
            with settled(trials, run), stopping.heeded():
                executor.execute(trials, run, command, address)
        except KeyboardInterrupt:
            if stopping.requests() > 1:
                raise
            console.note("stopping and writing the report; press Ctrl-C again to skip the report")
            return True
    return False
