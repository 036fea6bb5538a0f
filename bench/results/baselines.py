"""Reading and writing of baselines, and the inputs of the gate from a run's folder.

The inputs are frames, protocol, fingerprint, provenance and settings. `reports/regression/gate.py` gives the verdict.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import ValidationError

from bench.build.presentation import facts_of
from bench.errors import BenchError, TrialsFailedError
from bench.store.files import write_text
from bench.store.records import Provenance, WholePlan
from bench.store.run_folder import RunFolder
from bench.store.status import Status
from bench.sweep.variants import variant_name
from reports import frame
from reports.names import budget_column
from reports.regression.baseline import Baseline, detectable, make
from reports.regression.gate import check
from reports.regression.verdict import Mode, RunVerdict

NUMERICAL = ("python", "torch", "diffusers", "transformers", "peft", "numpy")
"""Python, and the packages whose versions may change the last digits of a number."""

WIDTH = 120
"""Columns of a line in a baseline's file."""


@dataclass(frozen=True)
class StoredRun:
    """A run's data for the gate, as `read_run` returns them.

    Attributes:
        curves: the validated frame of the curves.
        evaluation: the validated frame of the evaluations, one row per prompt and sample.
        trials: the validated frame of the trials, one row per trial.
        plan: the run's plan.
        protocol: everything that must agree with a baseline, or two numbers are not comparable.
        fingerprint: everything that must also agree for curves to be equal.
        provenance: command, commit, versions and hardware.
        settings: variant -> its settings and sampler in the sweep.
    """

    curves: pd.DataFrame
    evaluation: pd.DataFrame
    trials: pd.DataFrame
    plan: WholePlan
    protocol: dict[str, Any]
    fingerprint: dict[str, Any]
    provenance: dict[str, Any]
    settings: dict[str, dict[str, Any]]

    @property
    def axis(self) -> str:
        """The column of the budget's axis."""
        return budget_column(self.plan.budget.axis)


def read_run(run: RunFolder) -> StoredRun:
    """Reads everything that the gate needs of a run, finished or not.

    Raises:
        BenchError: the run's frames are invalid.
    """
    plan = run.whole_plan()
    curves, stored = run.gather()
    curves = frame.with_families(
        curves, {name: facts.family for name, facts in facts_of(plan.methods, plan.method_names).items()}
    )
    evaluation = run.evaluation(stored)
    sweep = run.sweep()
    trials = pd.DataFrame([trial.row() for trial in stored])
    axis = budget_column(plan.budget.axis)
    try:
        curves = frame.validate_curves(curves, axis) if len(curves) else frame.no_curves()
        evaluation = frame.validate_evaluation(evaluation)
        trials = frame.validate_trials(trials, curves)
    except ValueError as error:
        raise BenchError(str(error), str(run.path), "run the sweep again") from None
    if len(curves):
        curves = frame.with_statuses(curves, trials)
    records = [trial.record.provenance for trial in stored if trial.record.provenance]
    return StoredRun(
        curves=curves,
        evaluation=evaluation,
        trials=trials,
        plan=plan,
        protocol=_protocol(plan, sweep, records),
        fingerprint=_fingerprint(sweep, records),
        provenance=_provenance(plan, records),
        settings=_settings([trial.planned.variant for trial in stored], sweep),
    )


def check_run(run: RunFolder, baseline: Baseline, mode: Mode, fewer_seeds: bool) -> RunVerdict:
    """The gate's verdict on a stored run; see `reports.regression.gate.check`."""
    stored = read_run(run)
    return check(
        baseline,
        stored.curves,
        stored.evaluation,
        stored.trials,
        stored.protocol,
        stored.fingerprint,
        stored.settings,
        mode=mode,
        fewer_seeds=fewer_seeds,
    )


def baseline_of(
    run: RunFolder,
    primary: str = "area",
    primaries: Mapping[str, str] | None = None,
    alpha: float = 0.05,
    power: float = 0.8,
) -> Baseline:
    """A baseline from a run whose trials are all done; see `reports.regression.baseline.make`.

    Raises:
        TrialsFailedError: a trial is not done.
        BenchError: a figure is missing or not finite.
    """
    stored = read_run(run)
    undone = [row for row in stored.trials.to_dict("records") if row["status"] != Status.DONE]
    if undone or stored.curves.empty:
        what = f"{undone[0]['trial']} is {undone[0]['status']}" if undone else "no trial has a curve"
        more = f" and {len(undone) - 1} more are not done" if len(undone) > 1 else ""
        do = "a baseline is saved from a run whose trials are all done"
        raise TrialsFailedError(f"{what}{more}", str(run.path), do)
    try:
        return make(
            stored.curves,
            stored.evaluation,
            name=stored.plan.name,
            reward=stored.plan.reward,
            axis=stored.axis,
            target=stored.plan.target,
            protocol=stored.protocol,
            fingerprint=stored.fingerprint,
            provenance={"saved": datetime.now(UTC).strftime("%Y-%m-%d"), **stored.provenance},
            settings=stored.settings,
            primary=primary,
            primaries=primaries,
            alpha=alpha,
            power=power,
        )
    except ValueError as error:
        raise BenchError(str(error), str(run.path), "only a complete run can be a baseline") from None


def updated(before: Baseline, after: Baseline, tolerances: bool = False) -> Baseline:
    """A new baseline with an older one's choices: its tests, gates and tolerances.

    The smallest detectable difference is computed from the new spread over seeds and the resulting tolerance.

    Args:
        before: the older baseline.
        after: the new baseline, made with the primary statistics of `before`.
        tolerances: whether to use the new tolerances instead of the older ones.
    """
    methods = dict(after.methods)
    for variant in set(before.methods) & set(after.methods):
        old, entry = before.methods[variant], after.methods[variant]
        statistics = {
            name: figure.model_copy(
                update={"gate": old.statistics[name].gate}
                | ({} if tolerances else {"tolerance": old.statistics[name].tolerance})
            )
            if name in old.statistics
            else figure
            for name, figure in entry.statistics.items()
        }
        methods[variant] = entry.model_copy(update={"test": old.test, "statistics": statistics})
    baseline = after.model_copy(update={"methods": methods})
    for (variant, name), share in baseline.shares().items():
        entry = methods[variant]
        if name == entry.primary:
            figure, level = entry.statistics[name], after.alpha * share
            detects = detectable(figure, entry.trains, entry.test, len(entry.seeds), level, after.power)
            methods[variant] = entry.model_copy(update={"detects": detects})
    return baseline.model_copy(update={"methods": methods})


# -- the file ----------------------------------------------------------------------------------------------------


def read_baseline(path: Path) -> Baseline:
    """Reads and validates a baseline's file.

    Raises:
        BenchError: the file is missing, is no JSON, or is no baseline.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BenchError("there is no such file", str(path), "save one: bench baseline save RUN --out FILE") from None
    except (OSError, ValueError) as error:
        raise BenchError(f"cannot be read as JSON ({error})", str(path), "restore it, or save it again") from None
    try:
        return Baseline.model_validate(value)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        raise BenchError(f"is no baseline: {place}: {first['msg']}", str(path), "save it again") from None


def write_baseline(baseline: Baseline, path: Path) -> None:
    """Writes a baseline's file with short diffs: one line per list of numbers, keys in a fixed order."""
    value = baseline.model_dump(mode="json")
    for entry in value["methods"].values():
        for figure in entry["statistics"].values():
            if not figure["prompts"]:
                del figure["prompts"]
    write_file(path, f"{layout(value)}\n")


def write_file(path: Path, text: str) -> None:
    """Writes a text to a file that the user named, creating its folder.

    Raises:
        BenchError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise BenchError(f"cannot be written ({error.strerror})", str(path), "choose another file") from None


def layout(value: Any, indent: int = 0) -> str:
    """A value as JSON, with lists and mappings of plain values on one line each."""
    flat = json.dumps(value, ensure_ascii=False)
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    if not inner or len(flat) + indent <= WIDTH or not any(isinstance(item, dict | list) for item in inner):
        return flat
    space, end = " " * (indent + 2), " " * indent
    if isinstance(value, list):
        items = [layout(item, indent + 2) for item in value]
        return "[\n" + ",\n".join(f"{space}{item}" for item in items) + f"\n{end}]"
    pairs = [
        f"{space}{json.dumps(str(key), ensure_ascii=False)}: {layout(item, indent + 2)}" for key, item in value.items()
    ]
    return "{\n" + ",\n".join(pairs) + f"\n{end}}}"


# -- the gate's inputs from a run -----------------------------------------------------------------------------------


def _protocol(plan: WholePlan, sweep: Mapping[str, Any], records: Sequence[Provenance]) -> dict[str, Any]:
    """Everything that must agree, or two numbers are not comparable; without methods and their settings."""
    # Before a trial has begun, the hardware is unknown.
    machine = {"hardware": _hardware_class(sweep, records)} if records else {}
    return {**(plan.protocol or {}), **machine}


def _fingerprint(sweep: Mapping[str, Any], records: Sequence[Provenance]) -> dict[str, Any]:
    """Everything that must also agree for curves to be equal: machine, versions, threads and workers."""
    hardware = [record.hardware or {} for record in records]
    return {
        "cpu": _one({str(machine.get("cpu")) for machine in hardware}),
        "gpu": _one({str(machine.get("gpu")) for machine in hardware}) if sweep["resources"]["gpus"] > 0 else None,
        "threads": _one({str(record.threads) for record in records}),
        "workers": sweep["resources"]["workers"],
        "zero": sweep["resources"]["zero"],
        "versions": {name: _one({str((record.versions or {}).get(name)) for record in records}) for name in NUMERICAL},
    }


def _hardware_class(sweep: Mapping[str, Any], records: Sequence[Provenance]) -> str:
    """The GPU's name, or "CPU" without one: numbers of different CPUs are comparable."""
    if not sweep["resources"]["gpus"] > 0:
        return "CPU"
    names = {str((record.hardware or {}).get("gpu")) for record in records}
    return _one(names - {"None"}) or "CPU"


def _one(values: set[str]) -> str | None:
    """The value, or several joined by "and"; None if there is none."""
    return " and ".join(sorted(values)) or None


def _provenance(plan: WholePlan, records: Sequence[Provenance]) -> dict[str, Any]:
    first = records[0] if records else Provenance()
    return {
        "command": plan.command,
        "commit": first.commit,
        "dirty": any(record.dirty for record in records),
        "versions": first.versions or {},
        "hardware": {key: (first.hardware or {}).get(key) for key in ("cpu", "cores", "gpu")},
    }


def _settings(variants: Sequence[str], sweep: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Variant -> its settings and sampler in the sweep's entry; variants of a grid are left out."""
    entries = {variant_name(entry["name"], entry.get("variant")): entry for entry in sweep["methods"]}
    settings = {}
    for variant in dict.fromkeys(variants):
        entry = entries.get(variant)
        if entry is not None:
            settings[variant] = {"settings": entry.get("settings") or {}, "sampler": entry.get("sampler") or {}}
    return settings
