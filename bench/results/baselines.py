"""Baselines on the disk, and what a run's folder says for the gate: protocol, fingerprint, provenance, settings.

The verdict itself is `reports/regression/gate.py`; nothing is judged here.
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
"""Packages whose versions may change a number's last digits."""

WIDTH = 120


@dataclass(frozen=True)
class Stored:
    """A run as the gate reads it."""

    curves: pd.DataFrame
    evaluation: pd.DataFrame
    trials: pd.DataFrame
    about: WholePlan
    protocol: dict[str, Any]
    fingerprint: dict[str, Any]
    provenance: dict[str, Any]
    settings: dict[str, dict[str, Any]]

    @property
    def axis(self) -> str:
        """The budget's column."""

        return budget_column(self.about.budget.axis)


def read_run(run: RunFolder) -> Stored:
    """Everything the gate needs of a run, finished or not.

    Raises:
        BenchError: its frames are damaged.
    """

    about = run.described()
    curves, stored = run.gather()
    curves = frame.with_families(
        curves, {name: facts.family for name, facts in facts_of(about.methods, about.method_names).items()}
    )
    by_prompt = run.evaluation(stored)
    sweep = run.sweep()
    trials = pd.DataFrame([trial.row() for trial in stored])
    axis = budget_column(about.budget.axis)
    try:
        curves = frame.validate_curves(curves, axis) if len(curves) else frame.no_curves()
        evaluation = frame.validate_evaluation(by_prompt)
        trials = frame.validate_trials(trials, curves)
    except ValueError as error:
        raise BenchError(str(error), str(run.path), "run the sweep again") from None
    if len(curves):
        curves = frame.with_statuses(curves, trials)
    records = [trial.record.provenance for trial in stored if trial.record.provenance]
    return Stored(
        curves=curves,
        evaluation=evaluation,
        trials=trials,
        about=about,
        protocol=_protocol(about, sweep, records),
        fingerprint=_fingerprint(sweep, records),
        provenance=_provenance(about, records),
        settings=_settings([trial.planned.variant for trial in stored], sweep),
    )


def check_run(run: RunFolder, baseline: Baseline, mode: Mode, fewer_seeds: bool) -> RunVerdict:
    """`reports.regression.gate.check` on a stored run."""
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
        TrialsFailedError: one is not.
        BenchError: a figure is missing or not finite.
    """

    stored = read_run(run)
    bad = [row for row in stored.trials.to_dict("records") if row["status"] != Status.DONE]
    if bad or stored.curves.empty:
        what = f"{bad[0]['trial']} is {bad[0]['status']}" if bad else "no trial has a curve"
        more = f" and {len(bad) - 1} more are not done" if len(bad) > 1 else ""
        raise TrialsFailedError(f"{what}{more}", str(run.path), "a baseline is saved from a run without a gap")
    try:
        return make(
            stored.curves,
            stored.evaluation,
            name=stored.about.name,
            reward=stored.about.reward,
            axis=stored.axis,
            target=stored.about.target,
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
        raise BenchError(str(error), str(run.path), "only a whole run can be a baseline") from None


def updated(before: Baseline, after: Baseline, tolerances: bool = False) -> Baseline:
    """The new figures with the old file's choices: test, gates and, unless new `tolerances` are wanted, those.

    `after` is made with the primary statistics of `before`. What the gate detects follows from its spread over seeds
    and the kept tolerance.
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
        kept = {"test": old.test, "statistics": statistics}
        methods[variant] = entry.model_copy(update=kept)
    kept_choices = after.model_copy(update={"methods": methods})
    for (variant, name), share in kept_choices.shares().items():
        entry = methods[variant]
        if name == entry.primary:
            figure, level = entry.statistics[name], after.alpha * share
            seen = detectable(figure, entry.trains, entry.test, len(entry.seeds), level, after.power)
            methods[variant] = entry.model_copy(update={"detects": seen})
    return kept_choices.model_copy(update={"methods": methods})


# -- the file ----------------------------------------------------------------------------------------------------


def read_baseline(path: Path) -> Baseline:
    """Reads and validates a baseline.

    Raises:
        BenchError: it is not there, is no JSON, or is no baseline.
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
    """Writes a baseline so that a diff of it can be read: a line a list of numbers, keys in the same order always."""
    value = baseline.model_dump(mode="json")
    for entry in value["methods"].values():
        for figure in entry["statistics"].values():
            if not figure["prompts"]:
                del figure["prompts"]
    write_file(path, f"{layout(value)}\n")


def write_file(path: Path, text: str) -> None:
    """Writes a result where the user wants it.

    Raises:
        BenchError: it cannot be written there.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise BenchError(f"cannot be written ({error.strerror})", str(path), "choose another file") from None


def layout(value: Any, indent: int = 0) -> str:
    """JSON with lists and mappings of plain values on one line where they fit."""
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


# -- what a run says of itself -----------------------------------------------------------------------------------


def _protocol(about: WholePlan, sweep: Mapping[str, Any], records: Sequence[Provenance]) -> dict[str, Any]:
    """What must be alike, or two numbers stand for different things. Methods and their settings are not among it."""
    # A run in which nothing has begun cannot say yet what it runs on.
    machine = {"hardware": _hardware_class(sweep, records)} if records else {}
    return {**(about.protocol or {}), **machine}


def _fingerprint(sweep: Mapping[str, Any], records: Sequence[Provenance]) -> dict[str, Any]:
    """What must be alike too, for curves to be equal: the machine, the versions, how arithmetic is shared."""
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
    """ "CPU", or the GPU's name: one kind of processor or the other, and which GPU, but not which CPU."""
    if not sweep["resources"]["gpus"] > 0:
        return "CPU"
    names = {str((record.hardware or {}).get("gpu")) for record in records}
    return _one(names - {"None"}) or "CPU"


def _one(values: set[str]) -> str | None:
    return " and ".join(sorted(values)) or None


def _provenance(about: WholePlan, records: Sequence[Provenance]) -> dict[str, Any]:
    first = records[0] if records else Provenance()
    return {
        "command": about.command,
        "commit": first.commit,
        "dirty": any(record.dirty for record in records),
        "versions": first.versions or {},
        "hardware": {key: (first.hardware or {}).get(key) for key in ("cpu", "cores", "gpu")},
    }


def _settings(variants: Sequence[str], sweep: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Variant -> the settings and the sampler that the sweep writes for it; a grid's variants are left out."""
    named = {variant_name(entry["name"], entry.get("variant")): entry for entry in sweep["methods"]}
    found = {}
    for variant in dict.fromkeys(variants):
        entry = named.get(variant)
        if entry is not None:
            found[variant] = {"settings": entry.get("settings") or {}, "sampler": entry.get("sampler") or {}}
    return found
