"""Reward-weighted regression: denoising on the policy's own samples, weighted by their reward.

Peters & Schaal 2007; for diffusion: Lee et al. 2023, arXiv 2302.12192; the baseline of DDPO (arXiv 2305.13301,
section 4.2) in jannerm/ddpo:

    maximise Σ_i w_i · (−‖target − prediction_θ(x_t, t, c_i)‖²),    w_i = n_c · softmax_c(r_i / β)

over the samples i of a round, with the softmax over the n_c samples of i's prompt c, as for DDPO's aesthetic reward
(its appendix D.3). Rewards are standardised first, so that β has the same meaning for any reward: jannerm/ddpo weighs
raw rewards by softmax(0.2 r), which corresponds to β = 5 / σ here for rewards with standard deviation σ. The variant
with hard weights is `rwr-sparse`.
"""

import math
from typing import Literal

import torch
from torch import Tensor

from methods.common.advantages import futile_statistics, group_advantages, rows_by_prompt, standardise
from methods.common.regression import RegressionSettings, WeightedRegression
from methods.common.rollouts import Samples
from methods.settings import setting

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
        "buffer_rollouts": 1, "rows_per_image": 5.0, "batch_size": 128, "loss_guidance": 5.0},
):  # fmt: skip
    """RWR's settings. Defaults suit the embedded model; sweeps/aesthetic.yaml has the paper's under `scales`."""

    learning_rate: float = setting(3e-3, "AdamW's, from single runs", published=1e-5, scales=True, gt=0)
    temperature: float = setting(
        0.1,
        "β of softmax(r / β), on standardised rewards; from single runs (docs/methods.md)",
        published=10.0,
        source="jannerm/ddpo, config/base.py: softmax(0.2 r), for rewards with a deviation of 0.5",
        scales=True,
        gt=0,
    )
    statistics: Statistics = setting(
        "group",
        "what a reward is weighed against. group: the softmax is over the samples of a prompt, of rewards around its "
        "mean; batch: over all samples, of rewards around the round's mean",
        published="group",
        source="arXiv 2305.13301, appendix D.3, for the aesthetic reward",
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

    def weights(self, samples: Samples) -> Tensor:
        """w = n · softmax(r / β) over the n samples of a prompt, or over all of them, with mean 1: `[N]`."""
        scaled = samples.rewards / self.settings.temperature
        if self.settings.statistics == "batch":
            return len(scaled) * torch.softmax(scaled, 0)
        weights = torch.empty_like(scaled)
        for rows in rows_by_prompt(samples.prompts).values():
            weights[rows] = len(rows) * torch.softmax(scaled[rows], 0)
        return weights
