"""DDPO with the sign of its advantages flipped: a defect that the gate must catch (`tests/test_gate_plantings.py`)."""

from torch import Tensor

from methods.ddpo import DDPO


class FlippedDDPO(DDPO):
    """Learns to lower the reward."""

    def surrogate(self, log_ratio: Tensor, advantages: Tensor) -> Tensor:
        return super().surrogate(log_ratio, -advantages)
