"""Runs of one comparison on several machines, as one run.

What decides a trial's numbers is in its name, so the same trial of two runs must have the same curve; where both got to
an end and the curves differ, that is a conflict and nothing is merged.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError, LockedError, NotComparableError, cause_of
from bench.store.checkpoints import DAMAGED
from bench.store.files import UNFINISHED
from bench.store.records import PlannedTrial
from bench.store.run_folder import RunFolder, TrialFolder
from bench.store.status import Status
from bench.sweep.load import LoadedSweep, Variant, load_sweep, variants_of
from reports.names import MACHINES_OWN
from reports.regression.verdict import differences

SHARED = ("protocol", "measures", "target")
"""Of `plan.json`: what must be the same in every run, or their numbers stand for different things."""

LEFT_BEHIND = (".lock", ".owner", UNFINISHED, "heartbeat.json", "workers", f"*{DAMAGED}")


@dataclass(frozen=True)
class Merged:
    """What `merge` did.

    Attributes:
        trials: of the merged run.
        shared: of them, how many several runs had.
    """

    trials: int
    shared: int


def merge(runs: Sequence[RunFolder], out: RunFolder) -> Merged:
    """Copies the trials of `runs` into `out`, each from the run in which it got furthest.

    Raises:
        BenchError: `out` holds a run already.
        LockedError: a trial is being trained. Its files say different things while they are copied.
        NotComparableError: the runs compare different things, or a trial's curves differ.
    """
    if out.exists():
        raise BenchError("holds a run already", out.label, "choose another --out")
    _refuse_others(runs)
    planned: dict[str, list[tuple[RunFolder, PlannedTrial]]] = {}
    for run in runs:
        for row in run.planned():
            planned.setdefault(row.trial, []).append((run, row))
    conflicts = [key for key, found in planned.items() if len({_ending(run, key) for run, _ in found} - {None}) > 1]
    if conflicts:
        more = f" and {len(conflicts) - 1} more" if len(conflicts) > 1 else ""
        holders = ", ".join(run.label for run, _ in planned[conflicts[0]])
        what = f"{conflicts[0]}{more} ended with different curves in {holders}"
        do = "the same trial must give the same numbers: compare the machines, and leave one of the runs out"
        raise NotComparableError(what, do=do)
    chosen = {key: max(found, key=lambda each: _reached(each[0], key)) for key, found in planned.items()}
    sources = {key: (run, run.trial(key)) for key, (run, _) in chosen.items() if run.trial(key).path.exists()}
    before = {key: source.stamps() for key, (_, source) in sources.items()}
    for run, source in sources.values():
        if source.read().status == Status.RUNNING:
            raise _going(run, source)
    out.path.mkdir(parents=True, exist_ok=True)
    with out.lock():
        for key, (run, source) in sources.items():
            _copy(run, source, before[key], out.trial(key).path)
        _write_plan(runs, out, [row for _, row in chosen.values()])
    return Merged(len(chosen), sum(len(found) > 1 for found in planned.values()))


def _copy(run: RunFolder, source: TrialFolder, before: tuple[int, ...], target: Path) -> None:
    """Copies a trial, and leaves nothing of it where it was begun meanwhile.

    Its lock is not taken: a run that is merged may lie where only reading is allowed.

    Args:
        before: the trial's stamps from when nobody was writing it.
    """
    left = (*LEFT_BEHIND, "checkpoint") if source.recorded_status() == Status.DONE else LEFT_BEHIND
    failure: OSError | None = None
    shutil.rmtree(target, ignore_errors=True)
    try:
        shutil.copytree(source.path, target, ignore=shutil.ignore_patterns(*left))
    except OSError as error:
        failure = error
    moved = source.stamps() != before
    if failure or moved:
        shutil.rmtree(target, ignore_errors=True)
    if moved:
        raise _going(run, source)
    if failure:
        # copytree gathers what went wrong as (from, to, why).
        why = str(failure.args[0][0][2]) if isinstance(failure, shutil.Error) else cause_of(failure)
        raise BenchError(f"{source.key} cannot be copied ({why})", run.label, "mend that and merge again") from failure


def _going(run: RunFolder, trial: TrialFolder) -> LockedError:
    do = "wait for it or stop it, then merge; `bench status` shows it"
    return LockedError(f"{trial.key} is being trained", run.label, do)


def _refuse_others(runs: Sequence[RunFolder]) -> None:
    first = runs[0].about()
    for run in runs[1:]:
        about = run.about()
        others = differences(*({key: getattr(plan, key) for key in SHARED} for plan in (first, about)))
        if others:
            what = f"is another comparison than {runs[0].label}: {'; '.join(others)}"
            raise NotComparableError(what, run.label, "merge runs of one comparison")
    known: dict[str, tuple[str, RunFolder]] = {}
    for run in runs:
        for row in run.planned():
            identity, where = known.setdefault(row.variant, (row.identity, run))
            if identity != row.identity:
                what = f"{row.variant} is not trained as in {where.label}: its settings, code or model differ"
                do = "tune once, and run its stored sweep.yaml on the others; or call one of them another variant"
                raise NotComparableError(what, run.label, do)


def _ending(run: RunFolder, key: str) -> str | None:
    """The curve of a trial that got to an end, without what belongs to the machine; None where it did not."""
    folder = run.trial(key)
    if not folder.read().status.settled:
        return None
    curve = [
        (point.point, point.values, {axis: spent for axis, spent in point.axes.items() if axis not in MACHINES_OWN})
        for point in folder.read_curve()
    ]
    return repr(curve)


def _reached(run: RunFolder, key: str) -> tuple[bool, int, int]:
    """Of two that got as far, the one with fewer damaged files is the further."""
    folder = run.trial(key)
    return folder.read().status.settled, len(folder.read_curve()), -len(folder.damage())


def _write_plan(runs: Sequence[RunFolder], out: RunFolder, rows: list[PlannedTrial]) -> None:
    abouts = [run.about() for run in runs]
    together = abouts[0].model_dump(exclude_unset=True, exclude={"version", "trials", "damage"})
    together["parallel"] = max(about.parallel for about in abouts)
    if methods := {name: facts for about in abouts for name, facts in about.methods.items()}:
        together["methods"] = methods
    out.write_planned(_sweep(runs), rows, **together)


def _sweep(runs: Sequence[RunFolder]) -> dict[str, Any]:
    """The first run's sweep with every run's seeds and methods.

    A variant of several runs is trained alike in all of them, so it is written once, however each of them wrote it.
    """
    sweeps = [load_sweep(run.sweep_path) for run in runs]
    methods: list[dict[str, Any]] = []
    known: set[str] = set()
    for sweep in sweeps:
        for entry, variants in _entries(sweep):
            new = [variant for variant in variants if variant.name not in known]
            methods += [entry] if len(new) == len(variants) else [_alone(variant) for variant in new]
            known |= {variant.name for variant in new}
    seeds = sorted({seed for sweep in sweeps for seed in sweep.sweep.seeds})
    return {**sweeps[0].root.plain(), "methods": methods, "seeds": seeds}


def _entries(loaded: LoadedSweep) -> list[tuple[dict[str, Any], list[Variant]]]:
    """The sweep's methods as they are written, each with the variants that its grid gives."""
    variants = variants_of(loaded.sweep, loaded.root)
    written = loaded.root.plain()["methods"]
    return [(entry, [v for v in variants if v.path == ("methods", index)]) for index, entry in enumerate(written)]


def _alone(variant: Variant) -> dict[str, Any]:
    """A variant as an entry of its own."""
    change = variant.sampler.model_dump(mode="json", exclude_none=True)
    return {"name": variant.method, "variant": variant.name, "settings": variant.settings, "sampler": change}


def default_out(runs: Sequence[RunFolder]) -> Path:
    """The default folder of a merged run: beside the first, `NAME-merged`."""
    return runs[0].path.with_name(f"{runs[0].path.name}-merged")
