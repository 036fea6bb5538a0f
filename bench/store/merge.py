"""Merging of runs: the trials of one comparison that ran on several machines become one run.

A trial's name holds a hash of everything that decides its numbers, so the same trial must have the same curve in every
run. If a trial ended in two runs with different curves, that is a conflict and nothing is merged.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError, LockedError, NotComparableError, cause_of
from bench.store.checkpoints import DAMAGED
from bench.store.files import UNFINISHED
from bench.store.heartbeat import HEARTBEAT
from bench.store.records import PlannedTrial
from bench.store.run_folder import RunFolder, TrialFolder
from bench.store.status import Status
from bench.sweep.load import LoadedSweep, Variant, load_sweep, variants_of
from reports.names import MACHINES_OWN
from reports.regression.verdict import differences

SHARED = ("protocol", "measures", "target")
"""Fields of `plan.json` that must agree between runs; otherwise their numbers are not comparable."""

NOT_COPIED = (".lock", ".owner", UNFINISHED, HEARTBEAT, "workers", f"*{DAMAGED}")


@dataclass(frozen=True)
class Merged:
    """The result of `merge`.

    Attributes:
        trials: the number of trials of the merged run.
        shared: the number of these that more than one run had.
    """

    trials: int
    shared: int


def merge(runs: Sequence[RunFolder], out: RunFolder) -> Merged:
    """Copies the trials of `runs` into `out`, each from the run in which it got furthest.

    Raises:
        BenchError: `out` holds a run already, or a trial cannot be copied.
        LockedError: a trial is being trained; its files would not agree with each other while they are copied.
        NotComparableError: the runs belong to different comparisons, or a trial ended with different curves.
    """
    if out.exists():
        raise BenchError("holds a run already", out.label, "choose another --out")
    _refuse_other_comparisons(runs)
    planned: dict[str, list[tuple[RunFolder, PlannedTrial]]] = {}
    for run in runs:
        for row in run.planned():
            planned.setdefault(row.trial, []).append((run, row))
    conflicts = [
        key for key, copies in planned.items() if len({_final_curve(run, key) for run, _ in copies} - {None}) > 1
    ]
    if conflicts:
        more = f" and {len(conflicts) - 1} more" if len(conflicts) > 1 else ""
        holders = ", ".join(run.label for run, _ in planned[conflicts[0]])
        what = f"{conflicts[0]}{more} ended with different curves in {holders}"
        do = "the same trial must give the same numbers: compare the machines, and leave one of the runs out"
        raise NotComparableError(what, do=do)
    chosen = {key: max(copies, key=lambda copy: _reached(copy[0], key)) for key, copies in planned.items()}
    sources = {key: (run, run.trial(key)) for key, (run, _) in chosen.items() if run.trial(key).path.exists()}
    before = {key: source.stamps() for key, (_, source) in sources.items()}
    for run, source in sources.values():
        if source.read().status == Status.RUNNING:
            raise _being_trained(run, source)
    out.path.mkdir(parents=True, exist_ok=True)
    with out.lock():
        for key, (run, source) in sources.items():
            _copy(run, source, before[key], out.trial(key).path)
        _write_plan(runs, out, [row for _, row in chosen.values()])
    return Merged(len(chosen), sum(len(copies) > 1 for copies in planned.values()))


def _copy(run: RunFolder, source: TrialFolder, before: tuple[object, ...], target: Path) -> None:
    """Copies a trial; if the trial has changed in the meantime, the copy is removed.

    The trial's lock is not taken: the merged run may lie in a folder that is read-only here.

    Args:
        before: the trial's stamps (`TrialFolder.stamps`) from before the copy, when no process was writing it.

    Raises:
        LockedError: a process has begun to write the trial.
        BenchError: a file cannot be copied.
    """
    ignored = (*NOT_COPIED, "checkpoint") if source.recorded_status() == Status.DONE else NOT_COPIED
    failure: OSError | None = None
    shutil.rmtree(target, ignore_errors=True)
    try:
        shutil.copytree(source.path, target, ignore=shutil.ignore_patterns(*ignored))
    except OSError as error:
        failure = error
    changed = source.stamps() != before
    if failure or changed:
        shutil.rmtree(target, ignore_errors=True)
    if changed:
        raise _being_trained(run, source)
    if failure:
        # copytree collects its errors as (source, target, reason).
        why = str(failure.args[0][0][2]) if isinstance(failure, shutil.Error) else cause_of(failure)
        raise BenchError(f"{source.key} cannot be copied ({why})", run.label, "mend that and merge again") from failure


def _being_trained(run: RunFolder, trial: TrialFolder) -> LockedError:
    do = "wait for it or stop it, then merge; `bench status` shows it"
    return LockedError(f"{trial.key} is being trained", run.label, do)


def _refuse_other_comparisons(runs: Sequence[RunFolder]) -> None:
    first = runs[0].plan_record()
    for run in runs[1:]:
        others = differences(*({key: getattr(plan, key) for key in SHARED} for plan in (first, run.plan_record())))
        if others:
            what = f"is another comparison than {runs[0].label}: {'; '.join(others)}"
            raise NotComparableError(what, run.label, "merge runs of one comparison")
    identities: dict[str, tuple[str, RunFolder]] = {}
    for run in runs:
        for row in run.planned():
            identity, where = identities.setdefault(row.variant, (row.identity, run))
            if identity != row.identity:
                what = f"{row.variant} is not trained as in {where.label}: its settings, code or model differ"
                do = "tune once, and run its stored sweep.yaml on the others; or call one of them another variant"
                raise NotComparableError(what, run.label, do)


def _final_curve(run: RunFolder, key: str) -> str | None:
    """The curve of a settled trial, without the axes that depend on the machine; None if the trial is not settled."""
    folder = run.trial(key)
    if not folder.read().status.settled:
        return None
    curve = [
        (point.point, point.values, {axis: spent for axis, spent in point.axes.items() if axis not in MACHINES_OWN})
        for point in folder.read_curve()
    ]
    return repr(curve)


def _reached(run: RunFolder, key: str) -> tuple[bool, int, int]:
    """A sort key for how far a trial got; of equally long curves, the one with fewer damaged files ranks higher."""
    folder = run.trial(key)
    return folder.read().status.settled, len(folder.read_curve()), -len(folder.damage())


def _write_plan(runs: Sequence[RunFolder], out: RunFolder, rows: list[PlannedTrial]) -> None:
    plans = [run.plan_record() for run in runs]
    fields = plans[0].model_dump(exclude_unset=True, exclude={"version", "trials", "damage"})
    fields["parallel"] = max(plan.parallel for plan in plans)
    if methods := {name: facts for plan in plans for name, facts in plan.methods.items()}:
        fields["methods"] = methods
    out.write_planned(_merged_sweep(runs), rows, **fields)


def _merged_sweep(runs: Sequence[RunFolder]) -> dict[str, Any]:
    """The first run's sweep with the seeds and the methods of every run.

    A variant that several runs share is trained alike in all of them, so the first run's entry for it is used.
    """
    sweeps = [load_sweep(run.sweep_path) for run in runs]
    methods: list[dict[str, Any]] = []
    names: set[str] = set()
    for sweep in sweeps:
        for entry, variants in _entries(sweep):
            new = [variant for variant in variants if variant.name not in names]
            methods += [entry] if len(new) == len(variants) else [_single_entry(variant) for variant in new]
            names |= {variant.name for variant in new}
    seeds = sorted({seed for sweep in sweeps for seed in sweep.sweep.seeds})
    return {**sweeps[0].root.plain(), "methods": methods, "seeds": seeds}


def _entries(loaded: LoadedSweep) -> list[tuple[dict[str, Any], list[Variant]]]:
    """The entries of a sweep's `methods` as written, each with its variants (several if it has a grid)."""
    variants = variants_of(loaded.sweep, loaded.root)
    written = loaded.root.plain()["methods"]
    return [(entry, [v for v in variants if v.path == ("methods", index)]) for index, entry in enumerate(written)]


def _single_entry(variant: Variant) -> dict[str, Any]:
    """An entry of `methods` that gives only this variant."""
    change = variant.sampler.model_dump(mode="json", exclude_none=True)
    return {"name": variant.method, "variant": variant.name, "settings": variant.settings, "sampler": change}


def default_out(runs: Sequence[RunFolder]) -> Path:
    """The default folder of a merged run: `NAME-merged`, next to the first run's folder."""
    return runs[0].path.with_name(f"{runs[0].path.name}-merged")
