"""The regression verdict: a run against a baseline.

A statistic has regressed when its loss is above its tolerance *and* the seeds show it: the p-value of a test over
seeds (`evidence.py`), adjusted by Holm's weighted procedure over all methods and statistics, is at most α. Each
method's primary statistic carries most of α; it alone can be inconclusive: when the seeds could not have shown the loss
that the baseline claims to detect, or when its loss is above the tolerance and they show nothing. What was not measured
is a failure, and what stands for something else is not compared. Plain data comes out; `gate_text.py` prints it.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from reports.formatting import listing, plural, sentence
from reports.frame import untrained_variants
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
    Finding,
    MethodVerdict,
    Mode,
    Verdict,
    differences,
)
from reports.statistics import evidence

FAILURES = ("failed", "diverged", "interrupted")
"""Of `BROKEN`; skipped and pruned trials were meant to end so."""

POWER_SLACK = 0.005  # of the quadrature and of rounding in the file


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
) -> Verdict:
    """Holds a run against a baseline.

    Args:
        curves, evaluation, trials: the run's frames (`frame.py`); may be empty.
        protocol, fingerprint, settings: the run's, as the baseline has its own.
        mode: "auto": equal curves on a like machine pass without statistics, all else is tested; "exact": curves must
            be equal; "statistical": they are not compared.
        fewer_seeds: a run that planned only some of the baseline's seeds is taken as it is.
    """

    def whole(verdict: str, reason: str, methods: Sequence[MethodVerdict] = (), notes: Sequence[str] = ()) -> Verdict:
        return Verdict(
            baseline.name, baseline.reward, verdict, reason, tuple(methods), tuple(notes), baseline.power
        )  # fmt: skip

    # A run in which nothing has begun cannot say yet what it runs on.
    unsaid = {"hardware"} - set(protocol)
    others = differences({key: value for key, value in baseline.protocol.items() if key not in unsaid}, protocol)
    if others:
        return whole(NOT_COMPARABLE, f"Another protocol than the baseline's: {'; '.join(others)}.")
    elsewhere = differences(baseline.fingerprint, fingerprint)
    if mode == "exact" and elsewhere:
        return whole(NOT_COMPARABLE, f"Curves are equal only on a like machine: {'; '.join(elsewhere)}.")
    compare_points = mode != "statistical" and not elsewhere
    still = untrained_variants(curves) if not curves.empty else set()
    drafts = [
        draft_of(variant, entry, baseline, curves, evaluation, trials, variant in still, compare_points, fewer_seeds)
        for variant, entry in baseline.methods.items()
    ]
    judged = [_judge(draft, baseline, mode) for draft in _adjusted(drafts, baseline)]
    judged += _failed_beside(baseline, trials)
    notes = _notes(baseline, trials, elsewhere if mode == "auto" else [], settings or {})
    found = {method.verdict for method in judged}
    verdict = next((word for word in SEVERITY if word in found), "passed")
    return whole(verdict, _reason(verdict, judged), judged, notes)


def _adjusted(drafts: list[Draft], baseline: Baseline) -> list[Draft]:
    """Holm over the statistics that could be measured, which share all of α."""
    weights = baseline.shares()
    gated = [
        (draft, name)
        for draft in drafts
        if draft.stopped is None
        for name in draft.seen
        if (draft.variant, name) in weights
    ]
    chosen = [weights[draft.variant, name] for draft, name in gated]
    losses = evidence.holm([draft.seen[name].p for draft, name in gated], chosen)
    gains = evidence.holm([draft.seen[name].p_gain for draft, name in gated], chosen)
    for (draft, name), loss, gain in zip(gated, losses, gains, strict=True):
        draft.adjusted[name] = (loss, gain)
    return drafts


def _failed_beside(baseline: Baseline, trials: pd.DataFrame) -> list[MethodVerdict]:
    """Methods that the baseline does not know are not judged, but a trial that failed is a failure wherever it is."""
    if trials.empty:
        return []
    found = []
    for variant, own in trials[trials["status"].isin(FAILURES)].groupby("variant", sort=False):
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
    findings = tuple(_finding(draft, name, baseline) for name in _order(entry) if name in draft.seen)
    verdict, reason = _method_verdict(findings, baseline, draft.agreement, mode)
    notes = []
    if draft.agreement is not None and not draft.agreement.equal:
        notes.append(f"On the same machine and versions, {draft.agreement.words}: the change altered the numbers.")
    return MethodVerdict(
        draft.variant, verdict, reason, findings, draft.agreement, draft.crossed, draft.prompts, tuple(notes)
    )


def _order(entry: MethodBaseline) -> list[str]:
    return [entry.primary, *(name for name in entry.statistics if name != entry.primary)]


def _finding(draft: Draft, name: str, baseline: Baseline) -> Finding:
    entry, figure, seen = draft.entry, draft.entry.statistics[name], draft.seen[name]
    primary = name == entry.primary
    power = detects = None
    if primary:
        power, detects = _power(draft, baseline)
    verdict = SHOWN
    # What repeats the baseline's curves bitwise on the same machine has no luck in it: its costs differ for a reason.
    certain = draft.agreement is not None and draft.agreement.equal
    if name in draft.adjusted:
        loss, gain = draft.adjusted[name]
        if seen.loss > figure.tolerance and (certain or loss <= baseline.alpha):
            verdict = REGRESSION
        elif seen.loss < -figure.tolerance and (certain or gain <= baseline.alpha):
            verdict = BETTER
        elif primary and (seen.loss > figure.tolerance or (power or 0.0) < baseline.power - POWER_SLACK):
            verdict = INCONCLUSIVE
        else:
            verdict = PASSED
    before, after = _means(draft, name)
    adjusted = draft.adjusted[name][0] if name in draft.adjusted else None
    return Finding(
        name, measures.words(name, baseline.axis), primary, figure.direction, before, after, seen.loss,
        figure.tolerance, seen, adjusted, detects, power, verdict, measures.axis_of(name, baseline.axis),
        bound=name == measures.TO_TARGET and bool(draft.censored), certain=certain,
    )  # fmt: skip


def _means(draft: Draft, name: str) -> tuple[float, float]:
    """Of the seeds that the loss is taken over: where they are paired, those that both sides have."""
    before, after = draft.before[name], draft.after[name]
    if draft.seen[name].test == "paired" and draft.entry.trains:
        before, after = measures.on_both(before, after)
    return float(np.mean(list(before.values()))), float(np.mean(list(after.values())))


def _power(draft: Draft, baseline: Baseline) -> tuple[float, float | None]:
    """To show the loss that the baseline claims to detect, and the loss that is shown with the baseline's power."""
    entry = draft.entry
    figure, spread = entry.statistics[entry.primary], entry.spread
    if not entry.trains or spread == 0:
        return 1.0, figure.tolerance
    seen = draft.seen[entry.primary]
    if seen.test == "none" or not math.isfinite(spread):
        return 0.0, None
    alpha = baseline.alpha * baseline.shares()[draft.variant, entry.primary]
    n, m = len(entry.seeds), len(draft.after[entry.primary])
    if seen.test == "paired":
        n = m = seen.degrees + 1
    factor = evidence.detectable_factor(figure.tolerance / spread, seen.test, n, m, alpha, baseline.power)
    detects = factor * spread if math.isfinite(factor) else None
    if entry.detects is None:
        return 0.0, detects
    # A tolerance that was raised by hand asks for no more seeds, so it is left out of the claim's power.
    return evidence.expected_power(entry.detects / spread, 0.0, seen.test, n, m, alpha), detects


def _method_verdict(
    findings: Sequence[Finding], baseline: Baseline, agreement: Agreement | None, mode: Mode
) -> tuple[str, str]:
    worse = [finding for finding in findings if finding.verdict == REGRESSION]
    if worse:
        more = f"; {len(worse) - 1} more" if len(worse) > 1 else ""
        return REGRESSION, f"{sentence([_lost(worse[0])])}{more}."
    if agreement is not None and mode == "exact" and not agreement.equal:
        return REGRESSION, f"{agreement.words[:1].upper()}{agreement.words[1:]}."
    if agreement is not None and agreement.equal:
        points = plural(agreement.points, "point")
        return IDENTICAL, f"Equal to the baseline at all {points} of its curves (relative tolerance {RELATIVE:g})."
    primary = next(finding for finding in findings if finding.primary)
    if primary.verdict == INCONCLUSIVE:
        return INCONCLUSIVE, _undecided(primary)
    better = [finding for finding in findings if finding.verdict == BETTER]
    if better:
        more = f"; {len(better) - 1} more" if len(better) > 1 else ""
        return BETTER, f"{sentence([_won(better[0])])}{more}."
    changed = sentence([_changed(primary)])
    sees = (
        f"; a loss of {unit_of(primary).amount(primary.detects)} would have shown"
        if primary.detects is not None
        else ""
    )
    return PASSED, f"{changed}{sees}."


def _lost(finding: Finding) -> str:
    by = "certain, as the curves are equal" if finding.certain else _p(finding)
    return f"{_changed(finding)} ({by}, tolerance {unit_of(finding).amount(finding.tolerance)})"


def _won(finding: Finding) -> str:
    return f"{_changed(finding)}, better than the tolerance of {unit_of(finding).amount(finding.tolerance)}"


def _changed(finding: Finding) -> str:
    return f"{finding.words} {change(finding)}"


def _p(finding: Finding) -> str:
    assert finding.adjusted is not None
    return "p < 0.001" if finding.adjusted < 1e-3 else f"p = {finding.adjusted:.3f}"


def _undecided(primary: Finding) -> str:
    unit = unit_of(primary)
    if primary.loss > primary.tolerance and primary.seen.test != "none":
        return (
            f"{sentence([_changed(primary)])}: a loss above the tolerance of {unit.amount(primary.tolerance)} "
            f"that these seeds can neither show nor rule out ({_p(primary)}); run more seeds."
        )
    if primary.seen.test == "none":
        return "One seed on each side shows nothing; run more seeds."
    if primary.detects is None:
        return "The baseline has one seed and claims no power; save it with more."
    return f"With these seeds only a loss of {unit.amount(primary.detects)} would have shown; run more seeds."


def _reason(verdict: str, methods: Sequence[MethodVerdict]) -> str:
    if verdict == "passed":
        equal = sum(method.verdict == IDENTICAL for method in methods)
        if equal == len(methods):
            return f"{plural(equal, 'method')} identical to the baseline."
        told = f", {equal} of them identical to the baseline" if equal else ""
        return f"No loss shown in {plural(len(methods), 'method')}{told}."
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
