"""Which configuration wins, and what finding it cost."""

import math
from collections.abc import Sequence
from typing import Any

from bench.errors import BenchError
from bench.run.search.candidates import Candidate
from bench.store.records import Point
from bench.store.run_folder import RunFolder
from bench.store.status import Status
from bench.store.trial_folder import TrialFolder
from bench.sweep.schema import Search

COSTS = (
    "reward_queries",
    "nfe",
    "flops",
    "train_seconds",
    "wall_seconds",
    "device_seconds",
    "eval_queries",
    "eval_nfe",
)


def score(folder: TrialFolder, metric: str) -> float | None:
    """The trial's last value of `search.metric`; None where it has no end."""
    curve = folder.read_curve() if folder.recorded_status() == Status.DONE else []
    return value_of(curve[-1], metric) if curve else None


def value_of(point: Point, metric: str) -> float:
    """`search.metric` at a point of a curve."""
    return float(point.values["heldout" if metric == "heldout_reward" else "train"]["reward"])


def mean_score(run: RunFolder, candidate: Candidate, metric: str) -> float | None:
    """The mean over seeds of the last value; None where a trial is not done or its value is not finite."""
    folders = [run.trial(trial.key) for trial in candidate.trials]
    curves = [folder.read_curve() if folder.recorded_status() == "done" else [] for folder in folders]
    scores = [value_of(curve[-1], metric) if curve else math.nan for curve in curves]
    return sum(scores) / len(scores) if all(map(math.isfinite, scores)) else None


def record(run: RunFolder, search: Search, variant: str, candidates: Sequence[Candidate]) -> dict[str, Any]:
    """What is known of a method's tuning once its trials have ended.

    Returns:
        `configurations` (values, score, statuses, trials), `chosen` (its values), `score`, `trials` by status, and
        `cost` (axis -> sum over all its trials, pruned and failed ones included).

    Raises:
        BenchError: no configuration has finished.
    """
    rows: list[dict[str, Any]] = [
        {
            "values": candidate.values,
            "score": mean_score(run, candidate, search.metric),
            "statuses": [run.trial(trial.key).read().status for trial in candidate.trials],
            "trials": [trial.key for trial in candidate.trials],
        }
        for candidate in candidates
    ]
    finished = [row for row in rows if row["score"] is not None]
    if not finished:
        folder = run.trial(rows[0]["trials"][0])
        cause = folder.read().cause or folder.read().status
        do = f"`bench status {run.path}` lists them; widen search.space.{variant}, or mend the cause"
        raise BenchError(f"no configuration of {variant} finished ({rows[0]['trials'][0]}: {cause})", "search", do)
    best = max(finished, key=lambda row: row["score"])
    statuses = [status for row in rows for status in row["statuses"]]
    return {
        "variant": variant,
        "chosen": best["values"],
        "score": best["score"],
        "configurations": rows,
        "statuses": {status: statuses.count(status) for status in sorted(set(statuses))},
        "cost": cost(run, [key for row in rows for key in row["trials"]]),
    }


def cost(run: RunFolder, keys: Sequence[str]) -> dict[str, float]:
    """Axis -> the sum over the trials of what each had spent at the last point of its curve."""
    curves = [run.trial(key).read_curve() for key in keys]
    return {axis: sum((curve[-1].axes.get(axis, 0) for curve in curves if curve), 0.0) for axis in COSTS}
