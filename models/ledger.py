"""The ledger of what a trial has spent, by axis: meter, budget, store and report share its names.

A new axis is a field of `Ledger` that `meter.py` fills, and a column in `reports/names.py`: `CURVE_AXES`, and the other
tuples there that it belongs to. To budget it, name it in `BudgetAxis`, write `sweeps/schema.json` again, and give it
in the methods' `cost` if it is known before a step; if it sums several columns, say so in `columns_of` and
`reports.names.budget_column`. `tests/test_house.py` compares these places.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, get_args


@dataclass
class Ledger:
    """Totals since the trial began.

    Counts are in rows, one for each image that a network processes; a prediction with guidance counts two denoiser
    rows. `nfe_*` are denoiser rows (number of function evaluations), `*_seconds` are wall-clock seconds.
    """

    steps: int = 0
    updates: int = 0
    reward_queries: int = 0
    reward_gradients: int = 0
    images: int = 0
    nfe_forward: int = 0
    nfe_backward: int = 0
    nfe_recompute: int = 0
    decodes: int = 0
    flops: int = 0
    flops_recompute: int = 0
    train_seconds: float = 0.0
    reward_seconds: float = 0.0
    eval_seconds: float = 0.0
    log_seconds: float = 0.0
    peak_memory_bytes: int = 0
    eval_queries: int = 0
    eval_nfe: int = 0

    @property
    def nfe(self) -> int:
        """All denoiser rows: forward, backward and recomputed."""
        return self.nfe_forward + self.nfe_backward + self.nfe_recompute

    @property
    def wall_seconds(self) -> float:
        return self.train_seconds + self.reward_seconds + self.eval_seconds + self.log_seconds

    def as_axes(self, devices: int = 1) -> dict[str, int | float]:
        """Axis -> its value, derived axes included. `device_seconds` are wall seconds times `devices`."""
        wall = self.wall_seconds
        return asdict(self) | {"nfe": self.nfe, "wall_seconds": wall, "device_seconds": wall * devices}


AXES: tuple[str, ...] = tuple(Ledger().as_axes())
"""The axes that every point of a curve logs."""

BudgetAxis = Literal["reward_queries", "steps", "updates", "images", "nfe", "flops", "seconds"]
"""An axis that a sweep can budget: a logged one, or `seconds`, which sums two (see `columns_of`)."""

BUDGET_AXES: tuple[BudgetAxis, ...] = get_args(BudgetAxis)

MEASURED_AXES = ("flops", "seconds")
"""Axes whose cost nobody knows before a step is done."""


def columns_of(axis: str) -> tuple[str, ...]:
    """The logged axes whose sum is a budget axis: the budget axis `seconds` is training plus reward seconds."""
    return ("train_seconds", "reward_seconds") if axis == "seconds" else (axis,)


def spent(axis: str, axes: Mapping[str, int | float]) -> int | float:
    """The amount of the budget axis `axis` that a point with these logged axes has spent."""
    return sum(axes[column] for column in columns_of(axis))
