"""RAFT: reward-ranked fine-tuning.

Dong et al. 2023, arXiv 2304.06767, Algorithm 1. A round draws K samples y_1 … y_K of each prompt x, keeps the best,

    y(x) = argmax_{y_k} r(x, y_k),

and fine-tunes on the kept samples with the model's own loss, here the denoising error, with equal weights. Each prompt
contributes one sample, even if its rewards are below another prompt's. (The authors' diffusion notebook in LMFlow then
keeps the best eight of ten such samples.)
"""

import torch
from torch import Tensor

from methods.common.regression import RegressionSettings, WeightedRegression
from methods.common.rollouts import Samples
from methods.settings import setting


class RAFTSettings(
    RegressionSettings,
    source="OptimalScale/LMFlow, experimental/RAFT-diffusion/SD256-RAFT.ipynb and train_text_to_image_lora.py",
    published={"weight_decay": 1e-2, "max_grad_norm": 1.0, "prompts_per_rollout": 10, "buffer_rollouts": 1,
        "rows_per_image": 6.4, "loss_guidance": 1.0},
):  # fmt: skip
    """RAFT's settings. Defaults suit the embedded model; those that it does not set are `rwr`'s."""

    learning_rate: float = setting(3e-3, "AdamW's, from single runs", published=9e-6, scales=True, gt=0)
    images_per_prompt: int = setting(8, "K: the best of K images is kept", published=10, scales=True, ge=2)
    batch_size: int = setting(64, "rows of an update", published=8, scales=True, ge=1)


class RAFT(WeightedRegression):
    """Denoising on the best of K samples that the policy draws for each prompt."""

    name = "raft"
    summary = "denoising on the best of K own samples of each prompt (RAFT)"
    Settings = RAFTSettings
    settings: RAFTSettings

    def keep(self, drawn: Samples) -> Samples:
        """The best of the K samples of each prompt."""
        group = self.settings.images_per_prompt
        best = drawn.rewards.reshape(-1, group).argmax(1)
        best = best + torch.arange(0, len(drawn.rewards), group, device=best.device)
        return Samples([drawn.prompts[index] for index in best.tolist()], drawn.latents[best], drawn.rewards[best])

    def weights(self, samples: Samples) -> Tensor:
        """1 for all kept samples: `[N]`."""
        return torch.ones_like(samples.rewards)
