"""Numbers of a gate as text: a reward as a measurement, a cost in the unit of its axis."""

from collections.abc import Iterable
from dataclasses import dataclass

from reports.formatting import Scale, measured, number, scale_for
from reports.regression.verdict import StatisticVerdict


@dataclass(frozen=True)
class Unit:
    """The unit of one row's numbers; `scale` is None for a reward."""

    scale: Scale | None

    @classmethod
    def of(cls, axis: str, values: Iterable[float]) -> "Unit":
        """The unit of a cost on `axis`, or of a reward where `axis` is "" (`measures.axis_of`)."""
        return cls(scale_for(axis, values) if axis else None)

    def label(self, words: str) -> str:
        return self.scale.label(words) if self.scale else words

    def text(self, value: float | None, signed: bool = False) -> str:
        if self.scale is None or value is None:
            return measured(value, signed=signed)
        return number(value / self.scale.divisor, signed=signed)

    def worded(self, text: str) -> str:
        """The text followed by the unit."""
        return f"{text} {self.scale.unit}".strip() if self.scale else text

    def amount(self, value: float | None) -> str:
        """The value as text, followed by the unit."""
        return self.worded(self.text(value))


def unit_of(finding: StatisticVerdict) -> Unit:
    """The unit of a statistic's numbers."""
    return Unit.of(finding.axis, (finding.baseline, finding.run))


def change(finding: StatisticVerdict) -> str:
    """ "14.0 → 15.2 TFLOP": the baseline's mean and the run's."""
    unit, bound = unit_of(finding), "at least " if finding.bound else ""
    return unit.worded(f"{unit.text(finding.baseline)} → {bound}{unit.text(finding.run)}")
