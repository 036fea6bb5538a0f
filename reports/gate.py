"""The regression verdict: a run against a baseline.

A statistic has regressed when its loss is above its tolerance *and* the seeds show it: the p-value of a test over
seeds (`evidence.py`), adjusted by Holm's weighted procedure over all methods and statistics, is at most α. Each
method's primary statistic carries most of α; it alone can be inconclusive: when the seeds could not have shown the loss
that the baseline claims to detect, or when its loss is above the tolerance and they show nothing. What was not measured
is a failure, and what stands for something else is not compared. Plain data comes out; `gate_text.py` prints it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

from reports import evidence, measures
from reports.baseline import Baseline, MethodBaseline, Statistic, rounded
from reports.exact import RELATIVE, Agreement, agreement
from reports.formatting import listing, measured, number, plural
from reports.frame import BROKEN, DONE, GOING, untrained_variants

REGRESSION, FAILED, NOT_COMPARABLE, INCONCLUSIVE = "regression", "failed", "not comparable", "inconclusive"
BETTER, PASSED, IDENTICAL = "better", "no loss shown", "identical"
SEVERITY = (REGRESSION, FAILED, NOT_COMPARABLE, INCONCLUSIVE)
"""What does not pass, worst first."""

SHOWN = "shown only"
"""The verdict of a statistic that is not gated."""

Mode = Literal["auto", "exact", "statistical"]
MODES: tuple[str, ...] = ("auto", "exact", "statistical")

LEAST_OVERLAP = 0.9
"""Of the baseline's stretch of the axis; a curve that ends earlier is another comparison."""

POWER_SLACK = 0.005  # of the quadrature and of rounding in the file


@dataclass(frozen=True)
class Finding:
    """One statistic of one method, means over seeds.

    Attributes:
        loss: above zero is worse, in the statistic's unit.
        adjusted: Holm's p-value; None for what is not gated.
        detects: the loss that these seeds show with the baseline's power; of the primary statistic only.
        power: to show the loss that the baseline claims to detect; likewise.
    """

    statistic: str
    words: str
    primary: bool
    direction: str
    baseline: float
    run: float
    loss: float
    tolerance: float
    seen: evidence.Evidence
    adjusted: float | None
    detects: float | None
    power: float | None
    verdict: str


@dataclass(frozen=True)
class MethodVerdict:
    """One method.

    Attributes:
        reason: one sentence.
        agreement: with the baseline's curves, point by point; None where the machine or the versions are others.
        crossed: bootstrap interval of the primary loss over seeds and prompts, from five seeds on.
        prompts: prompt -> mean loss of the primary statistic on it, the worst first.
    """

    variant: str
    verdict: str
    reason: str
    findings: tuple[Finding, ...] = ()
    agreement: Agreement | None = None
    crossed: tuple[float, float] | None = None
    prompts: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Verdict:
    """The whole run. `verdict` is one of `SEVERITY`, or "passed"."""

    name: str
    reward: str
    verdict: str
    reason: str
    methods: tuple[MethodVerdict, ...]
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return self.verdict not in SEVERITY


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
        return Verdict(baseline.name, baseline.reward, verdict, reason, tuple(methods), tuple(notes))

    # A run in which nothing has begun cannot say everything about itself yet.
    others = differences({key: value for key, value in baseline.protocol.items() if key in protocol}, protocol)
    if others:
        return whole(NOT_COMPARABLE, f"Another protocol than the baseline's: {'; '.join(others)}.")
    elsewhere = differences(baseline.fingerprint, fingerprint)
    if mode == "exact" and elsewhere:
        return whole(NOT_COMPARABLE, f"Curves are equal only on a like machine: {'; '.join(elsewhere)}.")
    compare_points = mode != "statistical" and not elsewhere
    still = untrained_variants(curves) if not curves.empty else set()
    drafts = [
        _draft(variant, entry, baseline, curves, evaluation, trials, variant in still, compare_points, fewer_seeds)
        for variant, entry in baseline.methods.items()
    ]
    judged = [_judge(draft, baseline, mode) for draft in _adjusted(drafts, baseline)]
    notes = _notes(baseline, trials, elsewhere if mode == "auto" else [], settings or {})
    found = {method.verdict for method in judged}
    verdict = next((word for word in SEVERITY if word in found), "passed")
    return whole(verdict, _reason(verdict, judged), judged, notes)


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Where two nested mappings differ: "precision: fp32, now bf16"."""
    found = []
    for key in dict.fromkeys([*before, *after]):
        old, new = before.get(key), after.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += [f"{key}.{text}" for text in differences(old, new)]
        elif old != new:
            words = ("not set" if value is None else value for value in (old, new))
            found.append("{}: {}, now {}".format(key, *words))
    return found


# -- one method, before p-values are adjusted --------------------------------------------------------------------


@dataclass
class _Draft:
    variant: str
    entry: MethodBaseline
    stopped: MethodVerdict | None = None  # it could not be measured
    before: dict[str, dict[int, float]] = field(default_factory=dict)
    after: dict[str, dict[int, float]] = field(default_factory=dict)
    seen: dict[str, evidence.Evidence] = field(default_factory=dict)
    adjusted: dict[str, tuple[float, float]] = field(default_factory=dict)  # p of a loss, p of a gain
    agreement: Agreement | None = None
    crossed: tuple[float, float] | None = None
    prompts: dict[str, float] = field(default_factory=dict)


def _draft(
    variant: str,
    entry: MethodBaseline,
    baseline: Baseline,
    curves: pd.DataFrame,
    evaluation: pd.DataFrame,
    trials: pd.DataFrame,
    untrained: bool,
    compare_points: bool,
    fewer_seeds: bool,
) -> _Draft:
    draft = _Draft(variant, entry)

    def stop(verdict: str, reason: str) -> _Draft:
        draft.stopped = MethodVerdict(variant, verdict, reason)
        return draft

    own = trials[trials["variant"] == variant] if not trials.empty else trials
    broken, going = _unfinished(entry, own, fewer_seeds)
    if broken:
        return stop(FAILED, f"{_sentence(broken)}.")
    if going:
        return stop(INCONCLUSIVE, f"{_sentence(going)}: the run is still going.")
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
    draft.after = {name: after.values.get(name, {}) for name in entry.statistics}
    bad = [name for name in entry.statistics if any(not math.isfinite(v) for v in draft.after[name].values())]
    gaps = [name for name, figure in entry.statistics.items() if figure.gate and not draft.after[name]]
    if bad or _any_not_finite(rows):
        names = listing(measures.words(name, baseline.axis) for name in bad) if bad else "a point of the curve"
        return stop(FAILED, f"NaN or infinite: {names}.")
    if gaps:
        return stop(FAILED, f"Not measured: {listing(measures.words(name, baseline.axis) for name in gaps)}.")
    pairs = after.prompts if span == entry.span else {}
    for name, figure in entry.statistics.items():
        if draft.after[name]:
            draft.seen[name] = _evidence(entry, figure, name, draft.before[name], draft.after[name], pairs)
    _by_prompt(draft, pairs)
    if compare_points:
        draft.agreement = agreement(entry.curves, rows, baseline.axis)
    return draft


def _rounded(after: measures.Measured) -> measures.Measured:
    """As the baseline's values are, so that what is equal differs by nothing."""
    values = {name: {seed: rounded(v) for seed, v in found.items()} for name, found in after.values.items()}
    prompts = {prompt: {seed: rounded(v) for seed, v in found.items()} for prompt, found in after.prompts.items()}
    return measures.Measured(values, prompts, after.span)


def _unfinished(entry: MethodBaseline, own: pd.DataFrame, fewer_seeds: bool) -> tuple[list[str], list[str]]:
    """What went wrong, and what is not there yet, a clause a trial."""
    by_seed = {int(row["seed"]): row for row in own.to_dict("records")} if not own.empty else {}
    active = any(row["status"] == "running" for row in by_seed.values())
    broken, going = [], []
    for seed in sorted({*entry.seeds, *by_seed}):
        row = by_seed.get(seed)
        if row is None:
            if not (fewer_seeds and by_seed):
                broken.append(f"seed {seed} is missing")
        elif row["status"] in BROKEN:
            cause = row.get("cause")
            broken.append(f"seed {seed} {row['status']}" + (f" ({cause})" if isinstance(cause, str) and cause else ""))
        elif row["status"] in GOING:
            if active or row["status"] == "running":
                going.append(f"seed {seed} is {row['status']}")
            else:
                broken.append(f"seed {seed} was planned and did not run")
    return broken, going


def _any_not_finite(rows: pd.DataFrame) -> bool:
    values = rows.loc[rows["metric"] == "reward", "value"]
    return bool(~np.isfinite(values.astype(float)).all())


def _overlap(entry: MethodBaseline, rows: pd.DataFrame, axis: str) -> tuple[float, float] | None:
    """The stretch of the axis that both have seen, if it is nearly all of the baseline's."""
    train = rows[(rows["metric"] == "reward") & (rows["split"] == "train")]
    own = measures.shared_span(train, axis)
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
    area = {
        seed: measures.normalised_area(entry.curves.axis[seed], values, *span)
        for seed, values in entry.curves.train.items()
    }
    return {"area": {seed: value for seed, value in area.items() if value is not None}}


def _evidence(
    entry: MethodBaseline,
    figure: Statistic,
    name: str,
    before: Mapping[int, float],
    after: Mapping[int, float],
    pairs: Mapping[str, Mapping[int, float]],
) -> evidence.Evidence:
    sign = 1.0 if figure.direction == "higher" else -1.0
    if not entry.trains:  # no seed's luck is in it: one value says all
        loss = sign * (float(np.mean(list(before.values()))) - float(np.mean(list(after.values()))))
        certain = 0.0 if abs(loss) > figure.tolerance else 1.0
        return evidence.Evidence("paired", loss, 0.0, 0, certain if loss > 0 else 1.0, certain if loss < 0 else 1.0)
    losses = measures.seed_losses(before, after, figure.direction)
    if name == entry.primary and figure.prompts and pairs:
        losses = _paired_losses(figure.prompts, pairs) or losses
    if entry.test == "paired" and len(losses) >= evidence.SEEDS_FOR_PAIRING:
        return evidence.paired(list(losses.values()))
    return evidence.pooled(list(before.values()), list(after.values()), sign)


def _paired_losses(
    before: Mapping[str, Mapping[int, float]], after: Mapping[str, Mapping[int, float]]
) -> dict[int, float]:
    """seed -> mean loss over the prompts that both have; the noise of a prompt's images is the same on both sides."""
    prompts = [prompt for prompt in before if prompt in after]
    seeds = set.intersection(*(set(before[p]) & set(after[p]) for p in prompts)) if prompts else set()
    return {seed: float(np.mean([before[p][seed] - after[p][seed] for p in prompts])) for seed in sorted(seeds)}


def _by_prompt(draft: _Draft, pairs: Mapping[str, Mapping[int, float]]) -> None:
    """Which prompts lost most, and the interval that other prompts would allow too."""
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


# -- all methods together ----------------------------------------------------------------------------------------


def _adjusted(drafts: list[_Draft], baseline: Baseline) -> list[_Draft]:
    """Holm over the statistics that could be measured; the share of the others is not spent."""
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


def _judge(draft: _Draft, baseline: Baseline, mode: Mode) -> MethodVerdict:
    if draft.stopped is not None:
        return draft.stopped
    entry = draft.entry
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


def _finding(draft: _Draft, name: str, baseline: Baseline) -> Finding:
    entry, figure, seen = draft.entry, draft.entry.statistics[name], draft.seen[name]
    primary = name == entry.primary
    power = detects = None
    if primary:
        power, detects = _power(draft, baseline)
    verdict = SHOWN
    if name in draft.adjusted:
        loss, gain = draft.adjusted[name]
        if seen.loss > figure.tolerance and loss <= baseline.alpha:
            verdict = REGRESSION
        elif seen.loss < -figure.tolerance and gain <= baseline.alpha:
            verdict = BETTER
        elif primary and (seen.loss > figure.tolerance or (power or 0.0) < baseline.power - POWER_SLACK):
            verdict = INCONCLUSIVE
        else:
            verdict = PASSED
    before, after = (float(np.mean(list(side[name].values()))) for side in (draft.before, draft.after))
    adjusted = draft.adjusted[name][0] if name in draft.adjusted else None
    return Finding(
        name, measures.words(name, baseline.axis), primary, figure.direction, before, after, seen.loss,
        figure.tolerance, seen, adjusted, detects, power, verdict,
    )  # fmt: skip


def _power(draft: _Draft, baseline: Baseline) -> tuple[float, float | None]:
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
        return REGRESSION, f"{_sentence([_lost(worse[0])])}{more}."
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
        return BETTER, f"{_sentence([_won(better[0])])}{more}."
    changed = _sentence([_changed(primary)])
    sees = f"; a loss of {measured(primary.detects)} would have shown" if primary.detects is not None else ""
    return PASSED, f"{changed}{sees}."


def _lost(finding: Finding) -> str:
    return f"{_changed(finding)} ({_p(finding)}, tolerance {measured(finding.tolerance)})"


def _won(finding: Finding) -> str:
    return f"{_changed(finding)}, better than the tolerance of {measured(finding.tolerance)}"


def _changed(finding: Finding) -> str:
    return f"{finding.words} {measured(finding.baseline)} → {measured(finding.run)}"


def _p(finding: Finding) -> str:
    assert finding.adjusted is not None
    return "p < 0.001" if finding.adjusted < 1e-3 else f"p = {finding.adjusted:.3f}"


def _undecided(primary: Finding) -> str:
    if primary.loss > primary.tolerance and primary.seen.test != "none":
        return (
            f"{_sentence([_changed(primary)])}: a loss above the tolerance of {measured(primary.tolerance)} "
            f"that these seeds can neither show nor rule out ({_p(primary)}); run more seeds."
        )
    if primary.seen.test == "none":
        return "One seed on each side shows nothing; run more seeds."
    if primary.detects is None:
        return "The baseline has one seed and claims no power; save it with more."
    return f"With these seeds only a loss of {measured(primary.detects)} would have shown; run more seeds."


def _sentence(clauses: Sequence[str]) -> str:
    text = "; ".join(clauses)
    return text[:1].upper() + text[1:]


def _reason(verdict: str, methods: Sequence[MethodVerdict]) -> str:
    if verdict == "passed":
        equal = sum(method.verdict == IDENTICAL for method in methods)
        if equal == len(methods):
            return f"{plural(equal, 'method')} identical to the baseline."
        told = f", {equal} of them identical to the baseline" if equal else ""
        return f"No loss shown in {plural(len(methods), 'method')}{told}."
    return f"{listing(m.variant for m in methods if m.verdict == verdict)}: {verdict}."


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
