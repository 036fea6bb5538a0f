"""Tunes a sweep's methods before they are compared, in the run's `tuning/` folder, which is itself a run.

The record, `tuning/search.json`, holds every configuration with its score, the chosen ones and the cost. While the
record fits the sweep, only configurations that failed or were interrupted are run again; until they end, the choice
among the others is used. With `search.finals` the best configurations run in a second stage, and the choice is among
these.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

from pydantic import ValidationError

from bench import console
from bench.build.trial_spec import Trial
from bench.digest import digest
from bench.errors import BenchError, LockedError
from bench.plan.planner import Planner, resolved_sweep
from bench.plan.preflight import missing_requirement
from bench.run.executors import Executor
from bench.run.search.candidates import Candidate, Candidates
from bench.run.search.choosing import finalists, first_results, mean_score, record, result
from bench.run.search.halving import Halving
from bench.run.search.space import domains, readable
from bench.store.files import write_json
from bench.store.plan_file import describe_run
from bench.store.records import Edges, TriedConfiguration, TuningRecord, read_record
from bench.store.run_folder import RunFolder
from bench.store.status import Status
from bench.sweep.load import LoadedSweep, variants_of
from bench.sweep.schema import MethodSpec, Search


class RunTrials(Protocol):
    """A function that runs trials to their end, with progress."""

    def __call__(self, trials: Sequence[Trial], run: RunFolder, at_once: int, executor: Executor | None = None) -> bool:
        """Runs the trials, and returns whether the user stopped them.

        Args:
            at_once: how many trials run at a time.
            executor: replaces the run's executor; it is given the settled trials too.
        """


Tried = dict[str, list[Candidate]]
"""Variant -> its candidates, in the order of their numbers."""


class Tuning:
    """The tuning of a sweep's methods in the folder of its run.

    Args:
        planner: the planner of a sweep with a `search`.
        run: the folder of the comparison.
        executor_name: the value of `--executor`.
        command: the command line, for the plan.
        room: how many trials can run at a time.

    Raises:
        BenchError: the search does not fit the sweep or this environment.
    """

    def __init__(self, planner: Planner, run: RunFolder, executor_name: str, command: str = "", room: int = 1):
        loaded = planner.loaded
        assert loaded.sweep.search is not None
        self.loaded, self.search = loaded, loaded.sweep.search
        self.folder = run.tuning
        self.candidates = Candidates(planner)
        self._planner = planner
        self._about = (command, executor_name)
        self._room = room
        self._path = self.folder.path / "search.json"
        _check_algorithm(loaded, executor_name)
        shared = [trial.identity for stage in self.examples() for trial in stage]
        self._fingerprint = digest([self.search.model_dump(mode="json", exclude=self.search.unused), shared])

    def examples(self) -> list[list[Trial]]:
        """For each stage, the trials of one configuration of every method, with the sweep's own values."""
        first = [self.candidates.make(name, 0, {}) for name in self.search.space]
        stages = [first, list(map(self.candidates.final, first))] if self.search.finals else [first]
        return [[trial for candidate in stage for trial in candidate.trials] for stage in stages]

    def kept_record(self) -> TuningRecord | None:
        """The record of an earlier call, or None if there is none for this search.

        Raises:
            BenchError: a later version of the package wrote the record.
        """
        content = read_record(self._path)
        try:
            kept = TuningRecord.model_validate(content)
        except ValidationError:
            if self._path.exists():
                console.warn(f"{self._path} is damaged; it is written again from the stored trials")
            return None
        return kept if kept.fingerprint == self._fingerprint else None

    def run(self, run_trials: RunTrials) -> TuningRecord | None:
        """Tunes the methods, or runs the unfinished configurations of an earlier record again.

        Returns:
            The record; None if the user stopped the tuning.
        """
        kept = self.kept_record()
        if kept is not None and not kept.unfinished:
            return kept
        if self.search.algorithm != "optuna":
            tried = self._all_at_once(run_trials)
        else:
            tried = self._in_rounds(run_trials) if kept is None else self._once_more(run_trials, kept)
        if tried is None:
            return None
        rows = {name: first_results(self.folder, self.search, candidates) for name, candidates in tried.items()}
        if self.search.finals and self._finals(run_trials, tried, rows):
            return None
        methods = [record(self.folder, self.search, name, own) for name, own in rows.items()]
        search = self.search.model_dump(mode="json", exclude_none=True, exclude=self.search.unused)
        kept = TuningRecord(fingerprint=self._fingerprint, search=search, methods=methods)
        write_json(self._path, kept.stored())
        return kept

    def tuned(self, kept: TuningRecord) -> LoadedSweep:
        """The sweep of the comparison: every method with its chosen settings, and without `search`.

        What gold chose stands after the variants of the sweep, unless reward chose the same.
        """
        chosen = {method.variant: method.chosen for method in kept.methods}
        rows = [(name, variant, chosen.get(name, {})) for name, variant in self.candidates.variants.items()]
        rows += [
            (choice.variant, self.candidates.variants[method.variant], choice.chosen or {})
            for method in kept.methods
            if (choice := method.by_gold) and choice.cause is None
        ]
        methods = tuple(
            MethodSpec(
                name=variant.method, variant=name, settings={**variant.settings, **values}, sampler=variant.sampler
            )
            for name, variant, values in rows
        )
        sweep = self.loaded.sweep.model_copy(update={"methods": methods, "search": None})
        return LoadedSweep(sweep, self.loaded.root, self.loaded.base, self.loaded.scale)

    def compared(self, kept: TuningRecord) -> list[Trial]:
        """The trials of the comparison, also those to skip because gold chose no configuration of their method."""
        loaded = self.tuned(kept)
        trials = self._planner.trials(variants_of(loaded.sweep, loaded.root))
        for method in kept.methods:
            choice = method.by_gold
            if choice is not None and choice.chosen is None:
                variant = replace(self.candidates.variants[method.variant], name=choice.variant)
                trials += [trial.model_copy(update={"skip": choice.cause}) for trial in self._planner.trials([variant])]
        return trials

    def announce(self, kept: TuningRecord) -> None:
        """Prints the chosen settings of each method, and which configurations failed or repeat another."""
        for method in kept.methods:
            chosen = _chosen(method.chosen, method.edges)
            count = console.plural(method.counted or len(method.configurations), "configuration")
            console.note(f"tuned {method.variant}: {chosen} (best of {count}, {method.score:.3f})")
            gold = method.by_gold
            if gold is not None:
                by_gold = gold.cause or f"{_chosen(gold.chosen or {}, gold.edges)} (gold {gold.gold:.3f})"
                console.note(f"tuned {gold.variant}: {by_gold}")
            if method.copies:
                console.note(method.copies)
        if kept.unfinished:
            failed = console.plural(kept.unfinished, "configuration")
            where = f"`bench status {self.folder.path}` prints the causes"
            console.note(f"{failed} failed; the same command tries again ({where})")

    # -- strategies -------------------------------------------------------------------------------------------------

    def _all_at_once(self, run_trials: RunTrials) -> Tried | None:
        """Random search and ASHA, whose configurations do not depend on scores; None if the user stopped it."""
        tried = {name: self.candidates.drawn(name) for name in self.search.space}
        trials = self.candidates.trials_of(tried)
        at_once, executor = len(trials), None
        if self.search.algorithm == "asha":  # one method after another
            at_once, executor = self.search.samples, Halving(self.search, tried, self._fingerprint)
        self._write_plan(trials, at_once)
        return None if self._run(run_trials, trials, at_once, executor) else tried

    def _in_rounds(self, run_trials: RunTrials) -> Tried | None:
        """Optuna, which suggests a round of configurations once the round before it is scored; None if stopped.

        Suggestions follow from the seed and earlier scores, so that a continued search makes the same suggestions and
        runs no finished trial twice.
        """
        import optuna
        from ray.tune.search.optuna import OptunaSearch

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        search = self.search
        searchers = {
            name: OptunaSearch(
                OptunaSearch.convert_search_space(domains(space)), metric="score", mode="max", seed=search.seed
            )
            for name, space in search.space.items()
        }
        tried: Tried = {name: [] for name in search.space}
        for begin in range(0, search.samples, search.at_once):
            numbers = range(begin, min(begin + search.at_once, search.samples))
            for name, searcher in searchers.items():
                for number in numbers:
                    drawn = readable(search.space[name], searcher.suggest(str(number)) or {})
                    tried[name].append(self.candidates.make(name, number, drawn))
            self._write_plan(self.candidates.trials_of(tried), self._round())
            latest = self.candidates.trials_of({name: own[begin:] for name, own in tried.items()})
            if self._run(run_trials, latest, self._round()):
                return None
            for name, searcher in searchers.items():
                for number in numbers:
                    score = mean_score(self.folder, tried[name][number], search.metric)
                    result = None if score is None else {"score": score}
                    searcher.on_trial_complete(str(number), result, error=result is None)
        return tried

    def _once_more(self, run_trials: RunTrials, kept: TuningRecord) -> Tried | None:
        """Optuna with an earlier record: runs its unfinished configurations again and suggests no new ones."""
        tried = {
            method.variant: [
                self.candidates.make(method.variant, number, row.values)
                for number, row in enumerate(method.configurations)
            ]
            for method in kept.methods
        }
        trials = self.candidates.trials_of(tried)
        self._write_plan(trials, self._round())
        return None if self._run(run_trials, trials, self._round()) else tried

    def _finals(self, run_trials: RunTrials, tried: Tried, rows: dict[str, list[TriedConfiguration]]) -> bool:
        """Runs the second stage and adds its results to `rows`; returns whether the user stopped it."""
        finals = {
            name: {number: self.candidates.final(tried[name][number]) for number in finalists(self.search, own)}
            for name, own in rows.items()
        }
        trials = self.candidates.trials_of({name: list(own.values()) for name, own in finals.items()})
        self._write_plan([*trials, *self.candidates.trials_of(tried)], len(trials))
        if self._run(run_trials, trials, len(trials)):
            return True
        for name, own in finals.items():
            for number, candidate in own.items():
                rows[name][number].final = result(self.folder, self.search, candidate)
        return False

    def _round(self) -> int:
        """The largest number of trials in a round of Optuna."""
        search = self.search
        return min(search.at_once, search.samples) * len(search.space) * len(search.seeds)

    def _run(
        self, run_trials: RunTrials, trials: Sequence[Trial], at_once: int, executor: Executor | None = None
    ) -> bool:
        """Runs trials, also those that another search has pruned; returns whether the user stopped them.

        Args:
            at_once: how many trials may run at a time; `room` limits it further.
        """
        for trial in trials:
            folder = self.folder.trial(trial.key)
            record = folder.read()
            if record.status == Status.PRUNED and record.search != self._fingerprint:
                with suppress(LockedError), folder.lock():
                    folder.write_status(Status.INTERRUPTED, "pruned by another search; run again by this one")
        return run_trials(trials, self.folder, min(self._room, at_once), executor)

    def _write_plan(self, trials: Sequence[Trial], at_once: int) -> None:
        sweep = self.loaded.sweep.model_copy(update={"name": f"{self.loaded.sweep.name}-tuning"})
        about = describe_run(trials, sweep, *self._about, parallel=min(self._room, at_once))
        budgets = {trial.budget.limit: trial.budget.axis for trial in trials}
        if len(budgets) > 1:
            ends = f"{min(budgets):,g} {budgets[min(budgets)]}"
            about["warnings"] = [f"trials of the first stage end at {ends}; those named -final have the whole budget"]
        self.folder.write_plan(resolved_sweep(self.loaded), trials, **about)


def _chosen(values: Mapping[str, Any], edges: Edges) -> str:
    marked = {name: f" ({edges[name]} tried)" if name in edges else "" for name in values}
    return ", ".join(f"{name} {value}{marked[name]}" for name, value in values.items())


def _check_algorithm(loaded: LoadedSweep, executor_name: str) -> None:
    search: Search = loaded.sweep.search  # type: ignore[assignment]
    lacking = missing_requirement(("optuna>=4",)) if search.algorithm == "optuna" else None
    if lacking:
        raise BenchError(f"optuna {lacking}", "search.algorithm", "or write algorithm: random")
    if search.algorithm != "asha":
        return
    what = "asha stops trials while they run"
    if executor_name != "ray":
        raise BenchError(f"{what}, which only Ray can", "search.algorithm", "leave out --executor, or take random")
    resources = loaded.sweep.resources
    if resources.workers > 1 or resources.zero:
        raise BenchError(f"{what}, which needs one process a trial", "search.algorithm", "take random or optuna")
