"""The content of `plan.json`, and its recovery from the trials' records if the file is damaged or missing."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.build.presentation import described
from bench.build.trial_spec import Trial
from bench.errors import BenchError
from bench.plan.protocol import features_of, measures_of, protocol_of
from bench.store.records import PlannedTrial, PlanRecord, TrialRecord, TuningRecord
from bench.sweep.yaml_source import read_yaml

RECOVERED = "it is rebuilt from the trials' records, without trials that had not begun; `bench run` writes it again"


def describe_run(
    trials: Sequence[Trial],
    sweep: Any,
    command: str,
    executor: str,
    parallel: int,
    tuning: TuningRecord | None = None,
) -> dict[str, Any]:
    """The fields of `plan.json` besides the trials; with them, a report needs nothing but the run's folder.

    Args:
        trials: the planned trials, at least one.
        sweep: an object with the sweep's `name` and `description`.
        command: the command line that started the run.
        executor: the name of the executor.
        parallel: the number of trials that run at a time.
        tuning: the record of the tuning, if one chose the methods' settings.
    """
    first = trials[0]
    return {
        "name": sweep.name,
        "description": sweep.description,
        "command": command,
        "executor": executor,
        "parallel": parallel,
        "budget": first.budget.model_dump(),
        "target": first.target,
        "reward": first.reward.label,
        "gold": first.gold.label if first.gold else None,
        "diversity": features_of(first),
        "prompts": {"train": list(first.prompts_train), "heldout": list(first.prompts_heldout)},
        "evaluation": _evaluation_text(first),
        "protocol": protocol_of(first),
        "measures": measures_of(first),
        "methods": described(trials),
        **({"tuning": tuning.without("version")} if tuning else {}),
    }


def recovered_plan(sweep_path: Path, records: Iterable[TrialRecord], what: str) -> PlanRecord | None:
    """The plan rebuilt from the trials' records and `sweep.yaml`; None if no record holds its trial's settings.

    Earlier versions of a sweep may have left several trials of one variant and seed; the latest is used.

    Args:
        sweep_path: the run's `sweep.yaml`.
        records: the record (`trial.json`) of every trial folder in the run.
        what: the damage of `plan.json`: "is missing".
    """
    latest_trials: dict[tuple[str, int], tuple[float, Trial]] = {}
    for record in records:
        try:
            trial = Trial.model_validate(record.spec)
        except ValueError:
            continue
        before, updated = latest_trials.get((trial.variant, trial.seed)), float(record.updated or 0.0)
        if before is None or before[0] < updated:
            latest_trials[trial.variant, trial.seed] = updated, trial
    if not latest_trials:
        return None
    trials = [trial for _, trial in latest_trials.values()]
    latest = max(updated for updated, _ in latest_trials.values())
    # Trials may have run concurrently, so `parallel` is 2: reports then do not compare their seconds.
    fields = describe_run(trials, _SweepName(sweep_path, trials[0]), f"bench run {sweep_path}", "unknown", parallel=2)
    rows = [row_of(trial) for trial in trials]
    damage = [f"plan.json {what}; {RECOVERED}"]
    return PlanRecord.model_validate({**fields, "written": latest, "damage": damage, "trials": rows})


def row_of(trial: Trial) -> PlannedTrial:
    """The plan's row of a trial."""
    return PlannedTrial(
        sweep=trial.sweep,
        trial=trial.key,
        method=trial.method,
        variant=trial.variant,
        seed=trial.seed,
        identity=trial.identity,
    )


def _evaluation_text(trial: Trial) -> str:
    evaluate, sampler = trial.evaluate, trial.evaluate.sampler
    counts = {split: len(prompts) for split, prompts in trial.evaluated.items()}
    heldout = f" and {counts['heldout']} held-out" if "heldout" in counts else ""
    images = "1 image" if evaluate.images == 1 else f"{evaluate.images} images"
    average = f", of a moving average of the adapter (decay {evaluate.average:g})" if evaluate.average else ""
    spacing = f", {sampler.spacing} spacing" if sampler.spacing else ""
    share = f", at {evaluate.scale:g} of the adapter’s strength" if evaluate.scale != 1 else ""
    return (
        f"{images} a prompt on {counts['train']} training{heldout} prompts{average}{share}; "
        f"DDIM with {sampler.steps} steps, guidance {sampler.guidance:g}, eta {sampler.eta:g}{spacing}; "
        f"the same noise (seed {evaluate.seed}) at every point, "
        "for every method and seed."
    )


class _SweepName:
    """The name and the description of a run's sweep, from `sweep.yaml` if it can be read."""

    def __init__(self, sweep_path: Path, trial: Trial):
        try:
            content = read_yaml(sweep_path).plain()
        except BenchError:
            content = None
        sweep = content if isinstance(content, dict) else {}
        self.name = str(sweep.get("name", trial.sweep))
        self.description = str(sweep.get("description") or "")
