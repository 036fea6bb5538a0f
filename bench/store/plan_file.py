"""`plan.json`: what a run's folder says of its trials, and how it is made again from their records where it is lost."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.build.presentation import described
from bench.build.trial_spec import Trial
from bench.errors import BenchError
from bench.plan.protocol import features_of, measures_of, protocol_of
from bench.store.records import PlannedTrial, PlanRecord, TrialRecord
from bench.sweep.yaml_source import read_yaml

RECOVERED = "it is made again from the trials' records, without those that had not begun; `bench run` writes it"


def describe_run(
    trials: Sequence[Trial],
    sweep: Any,
    command: str,
    executor: str,
    parallel: int,
    tuning: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What `plan.json` keeps beside the trials, so that a report needs the run's folder and nothing else.

    Args:
        tuning: the record of `bench.run.search`, where the methods' settings come from it.
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
        "evaluation": _evaluation_words(first),
        "protocol": protocol_of(first),
        "measures": measures_of(first),
        "methods": described(trials),
        **({"tuning": tuning} if tuning else {}),
    }


def recovered_plan(sweep_path: Path, records: Iterable[TrialRecord], what: str) -> PlanRecord | None:
    """The plan as the trials' records and `sweep.yaml` give it; None where no trial can say.

    Of several trials with one variant and seed, as versions of a sweep leave them, the last is taken.

    Args:
        sweep_path: the run's `sweep.yaml`.
        records: `trial.json` of every folder in the run.
        what: is the matter with the file.
    """
    found: dict[tuple[str, int], tuple[float, Trial]] = {}
    for record in records:
        try:
            trial = Trial.model_validate(record.spec)
        except ValueError:
            continue
        before, updated = found.get((trial.variant, trial.seed)), float(record.updated or 0.0)
        if before is None or before[0] < updated:
            found[trial.variant, trial.seed] = updated, trial
    if not found:
        return None
    trials = [trial for _, trial in found.values()]
    latest = max(updated for updated, _ in found.values())
    # Whether trials ran beside each other is not known any more, so their seconds are not compared.
    about = describe_run(trials, _Named(sweep_path, trials[0]), f"bench run {sweep_path}", "unknown", parallel=2)
    rows = [row_of(trial) for trial in trials]
    damage = [f"plan.json {what}; {RECOVERED}"]
    return PlanRecord.model_validate({**about, "written": latest, "damage": damage, "trials": rows})


def row_of(trial: Trial) -> PlannedTrial:
    """A trial as the plan lists it."""
    return PlannedTrial(
        sweep=trial.sweep,
        trial=trial.key,
        method=trial.method,
        variant=trial.variant,
        seed=trial.seed,
        identity=trial.identity,
    )


def _evaluation_words(trial: Trial) -> str:
    evaluate, sampler = trial.evaluate, trial.evaluate.sampler
    counts = {split: len(prompts) for split, prompts in trial.evaluated.items()}
    heldout = f" and {counts['heldout']} held-out" if "heldout" in counts else ""
    images = "1 image" if evaluate.images == 1 else f"{evaluate.images} images"
    return (
        f"{images} a prompt on {counts['train']} training{heldout} prompts; DDIM with {sampler.steps} steps, "
        f"guidance {sampler.guidance:g}, eta {sampler.eta:g}; the same noise (seed {evaluate.seed}) at every point, "
        "for every method and seed."
    )


class _Named:
    """What a run's sweep calls itself."""

    def __init__(self, sweep_path: Path, trial: Trial):
        try:
            found = read_yaml(sweep_path).plain()
        except BenchError:
            found = None
        sweep = found if isinstance(found, dict) else {}
        self.name = str(sweep.get("name", trial.sweep))
        self.description = str(sweep.get("description") or "")
