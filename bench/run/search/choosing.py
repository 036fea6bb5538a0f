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
    """Mean over seeds; None where one of them has no end, or is not finite."""
    scores = [score(run.trial(trial.key), metric) for trial in candidate.trials]
    known = [value for value in scores if value is not None and math.isfinite(value)]
    return sum(known) / len(known) if len(known) == len(scores) else None


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
    """Sums over trials of what each spent itself: one that began as another's copy inherits nothing of its bill."""
    sums = dict.fromkeys(COSTS, 0.0)
    for key in keys:
        folder = run.trial(key)
        curve = folder.read_curve()
        inherited = ((folder.read().model_extra or {}).get("origin") or {}).get("axes", {})
        for axis in sums if curve else ():
            sums[axis] += curve[-1].axes.get(axis, 0) - inherited.get(axis, 0)
    return sums
