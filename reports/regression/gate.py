"""The regression verdict: a run against a baseline.

A statistic has regressed when its loss is above its tolerance *and* the seeds show it: the p-value of a test over
seeds (`evidence.py`), adjusted by Holm's weighted procedure over all methods and statistics, is at most α. Each
method's primary statistic carries most of α. It alone can be inconclusive: when the seeds could not have shown the loss
that the baseline claims to detect, or when its loss is above the tolerance and not significant. A statistic that was
not measured is a failure; a run with another protocol is not compared. `gate_text.py` prints the verdict.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports.formatting import capitalised, listing, p_value, plural, sentence
from reports.frame import untrained_variants
from reports.names import BROKEN
from reports.regression import measures
from reports.regression.baseline import Baseline, MethodBaseline
from reports.regression.drafts import Draft, broken_words, draft_of
from reports.regression.exact import RELATIVE, Agreement
from reports.regression.units import change, unit_of
from reports.regression.verdict import (
    BETTER,
    FAILED,
    IDENTICAL,
    INCONCLUSIVE,
    NOT_COMPARABLE,
    PASSED,
    REGRESSION,
    SEVERITY,
    SHOWN,
    MethodVerdict,
    Mode,
    RunVerdict,
    StatisticVerdict,
    differences,
)
from reports.statistics import evidence

POWER_SLACK = 0.005  # error of the quadrature, and of rounding in the baseline's file


def check(
    baseline: Baseline,
    curves: pd.DataFrame,
    evaluation: pd.DataFrame,
    trials: pd.DataFrame,
    protocol: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    mode: Mode = "auto",
    fewer_seeds: bool = False,
) -> RunVerdict:
    """Compares a run with a baseline and returns the verdict.

    Args:
        curves, evaluation, trials: the run's frames (`frame.py`); may be empty.
        protocol, fingerprint, settings: the run's; `Baseline` describes them.
        mode: "auto": curves equal to the baseline's, on a machine like its own, pass without a test; "exact": curves
            must be equal; "statistical": curves are not compared point by point.
        fewer_seeds: whether the run may have planned only some of the baseline's seeds.
    """

    def whole(
        verdict: str, reason: str, methods: Sequence[MethodVerdict] = (), notes: Sequence[str] = ()
    ) -> RunVerdict:
        return RunVerdict(
            baseline.name, baseline.reward, verdict, reason, tuple(methods), tuple(notes), baseline.power
        )  # fmt: skip

    # A run without a started trial does not know its hardware yet.
    unknown = {"hardware"} - set(protocol)
    others = differences({key: value for key, value in baseline.protocol.items() if key not in unknown}, protocol)
    if others:
        return whole(NOT_COMPARABLE, f"Another protocol than the baseline's: {'; '.join(others)}.")
    elsewhere = differences(baseline.fingerprint, fingerprint)
    if mode == "exact" and elsewhere:
        return whole(NOT_COMPARABLE, f"Curves are equal only on a like machine: {'; '.join(elsewhere)}.")
    compare_points = mode != "statistical" and not elsewhere
    untrained = untrained_variants(curves) if not curves.empty else set()
    drafts = [
        draft_of(
            variant, entry, baseline, curves, evaluation, trials, variant in untrained, compare_points, fewer_seeds
        )
        for variant, entry in baseline.methods.items()
    ]
    judged = [_judge(draft, baseline, mode) for draft in _adjusted(drafts, baseline)]
    judged += _failed_beside(baseline, trials)
    notes = _notes(baseline, trials, elsewhere if mode == "auto" else [], settings or {})
    found = {method.verdict for method in judged}
    verdict = next((word for word in SEVERITY if word in found), "passed")
    return whole(verdict, _reason(verdict, judged), judged, notes)


def _adjusted(drafts: list[Draft], baseline: Baseline) -> list[Draft]:
    """Sets the p-values adjusted by Holm's procedure over all measured statistics, which share all of α."""
    weights = baseline.shares()
    gated = [
        (draft, name)
        for draft in drafts
        if draft.stopped is None
        for name in draft.evidence
        if (draft.variant, name) in weights
    ]
    chosen = [weights[draft.variant, name] for draft, name in gated]
    losses = evidence.holm([draft.evidence[name].p for draft, name in gated], chosen)
    gains = evidence.holm([draft.evidence[name].p_gain for draft, name in gated], chosen)
    for (draft, name), loss, gain in zip(gated, losses, gains, strict=True):
        draft.adjusted[name] = (loss, gain)
    return drafts


def _failed_beside(baseline: Baseline, trials: pd.DataFrame) -> list[MethodVerdict]:
    """The verdicts on methods outside the baseline: only those with a failed trial have one."""
    if trials.empty:
        return []
    found = []
    for variant, own in trials[trials["status"].isin(BROKEN)].groupby("variant", sort=False):
        if variant not in baseline.methods:
            clauses = [broken_words(row) for row in own.to_dict("records")]
            found.append(MethodVerdict(str(variant), FAILED, f"{sentence(clauses)}. It is not in the baseline."))
    return found


def _judge(draft: Draft, baseline: Baseline, mode: Mode) -> MethodVerdict:
    if draft.stopped is not None:
        return draft.stopped
    entry = draft.entry
    if mode == "exact" and draft.agreement is None:
        return MethodVerdict(draft.variant, NOT_COMPARABLE, "No seed in common, so no curve can be compared.")
    findings = tuple(_finding(draft, name, baseline) for name in _order(entry) if name in draft.evidence)
    verdict, reason = _method_verdict(findings, baseline, draft.agreement, mode)
    notes = []
    if draft.agreement is not None and not draft.agreement.equal:
        notes.append(f"On the same machine and versions, {draft.agreement.words}: the change altered the numbers.")
    return MethodVerdict(
        draft.variant, verdict, reason, findings, draft.agreement, draft.crossed, draft.prompts, tuple(notes)
    )


def _order(entry: MethodBaseline) -> list[str]:
    return [entry.primary, *(name for name in entry.statistics if name != entry.primary)]


def _finding(draft: Draft, name: str, baseline: Baseline) -> StatisticVerdict:
    entry, figure, found = draft.entry, draft.entry.statistics[name], draft.evidence[name]
    primary = name == entry.primary
    power = detects = None
    if primary:
        power, detects = _power(draft, baseline)
    verdict = SHOWN
    # A run that repeats the baseline's curves has no random difference, so a difference in its costs is certain.
    certain = draft.agreement is not None and draft.agreement.equal
    if name in draft.adjusted:
        loss, gain = draft.adjusted[name]
        if found.loss > figure.tolerance and (certain or loss <= baseline.alpha):
            verdict = REGRESSION
        elif found.loss < -figure.tolerance and (certain or gain <= baseline.alpha):
            verdict = BETTER
        elif primary and (found.loss > figure.tolerance or (power or 0.0) < baseline.power - POWER_SLACK):
            verdict = INCONCLUSIVE
        else:
            verdict = PASSED
    before, after = _means(draft, name)
    adjusted = draft.adjusted[name][0] if name in draft.adjusted else None
    return StatisticVerdict(
        name, measures.words(name, baseline.axis), primary, figure.direction, before, after, found.loss,
        figure.tolerance, found, adjusted, detects, power, verdict, measures.axis_of(name, baseline.axis),
        bound=name == measures.TO_TARGET and bool(draft.censored), certain=certain,
    )  # fmt: skip


def _means(draft: Draft, name: str) -> tuple[float, float]:
    """The means of baseline and run over the seeds of the loss: where they are paired, those that both sides have."""
    before, after = draft.before[name], draft.after[name]
    if draft.evidence[name].test == "paired" and draft.entry.trains:
        before, after = measures.on_both(before, after)
    return float(np.mean(list(before.values()))), float(np.mean(list(after.values())))


def _power(draft: Draft, baseline: Baseline) -> tuple[float, float | None]:
    """(power to show the loss that the baseline claims to detect, loss that is shown with the baseline's power)."""
    entry = draft.entry
    figure, spread = entry.statistics[entry.primary], entry.spread
    if not entry.trains or spread == 0:
        return 1.0, figure.tolerance
    found = draft.evidence[entry.primary]
    if found.test == "none" or not math.isfinite(spread):
        return 0.0, None
    alpha = baseline.alpha * baseline.shares()[draft.variant, entry.primary]
    n, m = len(entry.seeds), len(draft.after[entry.primary])
    if found.test == "paired":
        n = m = found.degrees + 1
    factor = evidence.detectable_factor(figure.tolerance / spread, found.test, n, m, alpha, baseline.power)
    detects = factor * spread if math.isfinite(factor) else None
    if entry.detects is None:
        return 0.0, detects
    # The power is that of the test alone: a tolerance that was raised by hand does not call for more seeds.
    return evidence.expected_power(entry.detects / spread, 0.0, found.test, n, m, alpha), detects


def _method_verdict(
    findings: Sequence[StatisticVerdict], baseline: Baseline, agreement: Agreement | None, mode: Mode
) -> tuple[str, str]:
    worse = [finding for finding in findings if finding.verdict == REGRESSION]
    if worse:
        more = f"; {len(worse) - 1} more" if len(worse) > 1 else ""
        return REGRESSION, f"{capitalised(_lost(worse[0]))}{more}."
    if agreement is not None and mode == "exact" and not agreement.equal:
        return REGRESSION, f"{capitalised(agreement.words)}."
    if agreement is not None and agreement.equal:
        points = plural(agreement.points, "point")
        return IDENTICAL, f"Equal to the baseline at all {points} of its curves (relative tolerance {RELATIVE:g})."
    primary = next(finding for finding in findings if finding.primary)
    if primary.verdict == INCONCLUSIVE:
        return INCONCLUSIVE, _undecided(primary)
    better = [finding for finding in findings if finding.verdict == BETTER]
    if better:
        more = f"; {len(better) - 1} more" if len(better) > 1 else ""
        return BETTER, f"{capitalised(_won(better[0]))}{more}."
    changed = capitalised(_changed(primary))
    sees = (
        f"; a loss of {unit_of(primary).amount(primary.detects)} would have shown"
        if primary.detects is not None
        else ""
    )
    return PASSED, f"{changed}{sees}."


def _lost(finding: StatisticVerdict) -> str:
    by = "certain, as the curves are equal" if finding.certain else _p(finding)
    return f"{_changed(finding)} ({by}, tolerance {unit_of(finding).amount(finding.tolerance)})"


def _won(finding: StatisticVerdict) -> str:
    return f"{_changed(finding)}, better than the tolerance of {unit_of(finding).amount(finding.tolerance)}"


def _changed(finding: StatisticVerdict) -> str:
    return f"{finding.words} {change(finding)}"


def _p(finding: StatisticVerdict) -> str:
    assert finding.adjusted is not None
    text = p_value(finding.adjusted)
    return f"p < {text[1:]}" if text.startswith("<") else f"p = {text}"


def _undecided(primary: StatisticVerdict) -> str:
    unit = unit_of(primary)
    if primary.loss > primary.tolerance and primary.evidence.test != "none":
        return (
            f"{capitalised(_changed(primary))}: a loss above the tolerance of {unit.amount(primary.tolerance)} "
            f"that these seeds can neither show nor rule out ({_p(primary)}); run more seeds."
        )
    if primary.evidence.test == "none":
        return "One seed on each side shows nothing; run more seeds."
    if primary.detects is None:
        return "The baseline has one seed and claims no power; save it with more."
    return f"With these seeds only a loss of {unit.amount(primary.detects)} would have shown; run more seeds."


def _reason(verdict: str, methods: Sequence[MethodVerdict]) -> str:
    if verdict == "passed":
        equal = sum(method.verdict == IDENTICAL for method in methods)
        if equal == len(methods):
            return f"{plural(equal, 'method')} identical to the baseline."
        identical = f", {equal} of them identical to the baseline" if equal else ""
        return f"No loss shown in {plural(len(methods), 'method')}{identical}."
    worst = [method for method in methods if method.verdict == verdict]
    more = f" Likewise {listing(method.variant for method in worst[1:])}." if worst[1:] else ""
    return f"{worst[0].variant}: {worst[0].reason}{more}"


def _notes(
    baseline: Baseline, trials: pd.DataFrame, elsewhere: Sequence[str], settings: Mapping[str, Mapping[str, Any]]
) -> list[str]:
    notes = []
    if elsewhere:
        notes.append(f"Not compared point by point, as the machine is another: {'; '.join(elsewhere)}.")
    variants = list(dict.fromkeys(trials["variant"])) if not trials.empty else []
    new = [variant for variant in variants if variant not in baseline.methods]
    if new:
        notes.append(f"Not in the baseline, so not checked: {listing(new)}.")
    for variant in baseline.methods:
        changed = differences(baseline.settings.get(variant, {}), settings.get(variant, {}))
        if variant in settings and changed:
            notes.append(f"{variant} has other settings: {'; '.join(changed)}.")
    return notes
