"""RWR-sparse: denoising on the best share of the policy's own samples.

The second baseline of DDPO (Black et al. 2023, arXiv 2305.13301, section 4.2; jannerm/ddpo): reward-weighted regression
(`methods/rwr.py`) whose weights are one for a reward above a percentile of its prompt's, and zero below it:

    minimise Σ_i 1[r_i in the top share of its prompt] · ‖target − prediction_θ(x_t, t, c_i)‖²
"""

import math

import torch
from torch import Tensor

from methods.common.advantages import rows_by_prompt
from methods.common.regression import RegressionSettings, WeightedRegression
from methods.common.rollouts import Samples
from methods.settings import setting


class RWRSparseSettings(
    RegressionSettings,
    source="jannerm/ddpo, config/base.py: a_animals, full fine-tuning; 64 of 10,240 images a prompt "
    "and batches of 128 are not checked in the paper",
    published={"weight_decay": 1e-4, "max_grad_norm": 1.0,
        "buffer_rollouts": 1, "rows_per_image": 5.0, "batch_size": 128, "loss_guidance": 5.0},
):  # fmt: skip
    """RWR-sparse's settings. Defaults suit the embedded model; those that it does not set are `rwr`'s."""

    learning_rate: float = setting(3e-3, "AdamW's, from single runs", published=1e-5, scales=True, gt=0)
    keep_share: float = setting(
        0.1, "share of a prompt's samples that is learned from, at least one sample", published=0.1, gt=0, le=1
    )
    prompts_per_rollout: int = setting(32, "distinct draws of a prompt in a round", published=160, scales=True, ge=1)
    images_per_prompt: int = setting(16, "images of each prompt", published=64, scales=True, ge=1)


class RWRSparse(WeightedRegression):
    """Denoising on the best share of the policy's own samples, with equal weights."""

    name = "rwr-sparse"
    summary = "denoising on the best of the policy's own samples (RWR-sparse)"
    Settings = RWRSparseSettings
    settings: RWRSparseSettings

    @classmethod
    def futile(cls, settings: RWRSparseSettings, prompts: int, training: int, drawn: float = math.inf) -> str | None:
        draws = -(-int(min(prompts * settings.buffer_rollouts, drawn)) // training)
        samples = draws * settings.images_per_prompt
        if kept(samples, settings.keep_share) < samples:
            return None
        if samples == 1:
            what, do = "the only image of a prompt, whatever its reward", "images_per_prompt: 2 or more"
        else:
            what, do = f"all of the {samples} images of a prompt, whatever their rewards", "a smaller one"
        return f"keep_share: {settings.keep_share:g} keeps {what}: nothing can be learned; write {do}"

    def keep(self, drawn: Samples) -> Samples:
        """All samples."""
        return drawn

    def weights(self, samples: Samples) -> Tensor:
        """1 for the best share of each prompt's samples, 0 for the others: `[N]`."""
        weights = torch.zeros_like(samples.rewards)
        for rows in rows_by_prompt(samples.prompts).values():
            numbers = torch.tensor(rows, device=weights.device)
            weights[numbers[samples.rewards[numbers].topk(kept(len(rows), self.settings.keep_share)).indices]] = 1
        return weights


def kept(samples: int, share: float) -> int:
    """The number of a prompt's `samples` that the method learns from, at least 1."""
    return max(1, round(samples * share))
