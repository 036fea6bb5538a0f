"""The verdict's words and shape, as plain data: one for a run, one for a method, one for a statistic."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from reports.regression.exact import Agreement
from reports.statistics.evidence import POWER, Evidence

REGRESSION, FAILED, NOT_COMPARABLE, INCONCLUSIVE = "regression", "failed", "not comparable", "inconclusive"
BETTER, PASSED, IDENTICAL = "better", "no loss shown", "identical"
SEVERITY = (REGRESSION, FAILED, NOT_COMPARABLE, INCONCLUSIVE)
"""What does not pass, worst first."""

SHOWN = "shown only"
"""The verdict of a statistic that is not gated."""

Mode = Literal["auto", "exact", "statistical"]


@dataclass(frozen=True)
class Finding:
    """One statistic of one method, means over seeds.

    Attributes:
        loss: above zero is worse, in the statistic's unit.
        adjusted: Holm's p-value; None for what is not gated.
        detects: the loss that these seeds show with the baseline's power; of the primary statistic only.
        power: to show the loss that the baseline claims to detect; likewise.
        certain: the curves are equal point by point, so that no seed's luck is in the difference.
        axis: that a cost is counted on, such as "flops"; "" for a reward.
        bound: `run` is a lower bound: a seed never reached the target, and all that it spent stands in.
    """

    statistic: str
    words: str
    primary: bool
    direction: str
    baseline: float
    run: float
    loss: float
    tolerance: float
    seen: Evidence
    adjusted: float | None
    detects: float | None
    power: float | None
    verdict: str
    axis: str = ""
    bound: bool = False
    certain: bool = False


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
    """The whole run. `verdict` is one of `SEVERITY`, or "passed"; `power` the baseline's."""

    name: str
    reward: str
    verdict: str
    reason: str
    methods: tuple[MethodVerdict, ...]
    notes: tuple[str, ...] = ()
    power: float = POWER

    @property
    def passed(self) -> bool:
        return self.verdict not in SEVERITY


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
