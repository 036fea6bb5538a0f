"""Picks the best configuration of each method, and sums up the cost of the search."""

import math
from collections.abc import Sequence
from operator import itemgetter

from bench.errors import BenchError
from bench.run.search.candidates import Candidate
from bench.store.records import Point, TriedConfiguration, TunedMethod
from bench.store.run_folder import RunFolder
from bench.store.status import Status
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


def value_of(point: Point, metric: str) -> float:
    """The value of `search.metric` at a point of a curve."""
    return float(point.values["heldout" if metric == "heldout_reward" else "train"]["reward"])


def mean_score(run: RunFolder, candidate: Candidate, metric: str) -> float | None:
    """The mean over seeds of the trials' last value; None if a trial is not done or a value is not finite."""
    folders = [run.trial(trial.key) for trial in candidate.trials]
    curves = [folder.read_curve() if folder.recorded_status() == Status.DONE else [] for folder in folders]
    scores = [value_of(curve[-1], metric) if curve else math.nan for curve in curves]
    return sum(scores) / len(scores) if all(map(math.isfinite, scores)) else None


def record(run: RunFolder, search: Search, variant: str, candidates: Sequence[Candidate]) -> TunedMethod:
    """The record of a method's tuning, made once its trials have ended.

    Raises:
        BenchError: no configuration has finished.
    """
    rows = [
        TriedConfiguration(
            values=candidate.values,
            score=mean_score(run, candidate, search.metric),
            statuses=[run.trial(trial.key).read().status for trial in candidate.trials],
            trials=[trial.key for trial in candidate.trials],
        )
        for candidate in candidates
    ]
    finished = [(row.score, row) for row in rows if row.score is not None]
    if not finished:
        folder = run.trial(rows[0].trials[0])
        cause = folder.read().cause or folder.read().status
        do = f"`bench status {run.path}` lists them; change search.space.{variant}, or remove the cause"
        raise BenchError(f"no configuration of {variant} finished ({folder.key}: {cause})", "search", do)
    best_score, best = max(finished, key=itemgetter(0))
    statuses = [status for row in rows for status in row.statuses]
    return TunedMethod(
        variant=variant,
        chosen=best.values,
        score=best_score,
        configurations=rows,
        statuses={status: statuses.count(status) for status in sorted(set(statuses))},
        cost=cost(run, [key for row in rows for key in row.trials]),
    )


def cost(run: RunFolder, keys: Sequence[str]) -> dict[str, float]:
    """Axis -> the total that the trials had spent at the last points of their curves."""
    curves = [run.trial(key).read_curve() for key in keys]
    return {axis: sum((curve[-1].axes.get(axis, 0) for curve in curves if curve), 0.0) for axis in COSTS}
