"""Weighted denoising on the policy's own samples, which RWR, RWR-sparse and RAFT share.

    minimise Σ_i w_i ‖target − prediction_θ(x_t, t, c_i)‖²        over samples i of the last rounds

The methods differ in the samples that they keep of a round and in the weights w.
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
from methods.common.rollouts import Samples, collect, draw_batch
from methods.settings import setting
from models.sampler import SamplerSettings, rows_per_prediction


class RegressionSettings(TrainingSettings):
    """Settings of all regressions on the policy's own samples."""

    prompts_per_rollout: int = setting(8, "distinct draws of a prompt in a round", scales=True, ge=1)
    images_per_prompt: int = setting(8, "images of each prompt", scales=True, ge=1)
    buffer_rollouts: int = setting(6, "rounds kept to learn from", ge=1)
    updates_per_rollout: int = setting(4, "optimiser updates after a round", scales=True, ge=1)
    batch_size: int = setting(64, "samples an update, drawn from the buffer", scales=True, ge=1)
    loss_guidance: float = setting(1.0, "guidance inside the loss", scales=True, ge=1)


class WeightedRegression(Method):
    """Weighted denoising on own samples: a step samples a round, keeps some samples, weighs them and trains on them."""

    reward_access = "value"
    default_sampler = SamplerSettings(steps=10, guidance=2.0, eta=0.0)
    cuts_last_step = True
    settings: Any

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.buffer: list[Samples] = []

    @abstractmethod
    def keep(self, drawn: Samples) -> Samples:
        """The samples of a round that go into the buffer. The images of a prompt are consecutive in `drawn`."""

    @abstractmethod
    def weights(self, rewards: Tensor) -> Tensor:
        """Weights `[N]` of the buffer's samples from the rewards `[N]` of `keep`; samples of weight 0 are not drawn."""

    @classmethod
    def prompts_per_step(cls, settings: Any) -> int:
        return settings.prompts_per_rollout

    @classmethod
    def cost(cls, settings: Any, prompts: int, sampler: SamplerSettings) -> dict[str, int]:
        images = prompts * settings.images_per_prompt
        learned = settings.updates_per_rollout * settings.batch_size * rows_per_prediction(settings.loss_guidance)
        return {
            "updates": settings.updates_per_rollout,
            "reward_queries": images,
            "images": images,
            "nfe": images * sampler.steps * sampler.rows_per_prediction
            + 2 * learned
            + reference_nfe(settings, learned),
        }

    def step(self, prompts: Sequence[str]) -> StepMetrics:
        settings = self.settings
        drawn = collect(self, [prompt for prompt in prompts for _ in range(settings.images_per_prompt)])
        self.buffer = [*self.buffer, self.keep(drawn)][-settings.buffer_rollouts :]
        clean = torch.cat([entry.latents for entry in self.buffer])
        names = [prompt for entry in self.buffer for prompt in entry.prompts]
        weights = self.weights(torch.cat([entry.rewards for entry in self.buffer]))
        weighed = weights.nonzero().flatten().tolist()

        losses, norms = [], []
        for update in range(settings.updates_per_rollout):
            order = draw_batch(self, f"batch/{update}", len(weighed), settings.batch_size)
            for piece in micro_batches(len(order), settings.micro_batch):
                chosen = [weighed[index % len(weighed)] for index in order[piece]]
                captions = [names[index] for index in chosen]
                noisy = add_noise(self, clean[chosen], captions, f"denoising/{update}", order[piece])
                base = reference(self, *noisy.inputs, settings.loss_guidance)
                prediction = self.policy.predict(*noisy.inputs, settings.loss_guidance)
                loss = weights[chosen] * noisy.error(prediction) + drift_penalty(self, prediction, base)
                self.optimiser.backward(loss.sum() / len(order))
                losses.append(loss.detach())
            norms.append(self.optimiser.step())
        self.iteration += 1
        return StepMetrics(
            loss=float(torch.cat(losses).mean()),
            reward=float(drawn.rewards.mean()),
            gradient_norm=mean(norms),
            updates=len(norms),
            extra={"effective_samples": float(weights.sum() ** 2 / (weights**2).sum())},
        )

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"buffer": [asdict(samples) for samples in self.buffer]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.buffer = [Samples(**on_device(samples, self.policy.device)) for samples in state["buffer"]]
