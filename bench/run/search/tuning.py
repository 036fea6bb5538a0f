"""Tunes a sweep's methods before they are compared, in the run's `tuning/` folder, which is a run like any other.

The record, `tuning/search.json`, holds every configuration with its score, the chosen ones and the cost. While it
fits the sweep, nothing is tuned again but what did not come to its end: a failure may be a passing one, and the choice
among the others stands until it has gone.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Protocol

from bench import console
from bench.build.trial_spec import Trial
from bench.digest import digest
from bench.errors import BenchError, LockedError
from bench.plan.planner import Planner, resolved_sweep
from bench.plan.preflight import missing_requirement
from bench.run.executors import Executor
from bench.run.search.candidates import Candidate, Candidates
from bench.run.search.choosing import mean_score, record
from bench.run.search.halving import Halving
from bench.run.search.space import domains, readable
from bench.store.damage import Check, is_finite, of
from bench.store.files import read_json, write_json
from bench.store.plan_file import describe_run
from bench.store.run_folder import RunFolder
from bench.store.status import Status
from bench.sweep.load import LoadedSweep
from bench.sweep.schema import MethodSpec, Search


class RunTrials(Protocol):
    """A function that runs trials to their end, with progress."""

    def __call__(self, trials: Sequence[Trial], run: RunFolder, at_once: int, executor: Executor | None = None) -> bool:
        """Returns whether the user stopped it.

        Args:
            at_once: how many of them run at a time.
            executor: instead of the run's; it is given the settled trials too.
        """


Tried = dict[str, list[Candidate]]
"""Variant -> its configurations."""


class Tuning:
    """A sweep's tuning in the folder of its run.

    Args:
        planner: of a sweep with a `search`.
        run: where the comparison goes.
        executor_name: `--executor`.
        command: the command line, for the record.
        room: how many trials can run at a time, if there are so many.

    Raises:
        BenchError: the search does not fit the sweep or this environment.
    """

    def __init__(self, planner: Planner, run: RunFolder, executor_name: str, command: str = "", room: int = 1):
        loaded = planner.loaded
        assert loaded.sweep.search is not None
        self.loaded, self.search = loaded, loaded.sweep.search
        self.folder = run.tuning
        self.candidates = Candidates(planner)
        self._about = (command, executor_name)
        self._room = room
        self._path = self.folder.path / "search.json"
        _check_algorithm(loaded, executor_name)
        shared = [trial.identity for name in self.search.space for trial in self.candidates.make(name, 0, {}).trials]
        self._fingerprint = digest([self.search.model_dump(mode="json"), shared])

    def found(self) -> dict[str, Any] | None:
        """The record of an earlier call, where it answers this sweep; see `unfinished` for what it lacks."""
        kept = read_json(self._path)
        if not _is_record(kept):
            if self._path.exists():
                console.warn(f"{self._path} is damaged; it is made again from the trials that were tried")
            return None
        return kept if kept["fingerprint"] == self._fingerprint else None

    def unfinished(self, kept: dict[str, Any]) -> int:
        """How many configurations of a record failed or were interrupted: `run` tries them again."""
        return sum(map(_unfinished, kept["methods"]))

    def run(self, run_trials: RunTrials) -> dict[str, Any] | None:
        """Tunes what is not tuned yet, and tries again what did not come to its end.

        Args:
            run_trials: runs trials.

        Returns:
            The record; None where the user stopped it.
        """
        kept = self.found()
        if kept is not None and not self.unfinished(kept):
            return kept
        if self.search.algorithm != "optuna":
            tried = self._all_at_once(run_trials)
        else:
            tried = self._in_rounds(run_trials) if kept is None else self._once_more(run_trials, kept)
        if tried is None:
            return None
        methods = [record(self.folder, self.search, name, each) for name, each in tried.items()]
        kept = {
            "fingerprint": self._fingerprint,
            "search": self.search.model_dump(mode="json", exclude_none=True),
            "methods": methods,
        }
        write_json(self._path, kept)
        return kept

    def tuned(self, kept: dict[str, Any]) -> LoadedSweep:
        """The sweep to compare: every method with its chosen settings, and nothing left to search."""
        chosen = {method["variant"]: method["chosen"] for method in kept["methods"]}
        variants = self.candidates.variants
        methods = tuple(
            MethodSpec(
                name=variant.method,
                variant=name,
                settings={**variant.settings, **chosen.get(name, {})},
                sampler=variant.sampler,
            )
            for name, variant in variants.items()
        )
        sweep = self.loaded.sweep.model_copy(update={"methods": methods, "search": None})
        return LoadedSweep(sweep, self.loaded.root, self.loaded.base, self.loaded.scale)

    def announce(self, kept: dict[str, Any]) -> None:
        """Says what was chosen, and among what."""
        for method in kept["methods"]:
            chosen = ", ".join(f"{name} {value}" for name, value in method["chosen"].items())
            count = console.plural(len(method["configurations"]), "configuration")
            console.note(f"tuned {method['variant']}: {chosen} (best of {count}, {method['score']:.3f})")
        left = self.unfinished(kept)
        if left:
            where = f"`bench status {self.folder.path}` tells why"
            console.note(f"{console.plural(left, 'configuration')} failed; the same command tries again ({where})")

    # -- strategies -------------------------------------------------------------------------------------------------

    def _all_at_once(self, run_trials: RunTrials) -> Tried | None:
        """Random search and ASHA: the configurations do not depend on how others did."""
        tried = {name: self.candidates.drawn(name) for name in self.search.space}
        trials = self.candidates.trials_of(tried)
        together, executor = len(trials), None
        if self.search.algorithm == "asha":  # one method after another
            together, executor = self.search.samples, Halving(self.search, tried, self._fingerprint)
        self._write_plan(trials, together)
        return None if self._run(run_trials, trials, together, executor) else tried

    def _in_rounds(self, run_trials: RunTrials) -> Tried | None:
        """Optuna: a round of configurations is suggested, run and scored before the next round.

        Suggestions follow from the seed and the earlier scores, so that a search that is continued makes the same
        ones, and finished trials are not run twice.
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

    def _once_more(self, run_trials: RunTrials, kept: dict[str, Any]) -> Tried | None:
        """Optuna: runs the configurations of an earlier record again that did not finish; no new ones are suggested."""
        tried = {
            name: [self.candidates.make(name, number, row["values"]) for number, row in enumerate(rows)]
            for name, rows in ((method["variant"], method["configurations"]) for method in kept["methods"])
        }
        trials = self.candidates.trials_of(tried)
        self._write_plan(trials, self._round())
        return None if self._run(run_trials, trials, self._round()) else tried

    def _round(self) -> int:
        """The number of trials in a round of Optuna, at most."""
        search = self.search
        return min(search.at_once, search.samples) * len(search.space) * len(search.seeds)

    def _run(
        self, run_trials: RunTrials, trials: Sequence[Trial], together: int, executor: Executor | None = None
    ) -> bool:
        """Runs trials, those again that an earlier search has pruned; True where the user stopped it.

        Args:
            together: how many of the trials may run at a time, where there is room.
        """
        for trial in trials:
            folder = self.folder.trial(trial.key)
            record = folder.read()
            if record.status == Status.PRUNED and record.search != self._fingerprint:
                with suppress(LockedError), folder.lock():
                    folder.write_status(Status.INTERRUPTED, "pruned by another search; this one decides anew")
        return run_trials(trials, self.folder, min(self._room, together), executor)

    def _write_plan(self, trials: Sequence[Trial], together: int) -> None:
        sweep = self.loaded.sweep.model_copy(update={"name": f"{self.loaded.sweep.name}-tuning"})
        about = describe_run(trials, sweep, *self._about, parallel=min(self._room, together))
        self.folder.write_plan(resolved_sweep(self.loaded), trials, **about)


def _is_record(kept: Any) -> bool:
    """Whether a value is what `Tuning.run` keeps."""
    methods = kept.get("methods") if isinstance(kept, dict) and isinstance(kept.get("fingerprint"), str) else None
    return isinstance(methods, list) and not any(
        not isinstance(each, dict)
        or any(not check(each.get(name)) for name, check in OF_A_METHOD.items())
        or any(not isinstance(row, dict) or not {"values", "statuses"} <= set(row) for row in each["configurations"])
        for each in methods
    )


OF_A_METHOD: dict[str, Check] = {
    "variant": of(str),
    "chosen": of(dict),
    "score": is_finite,
    "configurations": of(list),
}
"""What the record says of each method, and is read again."""


def _unfinished(method: dict[str, Any]) -> int:
    ends = {status for status in Status if status.settled or status == Status.SKIPPED}
    return sum(any(status not in ends for status in row["statuses"]) for row in method["configurations"])


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
