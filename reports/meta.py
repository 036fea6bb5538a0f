"""What a reader must know about a run and its frames do not say."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from reports.frame import AXES, BUDGET_SECONDS, budget_column


@dataclass(frozen=True)
class Meta:
    """The run's own words. Only `name` and `budget_axis` are needed; everything absent is left out of the report.

    Args:
        name: the sweep's name.
        description: one or two sentences on the question it asks.
        budget_axis: the axis whose limit all methods share, one of `frame.AXES`, or `seconds` of training and rewards.
        budget_limit: that limit.
        target: the reward whose cost is compared, if the sweep names one.
        baseline: the variant that ratios refer to; None takes `ddpo` if it ran, else the worst trained variant.
        reward: the name of the optimised reward.
        gold: the name of the measure that the reward stands for, if there is one.
        diversity: the features that diversity is measured in, in words; "" where the run does not say.
        evaluation: the evaluation protocol, in words.
        command: the command that produced the run.
        versions: what it ran on (`torch`, `diffusers`, ...).
        seconds_comparable: False when trials shared a device: seconds are then shown and not ranked.
        tuning: how the methods' settings were found (`search`: what was asked; `methods`: variant, chosen, score,
            configurations, statuses and cost of each), where they were searched for.
        protocol: what evaluated numbers depend on, by name (`reward`, `model`, `evaluation`, ...). Runs whose protocols
            differ are not put in one column.
        warnings: what was said before the run began (a scheduler that DDIM stands in for, prompts that were cut).
    """

    name: str
    budget_axis: str
    budget_limit: float | None = None
    description: str = ""
    target: float | None = None
    baseline: str | None = None
    reward: str = "reward"
    gold: str | None = None
    diversity: str = ""
    evaluation: str = ""
    command: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    seconds_comparable: bool = True
    tuning: Mapping[str, Any] | None = None
    protocol: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.budget_column not in (*AXES, BUDGET_SECONDS):
            raise ValueError(f"budget_axis {self.budget_axis!r} is not an axis; known: seconds, {', '.join(AXES)}.")

    @property
    def budget_column(self) -> str:
        """The column of the curves frame that the budget is counted on."""
        return budget_column(self.budget_axis)

    def metric_words(self, metric: str) -> str:
        """`reward/NAME` -> NAME, `diversity` with the features that it is measured in, the others as they are."""
        if metric.startswith("reward/"):
            return metric.removeprefix("reward/")
        if metric == "diversity" and self.diversity:
            return f"diversity ({self.diversity})"
        return metric
