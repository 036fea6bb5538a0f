"""RWR-sparse: denoising on the best share of the policy's own samples.

The second baseline of DDPO (Black et al. 2023, arXiv 2305.13301, section 4.2; jannerm/ddpo): reward-weighted regression
(`methods/rwr.py`) whose weights are one for a reward above a percentile, and zero below it:

    minimise Σ_i 1[r_i in the top share] · ‖target − prediction_θ(x_t, t, c_i)‖²

jannerm/ddpo takes the top share of each prompt's samples. Here it is the top share of the whole buffer, by rewards
standardised around their prompt's mean, so that a prompt whose rewards vary more contributes more samples.
"""

import math

import torch
from torch import Tensor

from methods.common.advantages import futile_statistics
from methods.common.regression import RegressionSettings, WeightedRegression
from methods.common.rollouts import Samples
from methods.rwr import Statistics, standardised
from methods.settings import OURS, setting


class RWRSparseSettings(
    RegressionSettings,
    source="jannerm/ddpo, config/base.py: a_animals, full fine-tuning; 64 of 10,240 images a prompt "
    "and batches of 128 are not checked in the paper",
    published={"weight_decay": 1e-4, "max_grad_norm": 1.0, "prompts_per_rollout": 160, "images_per_prompt": 64,
        "buffer_rollouts": 1, "updates_per_rollout": 400, "batch_size": 128, "loss_guidance": 5.0},
):  # fmt: skip
    """RWR-sparse's settings. Defaults suit the embedded model; those that are not tuned are the same as `rwr`'s."""

    learning_rate: float = setting(1e-3, "AdamW's, tuned (sweeps/tuning)", published=1e-5, scales=True, gt=0)
    keep_share: float = setting(
        0.05, "share of the buffer that is learned from; tuned (sweeps/tuning)", published=0.1, gt=0, le=1
    )
    statistics: Statistics = setting(
        "group",
        "rewards standardised around their prompt's mean, or the rollout's; "
        "jannerm/ddpo ranks raw rewards within the prompt instead",
        source=OURS,
    )


class RWRSparse(WeightedRegression):
    """Denoising on the best share of the policy's own samples, with equal weights."""

    name = "rwr-sparse"
    summary = "denoising on the best of the policy's own samples (RWR-sparse)"
    Settings = RWRSparseSettings
    settings: RWRSparseSettings

    @classmethod
    def futile(cls, settings: RWRSparseSettings, prompts: int, training: int, drawn: float = math.inf) -> str | None:
        before = settings.prompts_per_rollout * (settings.buffer_rollouts - 1)
        samples = int(min(prompts + before, drawn)) * settings.images_per_prompt
        if kept(samples, settings.keep_share) == samples > 1:
            return (
                f"keep_share: {settings.keep_share:g} keeps all of the {samples} images in the buffer, whatever their "
                "rewards: nothing can be learned; write a smaller one"
            )
        return futile_statistics(settings, prompts, training, drawn)

    def keep(self, drawn: Samples) -> Samples:
        """All samples, with standardised rewards."""
        return standardised(drawn, self.settings.statistics)

    def weights(self, rewards: Tensor) -> Tensor:
        """1 for the samples of the best share, 0 for the others: `[N]`."""
        weights = torch.zeros_like(rewards)
        weights[rewards.topk(kept(len(rewards), self.settings.keep_share)).indices] = 1
        return weights


def kept(samples: int, share: float) -> int:
    """The number of a buffer's `samples` that the method learns from, at least 1."""
    return max(1, round(samples * share))
