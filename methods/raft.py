"""RAFT: reward-ranked fine-tuning.

Dong et al. 2023, arXiv 2304.06767, Algorithm 1. A round draws K samples y_1 … y_K of each prompt x, keeps the best,

    y(x) = argmax_{y_k} r(x, y_k),

and fine-tunes on what it kept with the model's own loss, here the denoising error, all samples alike. Every prompt
contributes one sample, however its rewards compare with another prompt's (the authors' diffusion notebook in LMFlow
goes on to keep the best eight of ten such winners).
"""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from methods.common.regression import RegressionSettings, WeightedRegression
from methods.common.rollouts import Samples


class RAFTSettings(RegressionSettings):
    """Defaults are for the embedded scale; where nothing else is said, those of `rwr`."""

    learning_rate: float = Field(
        default=6e-3, gt=0, description="tuned (sweeps/tuning); 9e-6 in the authors' notebook, with LoRA"
    )
    images_per_prompt: int = Field(
        default=16, ge=2, description="K: the best of so many is kept; tuned (sweeps/tuning); 10 in the notebook"
    )
    batch_size: int = Field(default=32, ge=1, description="samples an update, drawn from the buffer")


class RAFT(WeightedRegression):
    """Denoising on the best of K own samples of each prompt."""

    name = "raft"
    summary = "denoising on the best of K own samples of each prompt (RAFT)"
    Settings = RAFTSettings
    continuous = False  # which sample is the best
    small: ClassVar = {"prompts_per_rollout": 4, "images_per_prompt": 2, "updates_per_rollout": 2, "batch_size": 6}
    settings: RAFTSettings

    def keep(self, drawn: Samples) -> Samples:
        """The best of each prompt's K."""
        group = self.settings.images_per_prompt
        best = drawn.rewards.reshape(-1, group).argmax(1)
        best = best + torch.arange(0, len(drawn.rewards), group, device=best.device)
        return Samples([drawn.prompts[index] for index in best.tolist()], drawn.latents[best], drawn.rewards[best])

    def weights(self, rewards: Tensor) -> Tensor:
        return torch.ones_like(rewards)
