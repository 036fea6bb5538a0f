"""Runs of one comparison on several machines, as one run.

What decides a trial's numbers is in its name, so the same trial of two runs must have the same curve; where both got to
an end and the curves differ, that is a conflict and nothing is merged.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.errors import BenchError, NotComparableError
from bench.files import UNFINISHED
from bench.store import RunFolder
from bench.worker import SETTLED
from bench.yaml_source import read_yaml
from reports.frame import SECONDS
from reports.regression.verdict import differences

SHARED = ("protocol", "measures", "target")
"""Of `plan.json`: what must be the same in every run, or their numbers stand for different things."""

MACHINES_OWN = (*SECONDS, "peak_memory_bytes")
"""Axes that two machines never have alike."""

LEFT_BEHIND = (".lock", ".owner", UNFINISHED, "heartbeat.json", "workers")


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
        NotComparableError: the runs compare different things, or a trial's curves differ.
    """
    if out.exists():
        raise BenchError("holds a run already", out.label, "choose another --out")
    _refuse_others(runs)
    planned: dict[str, list[tuple[RunFolder, dict[str, Any]]]] = {}
    for run in runs:
        for row in run.planned():
            planned.setdefault(row["trial"], []).append((run, row))
    conflicts = [key for key, found in planned.items() if len({_ending(run, key) for run, _ in found} - {None}) > 1]
    if conflicts:
        more = f" and {len(conflicts) - 1} more" if len(conflicts) > 1 else ""
        holders = ", ".join(run.label for run, _ in planned[conflicts[0]])
        what = f"{conflicts[0]}{more} ended with different curves in {holders}"
        do = "the same trial must give the same numbers: compare the machines, and leave one of the runs out"
        raise NotComparableError(what, do=do)
    chosen = {key: max(found, key=lambda each: _reached(each[0], key)) for key, found in planned.items()}
    out.path.mkdir(parents=True, exist_ok=True)
    with out.lock():
        for key, (run, _) in chosen.items():
            source = run.trial(key).path
            if source.exists():
                ignored = shutil.ignore_patterns(*LEFT_BEHIND)
                shutil.copytree(source, out.trial(key).path, ignore=ignored, dirs_exist_ok=True)
        _write_plan(runs, out, [row for _, row in chosen.values()])
    return Merged(len(chosen), sum(len(found) > 1 for found in planned.values()))


def _refuse_others(runs: Sequence[RunFolder]) -> None:
    first = runs[0].about()
    for run in runs[1:]:
        about = run.about()
        others = differences({key: first.get(key) for key in SHARED}, {key: about.get(key) for key in SHARED})
        if others:
            what = f"is another comparison than {runs[0].label}: {'; '.join(others)}"
            raise NotComparableError(what, run.label, "merge runs of one comparison")
    known: dict[str, tuple[str, RunFolder]] = {}
    for run in runs:
        for row in run.planned():
            identity, where = known.setdefault(row["variant"], (row["identity"], run))
            if identity != row["identity"]:
                what = f"{row['variant']} is not trained as in {where.label}: its settings, code or model differ"
                do = "tune once, and run its stored sweep.yaml on the others; or call one of them another variant"
                raise NotComparableError(what, run.label, do)


def _ending(run: RunFolder, key: str) -> str | None:
    """The curve of a trial that got to an end, without what belongs to the machine; None where it did not."""
    folder = run.trial(key)
    if folder.read()["status"] not in SETTLED:
        return None
    curve = [
        (row["point"], row["values"], {axis: value for axis, value in row["axes"].items() if axis not in MACHINES_OWN})
        for row in folder.read_curve()
    ]
    return repr(curve)


def _reached(run: RunFolder, key: str) -> tuple[bool, int]:
    folder = run.trial(key)
    return folder.read()["status"] in SETTLED, len(folder.read_curve())


def _write_plan(runs: Sequence[RunFolder], out: RunFolder, rows: list[dict[str, Any]]) -> None:
    abouts = [run.about() for run in runs]
    together = {**abouts[0], "parallel": max(about["parallel"] for about in abouts)}
    together.pop("trials")
    out.write_planned(_sweep(runs), rows, **together)


def _sweep(runs: Sequence[RunFolder]) -> dict[str, Any]:
    """The first run's sweep with every run's seeds and methods."""
    sweeps = [read_yaml(run.sweep_path).plain() for run in runs]
    methods = {repr(sorted(entry.items(), key=str)): entry for sweep in sweeps for entry in sweep["methods"]}
    seeds = sorted({seed for sweep in sweeps for seed in sweep["seeds"]})
    return {**sweeps[0], "methods": list(methods.values()), "seeds": seeds}


def default_out(runs: Sequence[RunFolder]) -> Path:
    """Where a merged run goes unless it is said: beside the first, `NAME-merged`."""
    return runs[0].path.with_name(f"{runs[0].path.name}-merged")
