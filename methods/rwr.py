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
from torch import Tensor

from methods.common.advantages import futile_statistics, group_advantages, standardise
from methods.common.regression import RegressionSettings, WeightedRegression
from methods.common.rollouts import Samples
from methods.settings import OURS, setting

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


class RWRSettings(
    RegressionSettings,
    source="jannerm/ddpo, config/base.py: a_animals_rwr, full fine-tuning; batches of 128, not checked in the paper",
    published={"weight_decay": 1e-4, "max_grad_norm": 1.0, "prompts_per_rollout": 10240, "images_per_prompt": 1,
        "buffer_rollouts": 1, "updates_per_rollout": 400, "batch_size": 128, "loss_guidance": 5.0},
):  # fmt: skip
    """RWR's settings. Defaults suit the embedded model; sweeps/aesthetic.yaml has the paper's under `scales`."""

    learning_rate: float = setting(3e-3, "AdamW's, tuned (sweeps/tuning)", published=1e-5, scales=True, gt=0)
    temperature: float = setting(
        0.3,
        "β of softmax(r / β), on standardised rewards; tuned (sweeps/tuning)",
        published=10.0,
        source="jannerm/ddpo, config/base.py: softmax(0.2 r), for rewards with a deviation of 0.5",
        scales=True,
        gt=0,
    )
    statistics: Statistics = setting(
        "group",
        "rewards standardised around their prompt's mean, or the rollout's; "
        "jannerm/ddpo weighs raw rewards within the prompt instead",
        source=OURS,
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
