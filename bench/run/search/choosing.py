"""Picks the best configurations of each method by each criterion, and sums up the cost of the search."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bench.errors import BenchError
from bench.run.search.axes import Curves, copies, differing, edges
from bench.run.search.candidates import Candidate, gold_row, require_plain
from bench.run.search.space import Space
from bench.store.records import Edges, GoldChoice, Point, StageResult, TriedConfiguration, TunedMethod
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

SCORES = {"reward": "score", "gold": "gold"}
"""Criterion -> the field of `StageResult` that it maximises."""


def value_of(point: Point, metric: str) -> float:
    """The value of `search.metric` at a point of a curve."""
    return float(point.values[_split(metric)]["reward"])


def mean_score(run: RunFolder, candidate: Candidate, metric: str) -> float | None:
    """The mean over seeds of the trials' last value; None if a trial is not done or a value is not finite."""
    return _mean(_curves(run, candidate), _split(metric), "reward", -1)


def result(run: RunFolder, search: Search, candidate: Candidate) -> StageResult:
    """What a candidate gave in the stage of its trials, by each criterion of the search."""
    curves, split = _curves(run, candidate), _split(search.metric)
    found = StageResult(
        score=mean_score(run, candidate, search.metric),
        statuses=[run.trial(trial.key).read().status for trial in candidate.trials],
        trials=[trial.key for trial in candidate.trials],
    )
    if "gold" in search.criteria:
        found.gold, found.gold_at_start = (_mean(curves, split, "gold", place) for place in (-1, 0))
    return found


def first_results(run: RunFolder, search: Search, candidates: Sequence[Candidate]) -> list[TriedConfiguration]:
    """The configurations of a method with their results in the first stage, once its trials have ended.

    Raises:
        BenchError: no configuration has finished.
    """
    rows = [
        TriedConfiguration(values=each.values, **result(run, search, each).model_dump(exclude_unset=True))
        for each in candidates
    ]
    for number, original in copies([_curves(run, each) for each in candidates]).items():
        rows[number].same_as = original
        rows[number].inert = differing(rows[original].values, rows[number].values)
    if "gold" in search.criteria:
        for row, each in zip(rows, candidates, strict=True):
            row.modified = list(each.modified)
        require_plain(candidates)
    _require_finished(run, candidates[0].variant, rows)
    return rows


def finalists(search: Search, rows: Sequence[TriedConfiguration]) -> list[int]:
    """The numbers of the configurations that are in the finals: the best by each criterion, without copies."""
    assert search.finals is not None
    best: set[int] = set()
    for criterion in search.criteria:
        allowed = {number: row for number, row in enumerate(rows) if row.same_as is None}
        if criterion == "reward":
            allowed = {number: row for number, row in allowed.items() if not row.modified}
        scores = {number: getattr(row, SCORES[criterion]) for number, row in allowed.items()}
        finite = {number: score for number, score in scores.items() if score is not None}
        best.update(sorted(finite, key=finite.__getitem__, reverse=True)[: search.finals.best])
    return sorted(best)


def record(run: RunFolder, search: Search, variant: str, rows: Sequence[TriedConfiguration]) -> TunedMethod:
    """The record of a method's tuning, made once the trials of all stages have ended.

    Raises:
        BenchError: no configuration has finished the last stage.
    """
    counted = [row for row in rows if row.same_as is None]
    judged = [row for row in counted if row.final or not search.finals]
    plain = [row for row in judged if not row.modified]
    _require_finished(run, variant, [row.stages[-1] for row in plain])
    score, best = _best(plain, "score")
    results = [stage for row in rows for stage in row.stages]
    statuses = [status for stage in results for status in stage.statuses]
    method = TunedMethod(
        variant=variant,
        chosen=best.values,
        score=score,
        configurations=list(rows),
        statuses={status: statuses.count(status) for status in sorted(set(statuses))},
        cost=cost(run, [key for stage in results for key in stage.trials]),
        counted=len(counted),
        edges=_edges(search.space[variant], rows, best.values),
    )
    if "gold" in search.criteria:
        method.by_gold = chosen_by_gold(variant, judged, best)
        if method.by_gold.chosen is not None:
            method.by_gold.edges = _edges(search.space[variant], rows, method.by_gold.chosen)
    return method


def chosen_by_gold(variant: str, judged: Sequence[TriedConfiguration], by_reward: TriedConfiguration) -> GoldChoice:
    """The choice by gold among configurations whose gold rose above the base model's.

    Args:
        variant: the method's variant.
        judged: the configurations, with their results in the last stage.
        by_reward: the choice by reward, which is not trained twice.
    """
    measured = [row for row in judged if None not in (row.stages[-1].gold, row.stages[-1].gold_at_start)]
    raised = [row for row in measured if row.stages[-1].gold > row.stages[-1].gold_at_start]  # type: ignore[operator]
    if not measured:
        cause = f"no configuration of {variant} has a finite gold"
        return GoldChoice(variant=gold_row(variant), chosen=None, gold=None, gold_at_start=None, cause=cause)
    gold, best = _best(raised or measured, "gold")
    start = best.stages[-1].gold_at_start
    choice = GoldChoice(variant=gold_row(variant), chosen=best.values, gold=gold, gold_at_start=start)
    if not raised:
        choice.chosen = None
        levels = f"{gold:.3f} at best, the base model's is {start:.3f}"
        choice.cause = f"no configuration of {variant} raised gold in the tuning: {levels}"
    elif best is by_reward:
        choice.cause = "gold chooses the configuration that reward chooses"
    return choice


def cost(run: RunFolder, keys: Sequence[str]) -> dict[str, float]:
    """Axis -> the total that the trials had spent at the last points of their curves."""
    curves = [run.trial(key).read_curve() for key in keys]
    return {axis: sum((curve[-1].axes.get(axis, 0) for curve in curves if curve), 0.0) for axis in COSTS}


def _split(metric: str) -> str:
    return "heldout" if metric == "heldout_reward" else "train"


def _curves(run: RunFolder, candidate: Candidate) -> Curves:
    folders = [run.trial(trial.key) for trial in candidate.trials]
    return [folder.read_curve() if folder.recorded_status() == Status.DONE else [] for folder in folders]


def _mean(curves: Curves, split: str, metric: str, place: int) -> float | None:
    """The mean over seeds of a value at a place of the curves; None if a curve is empty or a value is not finite."""
    values = [curve[place].values.get(split, {}).get(metric, math.nan) if curve else math.nan for curve in curves]
    return sum(values) / len(values) if all(map(math.isfinite, values)) else None


def _best(judged: Sequence[TriedConfiguration], field: str) -> tuple[float, TriedConfiguration]:
    """The highest value of a field in the last stage, and its configuration: the first one of several."""
    values = [(getattr(row.stages[-1], field), row) for row in judged]
    return max(((value, row) for value, row in values if value is not None), key=lambda pair: pair[0])


def _edges(space: Space, rows: Sequence[TriedConfiguration], chosen: Mapping[str, Any]) -> Edges:
    """The edges of a choice, without the settings that a copy of it shows to be inert there."""
    inert = {
        name for row in rows if row.same_as is not None and rows[row.same_as].values == chosen for name in row.inert
    }
    found = edges(space, [row.values for row in rows], chosen)
    return {name: edge for name, edge in found.items() if name not in inert}


def _require_finished(run: RunFolder, variant: str, results: Sequence[StageResult]) -> None:
    if any(stage.score is not None for stage in results):
        return
    folder = run.trial(results[0].trials[0])
    cause = folder.read().cause or folder.read().status
    do = f"`bench status {run.path}` lists them; change search.space.{variant}, or remove the cause"
    raise BenchError(f"no configuration of {variant} finished ({folder.key}: {cause})", "search", do)
