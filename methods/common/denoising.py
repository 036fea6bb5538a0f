"""The model's own training loss on the clean states that a method gives."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from methods.base import Method
from models.families.conditioning import Conditioning
from models.paths.prediction import Prediction, Unit


@dataclass(frozen=True)
class NoisyRows:
    """Clean states corrupted at random times of the forward process.

    Attributes:
        clean: x_0 `[B, ...]`.
        noise: the noise `[B, ...]`.
        state: x_t `[B, ...]`.
        times: times of the rows, `[B]`.
        conditioning: conditioning of the rows.
    """

    clean: Tensor
    noise: Tensor
    state: Tensor
    times: Tensor
    conditioning: Conditioning

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Conditioning]:
        """The first arguments of `Policy.predict`."""
        return self.state, self.times, self.conditioning

    def error(self, prediction: Prediction, unit: Unit = "output") -> Tensor:
        """The squared error `[B]` of a prediction for these rows (see `Prediction.error`)."""
        return prediction.error(self.clean, self.noise, unit)


def add_noise(method: Method, clean: Tensor, prompts: Sequence[str], purpose: str, samples: Sequence[int]) -> NoisyRows:
    """Draws a time and noise for each row of `clean` `[B, ...]`.

    Args:
        method: the method whose policy and random numbers are used, at its present iteration.
        clean: x_0 of the rows.
        prompts: B prompts.
        purpose: name of the draw; draws of one iteration with different names differ.
        samples: B indices; rows with the same index get the same time and noise.
    """
    policy = method.policy
    times = policy.draw_times(method.seeds, purpose, method.iteration, samples)
    noise = method.seeds.noise(purpose, method.iteration, 0, samples, policy.state_shape).to(policy.device)
    return NoisyRows(clean, noise, policy.corrupt(clean, times, noise), times, policy.encode(prompts))
