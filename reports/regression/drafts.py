"""One method of a run beside its baseline: each statistic with its evidence, or the reason why there is none."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from reports.formatting import listing, number, sentence
from reports.names import DONE, GOING, STOPPED
from reports.regression import measures
from reports.regression.baseline import Baseline, MethodBaseline, Statistic, rounded
from reports.regression.exact import Agreement, agreement
from reports.regression.verdict import FAILED, INCONCLUSIVE, NOT_COMPARABLE, MethodVerdict
from reports.statistics import evidence
from reports.statistics.comparison import shared_span
from reports.statistics.evidence import Evidence

LEAST_OVERLAP = 0.9
"""Least share of the baseline's stretch of the axis that a curve must cover to be compared with it."""

SAME_MEAN = 1e-3
"""Tolerance between two means of the same values that are stored in different precision."""


@dataclass
class Draft:
    """One measured method, before p-values are adjusted over all methods.

    Attributes:
        stopped: the verdict on a method that could not be measured.
        before, after: statistic -> seed -> value, of the baseline and of the run.
        evidence: statistic -> the result of its test.
        adjusted: statistic -> (adjusted p of a loss, adjusted p of a gain).
        prompts: prompt -> mean loss of the primary statistic on it, the largest first.
        censored: seeds that never reached the target.
    """

    variant: str
    entry: MethodBaseline
    stopped: MethodVerdict | None = None
    before: dict[str, dict[int, float]] = field(default_factory=dict)
    after: dict[str, dict[int, float]] = field(default_factory=dict)
    evidence: dict[str, Evidence] = field(default_factory=dict)
    adjusted: dict[str, tuple[float, float]] = field(default_factory=dict)
    agreement: Agreement | None = None
    crossed: tuple[float, float] | None = None
    prompts: dict[str, float] = field(default_factory=dict)
    censored: frozenset[int] = frozenset()


def draft_of(
    variant: str,
    entry: MethodBaseline,
    baseline: Baseline,
    curves: pd.DataFrame,
    evaluation: pd.DataFrame,
    trials: pd.DataFrame,
    untrained: bool,
    compare_points: bool,
    fewer_seeds: bool,
) -> Draft:
    """Measures one variant of a run beside its baseline.

    Args:
        entry: the variant's part of the baseline.
        curves, evaluation, trials: the run's frames, of all variants.
        untrained: whether the variant trains nothing in this run.
        compare_points: whether curves are compared point by point.
        fewer_seeds: whether seeds that the run did not plan may be missing.
    """
    draft = Draft(variant, entry)

    def stop(verdict: str, reason: str) -> Draft:
        draft.stopped = MethodVerdict(variant, verdict, reason)
        return draft

    own = trials[trials["variant"] == variant] if not trials.empty else trials
    broken, going = _unfinished(entry, own, fewer_seeds)
    if broken:
        return stop(FAILED, f"{sentence(broken)}.")
    if going:
        return stop(INCONCLUSIVE, f"{sentence(going)}: the run is still going.")
    rows = curves[(curves["variant"] == variant) & (curves["status"] == DONE)]
    if set(own["seed"].astype(int)) - set(rows["seed"].astype(int)):
        return stop(FAILED, "A trial is done and has no curve.")
    if untrained == entry.trains:
        return stop(
            NOT_COMPARABLE, f"{variant} {'trained in' if entry.trains else 'did not train in'} the baseline only."
        )
    scored = evaluation[evaluation["variant"] == variant] if not evaluation.empty else evaluation
    span = _overlap(entry, rows, baseline.axis)
    if span is None and entry.span is not None:
        return stop(NOT_COMPARABLE, _lengths(entry, rows, baseline.axis))
    after = _rounded(measures.measure(rows, scored, baseline.axis, span, entry.target, entry.primary))
    draft.before = {name: dict(figure.values) for name, figure in entry.statistics.items()}
    if span != entry.span:
        draft.before |= _cut(entry, span, baseline.axis)
    draft.censored = after.censored
    draft.after = {name: after.values.get(name, {}) for name in entry.statistics}
    bad = [name for name in entry.statistics if any(not math.isfinite(v) for v in draft.after[name].values())]
    gaps = [name for name, figure in entry.statistics.items() if figure.gate and not draft.after[name]]
    if bad or _any_not_finite(rows):
        names = listing(measures.words(name, baseline.axis) for name in bad) if bad else "a point of the curve"
        return stop(FAILED, f"NaN or infinite: {names}.")
    if gaps:
        return stop(FAILED, f"Not measured: {listing(measures.words(name, baseline.axis) for name in gaps)}.")
    torn = _torn(after, entry.primary)
    if torn:
        return stop(FAILED, f"Curve and evaluation of seed {listing(map(str, torn))} disagree: one of them is damaged.")
    pairs = after.prompts if span == entry.span else {}
    if compare_points:
        found = agreement(entry.curves, rows, baseline.axis)
        draft.agreement = found if found.points or found.words else None  # no seed in common
    if draft.agreement is not None and draft.agreement.equal:
        # Equal curves are compared over shared seeds; a seed of one side alone would add its own variation.
        for name in entry.statistics:
            shared = measures.on_both(draft.before[name], draft.after[name])
            draft.before[name], draft.after[name] = shared
    for name, figure in entry.statistics.items():
        if draft.after[name]:
            draft.evidence[name] = _evidence(entry, figure, name, draft.before[name], draft.after[name], pairs)
    _by_prompt(draft, pairs)
    return draft


def _torn(after: measures.Measured, primary: str) -> list[int]:
    """Seeds whose values by prompt do not average to the curve's value, though both are means of the same images."""
    found = []
    for seed, value in after.values.get(primary, {}).items():
        own = [of_seed[seed] for of_seed in after.prompts.values() if seed in of_seed]
        if own and not math.isclose(float(np.mean(own)), value, rel_tol=SAME_MEAN, abs_tol=SAME_MEAN):
            found.append(seed)
    return found


def _rounded(after: measures.Measured) -> measures.Measured:
    """The values rounded as the baseline stores its own, so that equal values have a difference of exactly zero."""
    values = {name: {seed: rounded(v) for seed, v in found.items()} for name, found in after.values.items()}
    prompts = {prompt: {seed: rounded(v) for seed, v in found.items()} for prompt, found in after.prompts.items()}
    return measures.Measured(values, prompts, after.span, after.censored)


def _unfinished(entry: MethodBaseline, own: pd.DataFrame, fewer_seeds: bool) -> tuple[list[str], list[str]]:
    """(clauses on broken or missing trials, clauses on unfinished ones), a clause a trial."""
    by_seed = {int(row["seed"]): row for row in own.to_dict("records")} if not own.empty else {}
    active = any(row["status"] == "running" for row in by_seed.values())
    broken, going = [], []
    for seed in sorted({*entry.seeds, *by_seed}):
        row = by_seed.get(seed)
        if row is None:
            if not (fewer_seeds and by_seed):
                broken.append(f"seed {seed} is missing")
        elif row["status"] in STOPPED:
            broken.append(broken_words(row))
        elif row["status"] in GOING:
            if active or row["status"] == "running":
                going.append(f"seed {seed} is {row['status']}")
            else:
                broken.append(f"seed {seed} was planned and did not run")
    return broken, going


def broken_words(row: Mapping[Any, Any]) -> str:
    """ "seed 0 failed (out of memory)"."""
    cause = row.get("cause")
    cause_words = f" ({cause.rstrip('.')})" if isinstance(cause, str) and cause else ""
    return f"seed {row['seed']} {row['status']}{cause_words}"


def _any_not_finite(rows: pd.DataFrame) -> bool:
    values = rows.loc[rows["metric"] == "reward", "value"]
    return bool(~np.isfinite(values.astype(float)).all())


def _overlap(entry: MethodBaseline, rows: pd.DataFrame, axis: str) -> tuple[float, float] | None:
    """The stretch of the axis that baseline and run cover, if it is at least `LEAST_OVERLAP` of the baseline's."""
    train = rows[(rows["metric"] == "reward") & (rows["split"] == "train")]
    own = shared_span(train, axis)
    if own is None or entry.span is None:
        return None
    low, high = max(own[0], entry.span[0]), min(own[1], entry.span[1])
    enough = high - low >= LEAST_OVERLAP * (entry.span[1] - entry.span[0])
    return (low, high) if enough else None


def _lengths(entry: MethodBaseline, rows: pd.DataFrame, axis: str) -> str:
    assert entry.span is not None
    end = rows.groupby("trial")[axis].max().min()
    return f"A curve ends at {number(end)} {axis.replace('_', ' ')}, the baseline's at {number(entry.span[1])}."


def _cut(entry: MethodBaseline, span: tuple[float, float] | None, axis: str) -> dict[str, dict[int, float]]:
    """The baseline's areas on a shorter stretch, from its stored points."""
    assert span is not None
    area = {}
    for seed, values in entry.curves.train.items():
        axis_points = entry.curves.axis[seed]  # rounded, so the ends of the span may lie just outside
        low, high = max(span[0], axis_points[0]), min(span[1], axis_points[-1])
        area[seed] = measures.normalised_area(axis_points, values, low, high)
    return {"area": {seed: value for seed, value in area.items() if value is not None}}


def _evidence(
    entry: MethodBaseline,
    figure: Statistic,
    name: str,
    before: Mapping[int, float],
    after: Mapping[int, float],
    pairs: Mapping[str, Mapping[int, float]],
) -> Evidence:
    sign = 1.0 if figure.direction == "higher" else -1.0
    if not entry.trains:  # it does not vary with the seed, so no test is needed
        loss = sign * (float(np.mean(list(before.values()))) - float(np.mean(list(after.values()))))
        certain = 0.0 if abs(loss) > figure.tolerance else 1.0
        return Evidence("paired", loss, 0.0, 0, certain if loss > 0 else 1.0, certain if loss < 0 else 1.0)
    losses = measures.seed_losses(before, after, figure.direction)
    if name == entry.primary and figure.prompts and pairs:
        losses = _paired_losses(figure.prompts, pairs) or losses
    if entry.test == "paired" and len(losses) >= evidence.SEEDS_FOR_PAIRING:
        return evidence.paired(list(losses.values()))
    return evidence.pooled(list(before.values()), list(after.values()), sign)


def _paired_losses(
    before: Mapping[str, Mapping[int, float]], after: Mapping[str, Mapping[int, float]]
) -> dict[int, float]:
    """Seed -> mean loss over the prompts that both have, whose images have the same noise on both sides."""
    prompts = [prompt for prompt in before if prompt in after]
    seeds = set.intersection(*(set(before[p]) & set(after[p]) for p in prompts)) if prompts else set()
    return {seed: float(np.mean([before[p][seed] - after[p][seed] for p in prompts])) for seed in sorted(seeds)}


def _by_prompt(draft: Draft, pairs: Mapping[str, Mapping[int, float]]) -> None:
    """Sets the loss on each prompt, and the interval of the loss over seeds and prompts."""
    before = draft.entry.statistics[draft.entry.primary].prompts
    prompts = [prompt for prompt in before if prompt in pairs]
    seeds = sorted(set.intersection(*(set(before[p]) & set(pairs[p]) for p in prompts))) if prompts else []
    if not seeds:
        return
    lost = np.array([[before[p][s] - pairs[p][s] for p in prompts] for s in seeds])
    order = np.argsort(-lost.mean(0), kind="stable")
    draft.prompts = {prompts[i]: float(lost[:, i].mean()) for i in order}
    if len(seeds) >= evidence.SEEDS_FOR_PAIRING and len(prompts) > 1 and draft.entry.trains:
        draft.crossed = evidence.crossed_interval(lost)
