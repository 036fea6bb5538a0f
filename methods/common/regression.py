"""Weighted denoising on the policy's own samples, which RWR, RWR-sparse and RAFT share.

    minimise Σ_i w_i ‖target − prediction_θ(x_t, t, c_i)‖²        over samples i of the last rounds

The methods differ in the samples that they keep of a round and in the weights w. Samples are drawn in proportion to
their weights and the loss has none: its expected gradient is that of the weighted loss on uniform draws, and a batch
holds no rows whose weights leave them without effect.

The prediction that is trained has the guidance of the sampler unless `loss_guidance` is given, so that what is sampled,
trained and evaluated is one model. Otherwise only a part of what is learned shows: training the conditional prediction
alone and sampling with guidance deteriorates after a round (DDPO, arXiv 2305.13301, appendix E.1).
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from methods.base import Method, StepMetrics, TrainingSettings, mean, micro_batches, on_device
from methods.common.denoising import add_noise
from methods.common.drift import drift_penalty, reference, reference_nfe
from methods.common.rollouts import Samples, collect, draw_in_proportion, join
from methods.settings import setting
from models.sampler import SamplerSettings, rows_per_prediction

FEWEST = 8
"""A batch's share, as its divisor, below which the effective number of samples is warned of."""


class RegressionSettings(TrainingSettings):
    """Settings of all regressions on the policy's own samples."""

    prompts_per_rollout: int = setting(64, "distinct draws of a prompt in a round", scales=True, ge=1)
    images_per_prompt: int = setting(8, "images of each prompt", scales=True, ge=1)
    buffer_rollouts: int = setting(1, "rounds kept to learn from", ge=1)
    loss_guidance: float | None = setting(
        None, "guidance of the prediction that is trained; the training sampler's unless given", scales=True, ge=1
    )
    rows_per_image: float = setting(
        4.0, "denoiser rows trained for each image of a round, so that more images have more updates",
        scales=True, gt=0,
    )  # fmt: skip
    batch_size: int = setting(64, "rows of an update", scales=True, ge=1)


class WeightedRegression(Method):
    """Weighted denoising on own samples: a step samples a round, keeps some samples, weighs them and trains on them."""

    reward_access = "value"
    default_sampler = SamplerSettings(steps=20, guidance=1.0, eta=0.0)
    cuts_last_step = True
    settings: Any

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.buffer: list[Samples] = []

    @abstractmethod
    def keep(self, drawn: Samples) -> Samples:
        """The samples of a round that go into the buffer. The images of a prompt are consecutive in `drawn`."""

    @abstractmethod
    def weights(self, samples: Samples) -> Tensor:
        """Weights `[N]`, at least 0, of the buffer's samples, whose rewards are those of `keep`."""

    @classmethod
    def prompts_per_step(cls, settings: Any) -> int:
        return settings.prompts_per_rollout

    @classmethod
    def cost(cls, settings: Any, prompts: int, sampler: SamplerSettings) -> dict[str, int]:
        images = prompts * settings.images_per_prompt
        learned = updates(settings, images) * settings.batch_size * rows_per_prediction(guidance(settings, sampler))
        return {
            "updates": updates(settings, images),
            "reward_queries": images,
            "images": images,
            "nfe": images * sampler.steps * sampler.rows_per_prediction
            + 2 * learned
            + reference_nfe(settings, learned),
        }

    def step(self, prompts: Sequence[str]) -> StepMetrics:
        settings, scale = self.settings, guidance(self.settings, self.policy.sampler)
        drawn = collect(self, [prompt for prompt in prompts for _ in range(settings.images_per_prompt)])
        self.buffer = [*self.buffer, self.keep(drawn)][-settings.buffer_rollouts :]

        buffer = join(self.buffer)
        weights = self.weights(buffer)
        number = updates(settings, len(drawn.prompts))
        rows = buffer.at(draw_in_proportion(self, "rows", weights, number * settings.batch_size))
        effective = float(weights.sum() ** 2 / (weights**2).sum())

        losses, norms = [], []
        for update in range(number):
            batch = range(update * settings.batch_size, (update + 1) * settings.batch_size)
            for piece in micro_batches(len(batch), settings.micro_batch):
                numbers = batch[piece]
                captions = [rows.prompts[row] for row in numbers]
                noisy = add_noise(self, rows.latents[numbers.start : numbers.stop], captions, "denoising", numbers)
                base = reference(self, *noisy.inputs, scale)
                prediction = self.policy.predict(*noisy.inputs, scale)
                loss = noisy.error(prediction) + drift_penalty(self, prediction, base)
                self.optimiser.backward(loss.sum() / len(batch))
                losses.append(loss.detach())
            norms.append(self.optimiser.step())
        self.iteration += 1
        return StepMetrics(
            loss=float(torch.cat(losses).mean()),
            reward=float(drawn.rewards.mean()),
            gradient_norm=mean(norms),
            updates=len(norms),
            extra={"effective_samples": effective},
            warnings=few_effective(effective, settings.batch_size),
        )

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"buffer": [asdict(samples) for samples in self.buffer]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.buffer = [Samples(**on_device(samples, self.policy.device)) for samples in state["buffer"]]


def few_effective(effective: float, batch: int) -> dict[str, str]:
    """The warning that the weights leave fewer samples than an eighth of a batch; empty if they do not."""
    if effective >= batch / FEWEST:
        return {}
    text = (
        f"the weights leave {effective:.1f} effective samples, under an {FEWEST}th of the batch of {batch}, "
        "so the method learns from a few images"
    )
    return {"effective_samples": text}


def updates(settings: RegressionSettings, images: int) -> int:
    """The number of updates on a round of `images` images, at least 1."""
    return max(1, round(settings.rows_per_image * images / settings.batch_size))


def guidance(settings: RegressionSettings, sampler: SamplerSettings) -> float:
    """The guidance of the prediction that is trained."""
    return sampler.guidance if settings.loss_guidance is None else settings.loss_guidance
