"""What a reader must know about a run that its frames do not hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from reports.names import BUDGET_SECONDS, CURVE_AXES, OTHER_REWARD, budget_column


@dataclass(frozen=True)
class MethodFacts:
    """What reports need to know of a method; a method of which nothing is known has the defaults.

    Attributes:
        family: what kind of method it is; `names.UNTRAINED` is the model as it came.
        colour: of its lines on light paper, as `#rrggbb`; None for a colour by the name's hash.
        dark: the same on dark paper.
        line: how its median is dashed.
        peer_of: the method that this one implements too.
        reference: whether costs are divided by this method's where `Meta.baseline` names none.
    """

    family: str | None = None
    colour: str | None = None
    dark: str | None = None
    line: Literal["solid", "dashed", "dashdot", "dotted"] = "solid"
    peer_of: str | None = None
    reference: bool = False


@dataclass(frozen=True)
class Meta:
    """A run's description. Only `name` and `budget_axis` are needed; the report leaves out everything absent.

    Args:
        name: the sweep's name.
        description: one or two sentences on the question that the sweep asks.
        budget_axis: the axis whose limit all methods share: one of `names.CURVE_AXES`, or `seconds`.
        budget_limit: that limit.
        target: the reward whose cost is compared, if the sweep names one.
        baseline: the variant whose costs the others' are divided by; None takes one of the reference method if it ran,
            else the worst trained variant.
        reward: the name of the optimised reward.
        gold: the name of the measure that the reward stands for, if there is one.
        diversity: the features in which diversity is measured, in words; "" where the run does not say.
        evaluation: the evaluation protocol, in words.
        command: the command that produced the run.
        versions: package -> version (`torch`, `diffusers`, ...).
        seconds_comparable: False when trials shared a device: the report then shows seconds and does not rank them.
        tuning: how the methods' settings were found, where they were searched for (`search`: what was asked; `methods`:
            variant, chosen, score, configurations, statuses and cost of each, and the choice by gold; `copies`:
            sentences on configurations that repeat others).
        protocol: what evaluated numbers depend on, by name (`reward`, `model`, `evaluation`, ...). Runs whose protocols
            differ do not share a table.
        warnings: sentences from before the run began (a scheduler that DDIM stands in for, prompts that were cut).
        methods: method -> its facts.

    Raises:
        ValueError: `budget_axis` is no axis.
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
    methods: Mapping[str, MethodFacts] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.budget_column not in (*CURVE_AXES, BUDGET_SECONDS):
            known = ", ".join(("seconds", *CURVE_AXES))
            raise ValueError(f"budget_axis {self.budget_axis!r} is not an axis; known: {known}.")

    @property
    def budget_column(self) -> str:
        """The column of the curves frame in which the budget is counted."""
        return budget_column(self.budget_axis)

    @property
    def reference(self) -> str | None:
        """The method whose variants ratios refer to where no baseline is named."""
        return next((name for name, facts in self.methods.items() if facts.reference), None)

    def metric_words(self, metric: str) -> str:
        """`reward/NAME` -> NAME; `diversity` -> its name with its features; any other metric as it is."""
        if metric == "diversity" and self.diversity:
            return f"diversity ({self.diversity})"
        return metric.removeprefix(OTHER_REWARD)
