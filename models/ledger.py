"""What a trial has spent, by axis: the vocabulary of costs that meter, budget, store and report share."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass
class Ledger:
    """Totals since the trial began. Rows are images' worth of work; guidance counts two denoiser rows."""

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
        """Denoiser rows in all: forward, backward and recomputed."""
        return self.nfe_forward + self.nfe_backward + self.nfe_recompute

    @property
    def wall_seconds(self) -> float:
        return self.train_seconds + self.reward_seconds + self.eval_seconds + self.log_seconds

    def as_axes(self, devices: int = 1) -> dict[str, int | float]:
        """Every axis of the tidy frame, derived ones included."""
        wall = self.wall_seconds
        return asdict(self) | {"nfe": self.nfe, "wall_seconds": wall, "device_seconds": wall * devices}


AXES: tuple[str, ...] = tuple(Ledger().as_axes())
"""Every axis that a point of a curve logs."""


def columns_of(axis: str) -> tuple[str, ...]:
    """The logged axes that a budget's axis adds up: `seconds` are those of training and its rewards."""
    return ("train_seconds", "reward_seconds") if axis == "seconds" else (axis,)


def spent(axis: str, axes: Mapping[str, int | float]) -> int | float:
    """What a point with these axes has spent of a budget's axis."""
    return sum(axes[column] for column in columns_of(axis))
