"""Tuning in which running trials copy better ones: Ray Tune's population based training.

A member of the population is a chain of trial folders, its generations. Each but the first begins as a copy of another
member's curve and checkpoint and goes on with settings of its own; what was copied is in its `origin`, so that its cost
is billed once. A search that is taken up again goes on with the last generation of each member.
"""

import shutil
import tempfile
import warnings
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.build.trial_spec import Trial, spent
from bench.errors import LockedError, cause_of
from bench.plan.identity import identified
from bench.run.executors.ray_tune import fit, parallel, run_in_actor, session, spec_of
from bench.run.search.candidates import Candidate
from bench.run.search.halving import LOCK_SECONDS
from bench.run.search.space import mutations, readable
from bench.run.search.telling import Teller
from bench.run.settle import lost, settled
from bench.run.worker import described
from bench.store.files import read_json, write_json
from bench.store.run_folder import RunFolder
from bench.store.status import Status
from bench.store.trial_folder import TrialFolder
from bench.sweep.schema import Search

COPIED = ("curve.jsonl", "evaluation.parquet", "checkpoint", "samples")
SOURCE = "source.json"
"""In a checkpoint that Tune keeps: which trial it is of."""


class Evolving:
    """An executor for population based training (Jaderberg et al. 2017).

    Args:
        search: its interval, metric and spaces.
        founders: variant -> the population's first configurations.
        fingerprint: of the search: another one may have left its generations in the same folder.
    """

    def __init__(self, search: Search, founders: dict[str, list[Candidate]], fingerprint: str):
        self.search, self.founders, self.fingerprint = search, founders, fingerprint

    def execute(self, trials: Sequence[Trial], run: RunFolder, command: str, address: str | None = None) -> None:
        """See `bench.run.executors.Executor`; of the `latest` trials, settled ones are left as they are."""
        from ray import tune
        from ray.tune.schedulers import PopulationBasedTraining

        warnings.filterwarnings("ignore", message="Consider boosting PBT")  # our actors are not to be reused
        search, asked = self.search, {trial.key for trial in trials}
        # Copies that are made on the way are none of the trials that whoever calls this knows of.
        with settled(lambda: self._all(run), run), session(trials, run, address) as scratch:
            self._finish_exchanges(run)
            at_once = parallel(trials, address)
            for name, members in self.generations(run).items():
                numbers = [number for number, chain in enumerate(members) if self._goes_on(run, chain[-1], asked)]
                if not numbers:
                    continue
                group = [members[number][-1] for number in numbers]
                space = search.space[name]
                scheduler = PopulationBasedTraining(
                    time_attr="spent",
                    metric="value",
                    mode="max",
                    perturbation_interval=group[0].budget.limit * search.interval,
                    hyperparam_mutations={"member": {"values": mutations(space)}},
                    custom_explore_fn=partial(_inside, space=space),
                )
                starts = [(number, trial.key) for number, trial in zip(numbers, group, strict=True)]
                body = partial(_member, metric=search.metric, variant=name, search=self.fingerprint, starts=starts)
                configurations = [{"trial": trial.key, "values": self._values(name, trial)} for trial in group]
                param_space = {"member": tune.grid_search(configurations)}
                results = fit(group, run, command, at_once, scratch, body, scheduler, param_space)
                ends = {starts[_index(Path(result.path).name)][0]: result.error for result in results}
                self._end(run, name, ends)
            self._finish_exchanges(run)

    def parallel(self, trials: Sequence[Trial], address: str | None = None) -> int:
        """As many as fit."""
        return parallel(trials, address)

    def generations(self, run: RunFolder) -> dict[str, list[list[Trial]]]:
        """Variant -> for each member of its population, by number, its trials so far, the founder first."""
        found = {name: [[each.trials[0]] for each in own] for name, own in self.founders.items()}
        for name, members in found.items():
            for number, copies in _copies(run, name, self.fingerprint).items():
                members[number] += [_spec(folder) for folder in copies]
        return found

    def latest(self, run: RunFolder) -> list[Trial]:
        """What each member goes on with."""
        return [chain[-1] for members in self.generations(run).values() for chain in members]

    def members(self, run: RunFolder) -> dict[str, list[Candidate]]:
        """Everything that was trained, founders first, each as a candidate with the settings it had at its end."""
        found: dict[str, list[Candidate]] = {}
        for name, members in self.generations(run).items():
            trials = [chain[0] for chain in members] + [trial for chain in members for trial in chain[1:]]
            values = [self._values(name, trial) for trial in trials]
            found[name] = [
                Candidate(name, number, each, (trial,))
                for number, (each, trial) in enumerate(zip(values, trials, strict=True))
            ]
        return found

    def _values(self, variant: str, trial: Trial) -> dict[str, Any]:
        return {setting: trial.settings[setting] for setting in self.search.space[variant]}

    def _all(self, run: RunFolder) -> list[Trial]:
        return [trial for members in self.generations(run).values() for chain in members for trial in chain]

    def _goes_on(self, run: RunFolder, trial: Trial, asked: set[str]) -> bool:
        return trial.key in asked and not run.trial(trial.key).recorded_status().settled

    def _finish_exchanges(self, run: RunFolder) -> None:
        """Where there is a copy, and what it replaced was not yet ended."""
        for members in self.generations(run).values():
            for chain in members:
                for before, copy in pairwise(chain):
                    origin = (run.trial(copy.key).read().model_extra or {})["origin"]
                    with suppress(LockedError):  # `bench.run.settle` tells of it
                        _give_way(run.trial(before.key), _replaced(origin, before), self.fingerprint)

    def _end(self, run: RunFolder, variant: str, ends: dict[int, Exception | None]) -> None:
        """Of members that have no end of their own: by Tune's error, which is the trial's, or with the search.

        Args:
            ends: member -> what Tune could not go on by.
        """
        members = self.generations(run)[variant]
        for number, error in ends.items():
            trial, folder = members[number][-1], run.trial(members[number][-1].key)
            with suppress(LockedError):  # `bench.run.settle` tells of it
                if error is not None and folder.recorded_status().left_to_run:
                    with folder.lock(LOCK_SECONDS):
                        folder.write_status(Status.FAILED, _why(error, trial, folder))
                elif error is None and folder.recorded_status() == Status.RUNNING:
                    _give_way(folder, "ended with the search", self.fingerprint)


def _copies(run: RunFolder, variant: str, search: str) -> dict[int, list[TrialFolder]]:
    """Member -> its generations after the first, in order."""
    found: dict[int, list[tuple[int, TrialFolder]]] = {}
    for path in run.trials_path.glob("*/"):
        folder = TrialFolder(path)
        record = folder.read()
        member = record.model_extra or {}
        if member.get("population") == variant and record.search == search:
            found.setdefault(member["member"], []).append((member["generation"], folder))
    return {number: [folder for _, folder in sorted(own, key=lambda each: each[0])] for number, own in found.items()}


def _spec(folder: TrialFolder) -> Trial:
    return Trial.model_validate(folder.read().spec)


def _inside(config: dict[str, Any], space: Any) -> dict[str, Any]:
    """A configuration that PBT has changed, back within the space."""
    member = config["member"]
    return {**config, "member": {**member, "values": readable(space, member["values"])}}


def _index(trial_id: str) -> int:
    """Tune numbers its trials in the order of the grid, and keeps nothing else of one through an exchange."""
    return int(trial_id.rpartition("_")[2])


def _why(error: Exception, trial: Trial, folder: TrialFolder) -> str:
    from ray.exceptions import RayTaskError

    if isinstance(error, RayTaskError):
        return cause_of(error.cause)
    return lost(folder.path, trial.retries + 1)


def _member(
    config: dict[str, Any],
    run_path: str,
    scratch: str,
    command: str,
    call: str,
    metric: str,
    variant: str,
    search: str,
    starts: list[tuple[int, str]],
) -> None:
    """What an actor does for a member, from where Tune says that it stands.

    Its turn may end and come again in another process: it has no `call` to count attempts by, and Tune counts deaths.
    """
    from ray import tune

    run = RunFolder(Path(run_path))
    number, start = starts[_index(tune.get_context().get_trial_id())]
    checkpoint = tune.get_checkpoint()
    if checkpoint is None:  # of what an earlier call has left, the last point says where the member stands
        trial = spec_of(scratch, start)
        points = [point.point for point in run.trial(trial.key).read_curve()]
        told = points[-2] if len(points) > 1 else -1
    else:
        template = spec_of(scratch, config["member"]["trial"])
        wanted = identified(template, {**template.settings, **config["member"]["values"]})
        named = wanted.model_copy(update={"variant": f"{variant}-t{number:02d}"})
        with checkpoint.as_directory() as kept:
            trial, told = _standing(run, variant, search, number, spec_of(scratch, start), named, Path(kept))
    folder = run.trial(trial.key)
    teller = Teller(trial, metric, keep=lambda: _snapshot(trial, folder, Path(scratch)), told=told)
    run_in_actor(trial, run, command, scratch, observe=teller)


def _standing(
    run: RunFolder, variant: str, search: str, number: int, start: Trial, wanted: Trial, kept: Path
) -> tuple[Trial, int]:
    """What a member goes on with, its own trial or a changed copy of a better one, and the last point Tune knows of.

    Args:
        number: of the member.
        start: what it began this call with.
        wanted: with the settings that it is to have, called as the founder is.
        kept: what it is to go on from: its own, where it only waited for its turn or its process died.
    """
    source = read_json(kept / SOURCE)
    copies = _copies(run, variant, search).get(number, [])
    before = _spec(copies[-1]) if copies else start
    latest = run.trial(before.key)
    origin = (latest.read().model_extra or {}).get("origin") or {}
    begun = all(origin.get(key) == source[key] for key in ("trial", "point"))  # and died before its first own point
    if wanted.identity == before.identity and (begun or source["trial"] == latest.key):
        return before, source["point"]
    changed = wanted.model_copy(update={"variant": f"{wanted.variant}.{len(copies) + 1}"})
    folder = run.trial(changed.key)
    shutil.rmtree(folder.path, ignore_errors=True)  # of another search, or of an exchange that did not get to its end
    _copy(kept, folder.path)
    fields: dict[str, Any] = {"population": variant, "search": search, "member": number, "generation": len(copies) + 1}
    origin = {key: source[key] for key in ("trial", "point", "axes")}
    # The copy is a generation from here on: a member is never without one that can go on.
    folder.write_status(Status.PLANNED, **described(changed), **fields, origin=origin)
    with suppress(LockedError):  # its process is slow to go; `_finish_exchanges` sees to it
        _give_way(latest, _replaced(origin, before), search)
    return changed, source["point"]


def _replaced(origin: dict[str, Any], trial: Trial) -> str:
    axis = trial.budget.axis
    return f"gave way to a copy of {origin['trial']} at {spent(axis, origin['axes']):,g} {axis}"


def _give_way(folder: TrialFolder, why: str, search: str) -> None:
    if not folder.recorded_status().settled:
        with folder.lock(LOCK_SECONDS):
            folder.write_status(Status.PRUNED, f"{why}, by population based training", search=search)


def _snapshot(trial: Trial, folder: TrialFolder, scratch: Path) -> Any:
    """The trial as it is now, for Tune to hand to others: it may have gone on when they take it."""
    from ray.tune import Checkpoint

    place = Path(tempfile.mkdtemp(prefix="member-", dir=scratch))  # goes with the rest of Ray's
    _copy(folder.path, place)
    last = folder.read_curve()[-1]
    write_json(place / SOURCE, {"trial": trial.key, "point": last.point, "axes": last.axes})
    return Checkpoint.from_directory(str(place))


def _copy(source: Path, target: Path) -> None:
    """What a trial goes on from."""
    target.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        if (source / name).is_dir():
            shutil.copytree(source / name, target / name)
        elif (source / name).exists():
            shutil.copy2(source / name, target / name)
