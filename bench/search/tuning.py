"""Tunes a sweep's methods before they are compared, in the run's `tuning/` folder, which is a run like any other.

The record, `tuning/search.json`, holds every configuration with its score, the chosen ones and the cost. While it
fits the sweep, nothing is tuned again.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from bench import console
from bench.errors import BenchError
from bench.execution import Executor
from bench.files import read_json, write_json
from bench.identity import digest
from bench.load import LoadedSweep
from bench.plan import resolved_sweep
from bench.preflight import missing_requirement
from bench.reporting import describe_run
from bench.search.candidates import Candidate, Candidates
from bench.search.choosing import mean_score, record
from bench.search.space import domains, readable
from bench.store import RunFolder
from bench.sweep import MethodSpec, Search
from bench.trial_spec import Trial

ALONE = {"asha": "stops trials", "pbt": "exchanges trials"}
"""Algorithms that act on running trials: only Ray Tune can, and a trial must be one process."""


class Go(Protocol):
    """Runs trials of a run to their end, with progress."""

    def __call__(self, trials: Sequence[Trial], run: RunFolder, executor: Executor | None = None) -> bool:
        """True where the user stopped it. `executor`: another one than the run's, which is given settled trials too."""


Candidates_ = dict[str, list[Candidate]]


class Tuning:
    """A sweep's tuning in the folder of its run.

    Args:
        loaded: a sweep with a `search`.
        run: where the comparison goes.
        executor_name: `--executor`.
        command: the command line, for the record.
        at_once: how many trials run at a time, likewise.

    Raises:
        BenchError: the search does not fit the sweep or this environment.
    """

    def __init__(self, loaded: LoadedSweep, run: RunFolder, executor_name: str, command: str = "", at_once: int = 1):
        assert loaded.sweep.search is not None
        self.loaded, self.search = loaded, loaded.sweep.search
        self.folder = run.tuning
        self.candidates = Candidates(loaded)
        self._about = (command, executor_name, at_once)
        self._path = self.folder.path / "search.json"
        _check_algorithm(loaded, executor_name)
        shared = [trial.identity for name in self.search.space for trial in self.candidates.make(name, 0, {}).trials]
        self._fingerprint = digest([self.search.model_dump(mode="json"), shared])

    def found(self) -> dict[str, Any] | None:
        """The record of an earlier call, where it answers this sweep."""
        kept = read_json(self._path)
        return kept if isinstance(kept, dict) and kept.get("fingerprint") == self._fingerprint else None

    def run(self, go: Go) -> dict[str, Any] | None:
        """Tunes what is not tuned yet.

        Args:
            go: runs trials.

        Returns:
            The record; None where the user stopped it.
        """
        kept = self.found()
        if kept is not None:
            return kept
        strategies: dict[str, Callable[[Go], Candidates_ | None]] = {
            "random": self._all_at_once,
            "optuna": self._in_rounds,
            "asha": self._all_at_once,
            "pbt": self._evolving,
        }
        tried = strategies[self.search.algorithm](go)
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

    # -- strategies -------------------------------------------------------------------------------------------------

    def _all_at_once(self, go: Go) -> Candidates_ | None:
        """Random search and ASHA: what is tried is known beforehand."""
        tried = {name: self.candidates.drawn(name) for name in self.search.space}
        trials = self.candidates.trials_of([each for found in tried.values() for each in found])
        self._write_plan(trials)
        executor: Executor | None = None
        if self.search.algorithm == "asha":
            from bench.execution.ray_search import Halving

            executor = Halving(self.search, tried)
        return None if go(trials, self.folder, executor) else tried

    def _in_rounds(self, go: Go) -> Candidates_ | None:
        """Optuna: a round of suggestions is run and told before the next one.

        Suggestions follow from the seed and what was told, so that a search taken up again makes the same ones, and
        finished trials are not run twice.
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
        tried: Candidates_ = {name: [] for name in search.space}
        for begin in range(0, search.samples, search.at_once):
            numbers = range(begin, min(begin + search.at_once, search.samples))
            for name, searcher in searchers.items():
                for number in numbers:
                    drawn = readable(search.space[name], searcher.suggest(str(number)) or {})
                    tried[name].append(self.candidates.make(name, number, drawn))
            together = self.candidates.trials_of([each for found in tried.values() for each in found])
            self._write_plan(together)
            latest = self.candidates.trials_of([tried[name][number] for name in tried for number in numbers])
            if go(latest, self.folder, None):
                return None
            for name, searcher in searchers.items():
                for number in numbers:
                    score = mean_score(self.folder, tried[name][number], search.metric)
                    told = {"score": score} if score is not None else None
                    searcher.on_trial_complete(str(number), told, error=told is None)
        return tried

    def _evolving(self, go: Go) -> Candidates_ | None:
        """Population based training: trials copy better ones and go on with changed settings."""
        from bench.execution.ray_evolution import Evolving

        founders = {name: self.candidates.drawn(name) for name in self.search.space}
        trials = self.candidates.trials_of([each for found in founders.values() for each in found])
        self._write_plan(trials)
        evolving = Evolving(self.search, founders)
        stopped = go(trials, self.folder, evolving)
        tried = evolving.members(self.folder)
        self._write_plan(self.candidates.trials_of([each for found in tried.values() for each in found]))
        return None if stopped else tried

    def _write_plan(self, trials: Sequence[Trial]) -> None:
        sweep = self.loaded.sweep.model_copy(update={"name": f"{self.loaded.sweep.name}-tuning"})
        about = describe_run(trials, sweep, *self._about)
        self.folder.write_plan(resolved_sweep(self.loaded), trials, **about)


def announce(kept: dict[str, Any]) -> None:
    """Says what was chosen."""
    for method in kept["methods"]:
        chosen = ", ".join(f"{name} {value}" for name, value in method["chosen"].items())
        count = console.plural(len(method["configurations"]), "configuration")
        console.note(f"tuned {method['variant']}: {chosen} (best of {count}, {method['score']:.3f})")


def _check_algorithm(loaded: LoadedSweep, executor_name: str) -> None:
    search: Search = loaded.sweep.search  # type: ignore[assignment]
    lacking = missing_requirement(("optuna>=4",)) if search.algorithm == "optuna" else None
    if lacking:
        raise BenchError(f"optuna {lacking}", "search.algorithm", "or write algorithm: random")
    if search.algorithm not in ALONE:
        return
    what = f"{search.algorithm} {ALONE[search.algorithm]} while they run"
    if executor_name != "ray":
        raise BenchError(f"{what}, which only Ray can", "search.algorithm", "leave out --executor, or take random")
    resources = loaded.sweep.resources
    if resources.workers > 1 or resources.zero:
        raise BenchError(f"{what}, which needs one process a trial", "search.algorithm", "take random or optuna")
