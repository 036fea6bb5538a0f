"""Reward-weighted regression: denoising on the policy's own samples, weighted by their reward.

Peters & Schaal 2007; for diffusion: Lee et al. 2023, arXiv 2302.12192; the baseline of DDPO (arXiv 2305.13301,
section 4.2) in jannerm/ddpo:

    maximise Σ_i w_i · (−‖target − prediction_θ(x_t, t, c_i)‖²),    w = N · softmax(r / β)

over N samples. Rewards are standardised first, so that β has the same meaning for any reward. jannerm/ddpo weighs raw
rewards within each prompt by softmax(0.2 r), which corresponds to β = 5 / σ here for rewards with standard deviation σ.
The method learns from the policy's own samples, which should therefore be good: sample with enough steps and with
guidance. The variant with hard weights is `rwr-sparse`.
"""

import math
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from methods.common.advantages import futile_statistics, group_advantages, standardise
from methods.common.regression import RegressionSettings, WeightedRegression
from methods.common.rollouts import Samples

Statistics = Literal["group", "batch"]


def standardised(drawn: Samples, statistics: Statistics) -> Samples:
    """The samples of a round with standardised rewards.

    Args:
        drawn: the samples.
        statistics: `group` standardises rewards around the mean of their prompt, `batch` around the round's mean.
    """
    by_prompt = statistics == "group"
    rewards = group_advantages(drawn.rewards, drawn.prompts) if by_prompt else standardise(drawn.rewards)
    return Samples(drawn.prompts, drawn.latents, rewards)


class RWRSettings(RegressionSettings):
    """RWR's settings. Defaults suit the embedded model; sweeps/aesthetic.yaml has the paper's under `scales`."""

    learning_rate: float = Field(
        default=3e-3, gt=0, description="tuned (sweeps/tuning); 1e-5 in jannerm/ddpo, full fine-tuning"
    )
    images_per_prompt: int = Field(
        default=8, ge=1, description="images of each prompt; 10,240 images a round in the paper"
    )
    temperature: float = Field(default=0.3, gt=0, description="β of softmax(r / β), on standardised rewards; tuned")
    statistics: Statistics = Field(
        default="group", description="rewards standardised around their prompt's mean, or the rollout's"
    )


class RWR(WeightedRegression):
    """Denoising on the policy's own samples, weighted by a softmax of their rewards."""

    name = "rwr"
    summary = "reward-weighted regression on the policy's own samples (RWR)"
    Settings = RWRSettings
    settings: RWRSettings

    @classmethod
    def futile(cls, settings: RWRSettings, prompts: int, training: int, drawn: float = math.inf) -> str | None:
        return futile_statistics(settings, prompts, training, drawn)

    def keep(self, drawn: Samples) -> Samples:
        """All samples, with standardised rewards."""
        return standardised(drawn, self.settings.statistics)

    def weights(self, rewards: Tensor) -> Tensor:
        """w = N · softmax(r / β), with mean 1: `[N]`."""
        return len(rewards) * torch.softmax(rewards / self.settings.temperature, 0)
