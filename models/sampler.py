"""The settings of a sampler, and the functions that a caller of one passes to it."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from models.choices import Spacing
from models.paths.prediction import Prediction


@dataclass(frozen=True)
class SamplerSettings:
    """The settings of the DDIM sampler.

    Attributes:
        steps: number of denoising steps T, at least 1.
        guidance: classifier-free guidance scale w; 1 turns guidance off, any other value costs two rows a step.
        eta: 0 is deterministic DDIM, 1 has DDPM's variance; log-probabilities exist only above 0.
        spacing: how the T timesteps are spread (Lin et al. 2023, arXiv 2305.08891, table 2); None for the checkpoint's.
    """

    steps: int
    guidance: float = 1.0
    eta: float = 0.0
    spacing: Spacing | None = None

    @property
    def rows_per_prediction(self) -> int:
        """The number of denoiser rows that one prediction for one image costs."""
        return rows_per_prediction(self.guidance)


def rows_per_prediction(guidance: float) -> int:
    """The denoiser rows of one prediction: 1 without guidance, 2 (conditional and unconditional) with it."""
    return 1 if guidance == 1.0 else 2


class Noise(Protocol):
    """Returns standard normal noise `[B, *state_shape]`, on any device, by its key: −1 for the start, then a step's."""

    def __call__(self, key: int) -> Tensor: ...


class Observer(Protocol):
    """Called at each step of a chain with the number of the step, from 0, and its prediction."""

    def __call__(self, step: int, prediction: Prediction) -> None: ...
