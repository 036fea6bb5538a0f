"""Tuning in which running trials copy better ones: Ray Tune's population based training.

A member of the population is a chain of trial folders. Each begins as a copy of another member's curve and checkpoint
and goes on with settings of its own; what was copied is in its `origin`, so that its cost is billed once.
"""

import shutil
import tempfile
import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from bench.errors import LockedError
from bench.execution.ray_search import LOCK_SECONDS, Teller
from bench.execution.ray_tune import fit, parallel, session, spec_of
from bench.files import read_json, write_json
from bench.identity import identified
from bench.search.candidates import Candidate
from bench.search.space import domains, readable
from bench.store import RunFolder, TrialFolder
from bench.sweep import Distribution, Search
from bench.trial_spec import Trial

COPIED = ("curve.jsonl", "evaluation.parquet", "checkpoint", "samples")
SOURCE = "source.json"
"""In a checkpoint that Tune keeps: which trial it is of."""


class Evolving:
    """An executor for population based training (Jaderberg et al. 2017).

    Args:
        search: its interval, metric and spaces.
        founders: variant -> the population's first configurations.
    """

    def __init__(self, search: Search, founders: dict[str, list[Candidate]]):
        self.search, self.founders = search, founders

    def execute(self, trials: Sequence[Trial], run: RunFolder, command: str, address: str | None = None) -> None:
        """See `bench.execution.Executor`."""
        from ray import tune
        from ray.tune.schedulers import PopulationBasedTraining

        warnings.filterwarnings("ignore", message="Consider boosting PBT")  # our actors are not to be reused
        search, asked = self.search, {trial.key for trial in trials}
        with session(trials, run, address) as scratch:
            for name, founders in self.founders.items():
                own = [each for each in founders if each.trials[0].key in asked]
                if not own:
                    continue
                members = [{"trial": each.trials[0].key, "values": each.values} for each in own]
                scheduler = PopulationBasedTraining(
                    time_attr="spent",
                    metric="value",
                    mode="max",
                    perturbation_interval=own[0].trials[0].budget.limit * search.interval,
                    hyperparam_mutations={"member": {"values": domains(search.space[name])}},
                )
                space = {setting: each.model_dump(mode="json") for setting, each in search.space[name].items()}
                body = partial(_member, metric=search.metric, variant=name, space=space)
                group = [each.trials[0] for each in own]
                at_once = parallel(group, address)
                fit(group, run, command, at_once, scratch, body, scheduler, {"member": tune.grid_search(members)})
                for folder in _folders(run, name):
                    _give_way(folder, "ended with the search")

    def parallel(self, trials: Sequence[Trial], address: str | None = None) -> int:
        """As many as fit."""
        return parallel(trials, address)

    def members(self, run: RunFolder) -> dict[str, list[Candidate]]:
        """Everything that was trained, founders first, each as a candidate with the settings it had at its end."""
        found: dict[str, list[Candidate]] = {}
        for name, space in self.search.space.items():
            trials = [Trial.model_validate(folder.read()["spec"]) for folder in _folders(run, name)]
            found[name] = [
                Candidate(name, number, {setting: trial.settings[setting] for setting in space}, (trial,))
                for number, trial in enumerate(trials)
            ]
        return found


def _folders(run: RunFolder, variant: str) -> list[TrialFolder]:
    """The folders of a variant's population."""
    folders = [TrialFolder(path) for path in sorted(run.trials_path.glob("*")) if path.is_dir()]
    return [folder for folder in folders if _of_population(folder.read(), variant)]


def _of_population(record: dict[str, Any], variant: str) -> bool:
    return record.get("population") == variant and "spec" in record


def _member(
    config: dict[str, Any],
    run_path: str,
    scratch: str,
    command: str,
    call: str,
    metric: str,
    variant: str,
    space: dict[str, Any],
) -> None:
    """What an actor does for a member, from where Tune says that it stands."""
    from ray import tune

    from bench.worker import run_and_record

    run = RunFolder(Path(run_path))
    number = int(tune.get_context().get_trial_id().rpartition("_")[2])
    founder = spec_of(scratch, config["member"]["trial"])
    allowed = {setting: Distribution.model_validate(each) for setting, each in space.items()}
    values = readable(allowed, config["member"]["values"])
    checkpoint = tune.get_checkpoint()
    if checkpoint is None:
        trial = founder
        folder = run.trial(trial.key)
        if folder.recorded_status() == "planned":
            folder.write_status("planned", population=variant, member=number)
    else:
        with checkpoint.as_directory() as kept:
            trial, folder = _standing(run, variant, number, founder, values, Path(kept))
    teller = Teller(trial.budget, metric, keep=lambda: _snapshot(folder, Path(scratch)))
    for point in folder.read_curve():
        if checkpoint is None:
            teller(point)
        teller.told = max(teller.told, point["point"])
    try:
        run_and_record(trial, folder, command, call=call, observe=teller)
    except LockedError:
        return  # the other process records it


def _standing(
    run: RunFolder, variant: str, number: int, founder: Trial, values: dict[str, Any], kept: Path
) -> tuple[Trial, TrialFolder]:
    """The trial that a member goes on with: its own where it was only paused, else a changed copy of a better one."""
    source = read_json(kept / SOURCE)
    own = [folder for folder in _folders(run, variant) if folder.read().get("member") == number]
    latest = max(own, key=lambda folder: folder.read().get("generation", 0))
    before = Trial.model_validate(latest.read()["spec"])
    if source["trial"] == latest.key and all(before.settings[setting] == value for setting, value in values.items()):
        return before, latest
    _give_way(latest, f"gave way to a copy of {source['trial']} at {source['spent']:,g} {founder.budget.axis}")
    named = f"{variant}-t{number:02d}.{len(own)}"
    changed = identified(founder, {**founder.settings, **values}).model_copy(update={"variant": named})
    folder = run.trial(changed.key)
    folder.path.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        if (kept / name).is_dir():
            shutil.copytree(kept / name, folder.path / name, dirs_exist_ok=True)
        elif (kept / name).exists():
            shutil.copy2(kept / name, folder.path / name)
    origin = {"trial": source["trial"], "point": source["point"], "axes": source["axes"]}
    folder.write_status("planned", population=variant, member=number, generation=len(own), origin=origin)
    return changed, folder


def _give_way(folder: TrialFolder, why: str) -> None:
    if folder.recorded_status() == "running":
        with folder.lock(LOCK_SECONDS):
            folder.write_status("pruned", f"{why}, by population based training")


def _snapshot(folder: TrialFolder, scratch: Path) -> Any:
    """The trial as it is now, for Tune to hand to others: it may have gone on when they take it."""
    from ray.tune import Checkpoint

    from bench.budget import spent

    place = Path(tempfile.mkdtemp(prefix="member-", dir=scratch))  # goes with the rest of Ray's
    for name in COPIED:
        if (folder.path / name).is_dir():
            shutil.copytree(folder.path / name, place / name)
        elif (folder.path / name).exists():
            shutil.copy2(folder.path / name, place / name)
    last = folder.read_curve()[-1]
    axis = folder.read()["spec"]["budget"]["axis"]
    source = {"trial": folder.key, "point": last["point"], "axes": last["axes"], "spent": spent(axis, last["axes"])}
    write_json(place / SOURCE, source)
    return Checkpoint.from_directory(str(place))
