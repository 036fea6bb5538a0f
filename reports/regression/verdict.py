"""The verdicts on a run, on a method and on a statistic, as plain data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from reports.regression.exact import Agreement
from reports.statistics.evidence import POWER, Evidence

REGRESSION, FAILED, NOT_COMPARABLE, INCONCLUSIVE = "regression", "failed", "not comparable", "inconclusive"
BETTER, PASSED, IDENTICAL = "better", "no loss shown", "identical"
SEVERITY = (REGRESSION, FAILED, NOT_COMPARABLE, INCONCLUSIVE)
"""The verdicts that do not pass, worst first."""

SHOWN = "shown only"
"""The verdict of a statistic that is not gated."""

Mode = Literal["auto", "exact", "statistical"]


@dataclass(frozen=True)
class StatisticVerdict:
    """The verdict on one statistic of one method.

    Attributes:
        words: the statistic's name in a table.
        baseline, run: means over seeds.
        loss: in the statistic's unit; above zero is worse.
        tolerance: the largest loss that passes.
        evidence: the result of the test.
        adjusted: p-value of the loss, adjusted by Holm's procedure; None for a statistic that is not gated.
        detects: the loss that these seeds show with the baseline's power; None but for the primary statistic.
        power: of these seeds, to show the loss that the baseline claims to detect; None but for the primary statistic.
        axis: the axis of a cost, such as "flops"; "" for a reward.
        bound: whether `run` is a lower bound, as a seed never reached the target.
        certain: whether the curves are equal point by point, so that the difference is not random.
    """

    statistic: str
    words: str
    primary: bool
    direction: str
    baseline: float
    run: float
    loss: float
    tolerance: float
    evidence: Evidence
    adjusted: float | None
    detects: float | None
    power: float | None
    verdict: str
    axis: str = ""
    bound: bool = False
    certain: bool = False


@dataclass(frozen=True)
class MethodVerdict:
    """The verdict on one method.

    Attributes:
        reason: one sentence.
        findings: the verdicts on its statistics.
        agreement: with the baseline's curves, point by point; None on another machine or other versions.
        crossed: bootstrap interval of the primary loss over seeds and prompts, from five seeds on.
        prompts: prompt -> mean loss of the primary statistic on it, the largest first.
    """

    variant: str
    verdict: str
    reason: str
    findings: tuple[StatisticVerdict, ...] = ()
    agreement: Agreement | None = None
    crossed: tuple[float, float] | None = None
    prompts: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunVerdict:
    """The verdict on a whole run.

    Attributes:
        verdict: one of `SEVERITY`, or "passed".
        power: the baseline's.
    """

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
    """The differences between two nested mappings, such as "precision: fp32, now bf16"."""
    found = []
    for key in dict.fromkeys([*before, *after]):
        old, new = before.get(key), after.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            found += [f"{key}.{text}" for text in differences(old, new)]
        elif old != new:
            words = ("not set" if value is None else value for value in (old, new))
            found.append("{}: {}, now {}".format(key, *words))
    return found
