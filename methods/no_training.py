"""`base`: the model as it is, the zero line of every report."""

from collections.abc import Callable

from torch import Tensor

from methods.base import SamplingMethod, Settings


class NoTraining(SamplingMethod):
    """Samples from the base model and trains nothing."""

    name = "base"
    summary = "no training at all: the model as it is, the zero line of every report"
    reward_access = "value"
    Settings = Settings

    def sample(self, embeddings: Tensor, latents: Tensor, denoise: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        return denoise(latents, embeddings)
