"""The baseline that a run is held against, as plain data that a person can review in a diff.

`make` computes one from a run's frames, with defaults from its spread over seeds. The fields `tolerance`, `detects`,
`primary`, `test` and `gate` may be edited in the file afterwards.
"""

import math
from collections.abc import Mapping
from typing import Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from reports.choices import PRIMARY
from reports.formatting import listing
from reports.frame import select, untrained_variants
from reports.names import MACHINES_OWN, PEAK_MEMORY
from reports.regression import measures
from reports.statistics import evidence
from reports.statistics.evidence import ALPHA, POWER, Test

DIGITS = 6
"""Significant digits of stored values: a hundred times finer than any difference of interest."""

PRIMARY_SHARE = 0.8
"""The share of α that the primary statistics of all methods divide equally; the other statistics divide the rest."""

SHARE_OF_GAIN = 0.05
STANDARD_ERRORS = 1.5
"""A default tolerance is the larger of `SHARE_OF_GAIN` of the gain and `STANDARD_ERRORS` of the difference between two
unrelated runs. Chance alone would often exceed a finer one, and the verdict would be "inconclusive"."""

COST_TOLERANCES = {"nfe": 0.01, "flops": 0.01, PEAK_MEMORY: 0.2, "train_seconds": 0.25}
TO_TARGET_TOLERANCE = 0.05
UNTRAINED_TOLERANCE = 1e-3

Direction = Literal["higher", "lower"]


class _Data(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Statistic(_Data):
    """One statistic of one method.

    Attributes:
        direction: whether higher or lower is better.
        tolerance: the largest loss that passes, in the statistic's unit.
        gate: whether a loss can fail the gate; a statistic that is not gated is only shown.
        values: seed -> value.
        prompts: prompt -> seed -> the statistic on this prompt alone; kept for the primary statistic.
    """

    direction: Direction
    tolerance: float = Field(ge=0)
    gate: bool = True
    values: dict[int, float] = Field(min_length=1)
    prompts: dict[str, dict[int, float]] = Field(default_factory=dict)


class Curves(_Data):
    """The points of every seed's curve: seed -> the budget's axis, and the reward on each split."""

    axis: dict[int, list[float]]
    train: dict[int, list[float]]
    heldout: dict[int, list[float]] = Field(default_factory=dict)


class MethodBaseline(_Data):
    """One variant of a method in a baseline.

    Attributes:
        method: the method's name; the key in `Baseline.methods` is the variant's.
        trains: False for a method that only samples, whose statistics do not vary with the seed.
        primary: the statistic that is tested first and carries most of α.
        test: "paired" by seed, prompt and noise, or "pooled" over seeds.
        detects: the loss of the primary statistic that the gate finds with `Baseline.power`; None for no claim.
        start: the reward before training.
        span: the stretch of the axis over which areas are taken.
        target: the reward whose cost is compared.
    """

    method: str
    trains: bool
    primary: str
    test: Test
    detects: float | None = Field(default=None, ge=0)
    start: float | None = None
    span: tuple[float, float] | None = None
    target: float | None = None
    statistics: dict[str, Statistic]
    curves: Curves

    @model_validator(mode="after")
    def _primary_is_gated(self) -> "MethodBaseline":
        if self.primary not in self.statistics:
            raise ValueError(f"primary: {self.primary!r} is none of its statistics: {', '.join(self.statistics)}")
        if not self.statistics[self.primary].gate:
            raise ValueError(f"{self.primary} is the primary statistic and has gate: false; choose another primary")
        return self

    @property
    def seeds(self) -> list[int]:
        return sorted(self.statistics[self.primary].values)

    @property
    def spread(self) -> float:
        """The primary statistic's standard deviation over seeds; NaN for one seed."""
        return evidence.standard_deviation(list(self.statistics[self.primary].values.values()))

    @property
    def gain(self) -> float | None:
        """The gain of the primary statistic by training; None where that is no reward."""
        values = self.statistics[self.primary].values
        start = self.start
        if self.primary == "heldout":
            begun = [curve[0] for curve in self.curves.heldout.values() if curve]
            start = sum(begun) / len(begun) if begun else None
        return None if start is None or self.primary not in PRIMARY else sum(values.values()) / len(values) - start


class Baseline(_Data):
    """The baseline of a whole run, as `check` needs it.

    Attributes:
        protocol: the facts that must be equal for numbers to be comparable.
        fingerprint: the facts that must be equal too for curves to be equal point by point.
        provenance: where the numbers come from.
        settings: variant -> its settings in the sweep, by which changed settings are named.
    """

    format: Literal[1] = 1
    name: str
    reward: str
    axis: str
    alpha: float = Field(default=ALPHA, gt=0, lt=0.5)
    power: float = Field(default=POWER, ge=0.5, lt=1)
    protocol: dict[str, Any]
    fingerprint: dict[str, Any]
    provenance: dict[str, Any]
    settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    methods: dict[str, MethodBaseline] = Field(min_length=1)

    def shares(self) -> dict[tuple[str, str], float]:
        """(variant, statistic) -> its share of α, for every gated statistic."""
        return shares(
            {
                variant: (entry.primary, [name for name, figure in entry.statistics.items() if figure.gate])
                for variant, entry in self.methods.items()
            }
        )


def shares(gated: Mapping[str, tuple[str, list[str]]]) -> dict[tuple[str, str], float]:
    """Shares of α that add up to one.

    Args:
        gated: variant -> (its primary statistic, all its gated statistics).
    """
    others = sum(len([name for name in names if name != primary]) for primary, names in gated.values())
    first = PRIMARY_SHARE if others else 1.0
    return {
        (variant, name): first / len(gated) if name == primary else (1 - first) / others
        for variant, (primary, names) in gated.items()
        for name in dict.fromkeys([primary, *names])
    }


def make(
    curves: pd.DataFrame,
    evaluation: pd.DataFrame,
    *,
    name: str,
    reward: str,
    axis: str,
    target: float | None,
    protocol: Mapping[str, Any],
    fingerprint: Mapping[str, Any],
    provenance: Mapping[str, Any],
    settings: Mapping[str, dict[str, Any]],
    primary: str = "area",
    primaries: Mapping[str, str] | None = None,
    alpha: float = ALPHA,
    power: float = POWER,
) -> Baseline:
    """The baseline of a run whose trials are all done.

    Args:
        primary: the statistic that carries most of α, one of `choices.PRIMARY`.
        primaries: variant -> its primary statistic, where that is another one.

    Raises:
        ValueError: a value is not finite, a variant lacks the primary statistic, or there is no such variant.
    """
    untrained = untrained_variants(curves)
    chief = {str(variant): primary for variant in curves["variant"].unique()} | dict(primaries or {})
    unknown = set(chief) - set(curves["variant"])
    if unknown:
        raise ValueError(f"no method is called {listing(sorted(unknown))}")
    found = {}
    for variant, rows in curves.groupby("variant", sort=False):
        own = evaluation[evaluation["variant"] == variant] if not evaluation.empty else evaluation
        chosen = target_of(rows, target)
        aim = None if variant in untrained else chosen
        measured = measures.measure(rows, own, axis, target=aim, by_prompt=chief[str(variant)])
        found[str(variant)] = (rows, measured, chosen)
    for variant, (_, measured, _) in found.items():
        if chief[variant] not in measured.values:
            raise ValueError(f"{variant} has no {chief[variant]}: choose another primary statistic")
        bad = [name for name, values in measured.values.items() if any(not math.isfinite(v) for v in values.values())]
        if bad:
            raise ValueError(f"{variant}: {', '.join(bad)} is not finite in every seed")
    shared = shares({v: (chief[v], [n for n in m.values if n not in MACHINES_OWN]) for v, (_, m, _) in found.items()})
    methods = {}
    for variant, (rows, measured, chosen) in found.items():
        level = alpha * shared[variant, chief[variant]]
        methods[variant] = _method(rows, measured, axis, chief[variant], chosen, variant not in untrained, level, power)
    return Baseline(
        name=name, reward=reward, axis=axis, alpha=alpha, power=power, protocol=dict(protocol),
        fingerprint=dict(fingerprint), provenance=dict(provenance), settings=dict(settings), methods=methods,
    )  # fmt: skip


def _method(
    rows: pd.DataFrame,
    measured: measures.Measured,
    axis: str,
    primary: str,
    target: float | None,
    trains: bool,
    alpha: float,
    power: float,
) -> MethodBaseline:
    train = select(rows, "reward", "train")
    start = float(train.loc[train["point"] == 0, "value"].median())
    seeds = len(measured.values[primary])
    test = evidence.default_test(seeds, seeds)
    gain = abs(sum(measured.values["final"].values()) / seeds - start) if math.isfinite(start) else 0.0
    statistics = {
        name: Statistic(
            direction=measures.direction(name),  # type: ignore[arg-type]
            tolerance=_tolerance(name, values, gain, trains),
            gate=name not in MACHINES_OWN,
            values=_rounded(values),
            prompts={p: _rounded(v) for p, v in measured.prompts.items()} if name == primary else {},
        )
        for name, values in measured.values.items()
    }
    return MethodBaseline(
        method=str(rows["method"].iloc[0]),
        trains=trains,
        primary=primary,
        test=test,
        detects=detectable(statistics[primary], trains, test, seeds, alpha, power),
        start=rounded(start) if math.isfinite(start) else None,
        span=measured.span,
        target=target if measures.TO_TARGET in statistics else None,
        statistics=statistics,
        curves=curves_of(rows, axis),
    )


def detectable(
    figure: Statistic, trains: bool, test: Test, run_seeds: int, alpha: float, power: float = POWER
) -> float | None:
    """The loss that a run of `run_seeds` seeds shows with probability `power`; None where no loss is shown so surely.

    It follows from the baseline's spread over seeds (`evidence.expected_power`).
    """
    spread = evidence.standard_deviation(list(figure.values.values()))
    if not trains or spread == 0:
        return figure.tolerance
    if not math.isfinite(spread):
        return None
    factor = evidence.detectable_factor(figure.tolerance / spread, test, len(figure.values), run_seeds, alpha, power)
    return rounded_up(factor * spread) if math.isfinite(factor) else None


def _tolerance(name: str, values: Mapping[int, float], gain: float, trains: bool) -> float:
    """The default tolerance: a share of the gain or cost, but not finer than the spread over seeds resolves."""
    level = abs(sum(values.values()) / len(values))
    if name in COST_TOLERANCES:
        return rounded_up(COST_TOLERANCES[name] * level)
    if not trains:
        return rounded_up(max(UNTRAINED_TOLERANCE * level, 1e-9))
    least = TO_TARGET_TOLERANCE * level if name == measures.TO_TARGET else SHARE_OF_GAIN * gain
    spread = evidence.standard_deviation(list(values.values()))
    error = STANDARD_ERRORS * math.sqrt(2 / len(values)) * spread if math.isfinite(spread) else 0.0
    return rounded_up(max(least, error, 1e-9))


def target_of(rows: pd.DataFrame, wanted: float | None) -> float | None:
    """The sweep's target if every seed reached it, else the reward at half of the gain; None without a gain."""
    train = select(rows, "reward", "train")
    best = train.groupby("trial")["value"].max()
    start = float(train.loc[train["point"] == 0, "value"].median())
    if wanted is not None and (best >= wanted).all() and not start >= wanted:
        return wanted
    half = start + 0.5 * (float(train.groupby("trial")["value"].last().mean()) - start)
    return rounded(half, 4) if half > start and (best >= half).all() else None


def curves_of(rows: pd.DataFrame, axis: str) -> Curves:
    """The points of every seed's curve, rounded."""
    found: dict[str, dict[int, list[float]]] = {"axis": {}, "train": {}, "heldout": {}}
    for split in ("train", "heldout"):
        for seed, curve in measures.by_seed(select(rows, "reward", split)):
            found[split][seed] = [rounded(value) for value in curve["value"]]
            found["axis"][seed] = [rounded(value) for value in curve[axis]]
    return Curves(**found)


def _rounded(values: Mapping[int, float]) -> dict[int, float]:
    return {seed: rounded(value) for seed, value in values.items()}


def rounded(value: float, digits: int = DIGITS) -> float:
    """The value rounded to significant digits."""
    return float(f"{float(value):.{digits - 1}e}")


def rounded_up(value: float, digits: int = 2) -> float:
    """The value rounded up to significant digits."""
    if value <= 0 or not math.isfinite(value):
        return value
    unit = 10.0 ** (math.floor(math.log10(value)) - digits + 1)
    return rounded(math.ceil(value / unit - 1e-9) * unit)
