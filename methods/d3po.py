"""D3PO: direct preference for denoising diffusion policy optimisation.

Yang, Tao, Lyu, Ge, Chen, Li, Shen, Zhu, Li 2023, arXiv 2311.13231; code: yk7333/d3po, scripts/rm/train_d3po.py. Two
trajectories of one prompt are ranked by the reward of their images, and every step of the better is preferred to the
same step of the worse, as DPO would (Rafailov et al. 2023) if each step were an answer:

    minimise −log σ( β log clip(ρ_w, 1 ± ε) − β log clip(ρ_l, 1 ± ε) ),    ρ = p_θ(x_{t−1} | x_t, c) / p_ref

p_ref is the base model. The authors' code takes the mean log-probability over the 16,384 dimensions of Stable Diffusion
1.5's latent, so its β and ε apply to the joint log-ratio divided by 16,384. The same quantity is used here, for latents
of any size.

Published are this loss and its pairs: two images of a prompt from one x_T, every step of them. Ours are the sizes of a
rollout and of an update, which in the code has all steps of one pair and here single steps of any, and AdamW's ε.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from methods.base import Method, StepMetrics, micro_batches
from methods.common.drift import base_prediction, drift_penalty
from methods.common.preferences import check_pairs, preference_metrics, ranked_pairs
from methods.common.trajectories import (
    TrajectorySettings,
    check_log_probabilities,
    relative_dimensions,
    roll_out,
    shuffled_rows,
    trained_steps,
)
from methods.settings import setting
from models.sampler import SamplerSettings


class D3POSettings(
    TrajectorySettings,
    source="yk7333/d3po, config/base.py and scripts/rm/train_d3po.py",
    published={"weight_decay": 1e-4, "max_grad_norm": 1.0, "updates_per_rollout": 20,
        "timestep_fraction": 1.0, "timestep_choice": "random"},
):  # fmt: skip
    """D3PO's settings. Defaults suit the embedded model."""

    learning_rate: float = setting(3e-3, "AdamW's, tuned (sweeps/tuning)", published=3e-5, scales=True, gt=0)
    adam_epsilon: float = setting(
        1e-12,
        "AdamW's ε. β / 2 and the mean over 16,384 leave gradients of about 1e-9 a weight, which the "
        "published one would swallow",
        published=1e-8,
        scales=True,
        gt=0,
    )
    prompts_per_rollout: int = setting(32, "distinct draws of a prompt in a rollout", published=20, scales=True, ge=1)
    images_per_prompt: int = setting(2, "images of each prompt, two and two a pair", published=2, scales=True, ge=1)
    initial_noise: Literal["independent", "per-prompt"] = setting(
        "per-prompt",
        "x_T of a prompt's images in a rollout. independent: one for each image; per-prompt: one for all images of the "
        "prompt",
        published="per-prompt",
    )
    beta: float = setting(
        1.0, "β, on the joint log-ratio over 16,384; tuned (sweeps/tuning)", published=0.1, scales=True, gt=0
    )
    ratio_clip: float = setting(
        0.1, "ε: the ratio, of the same log-ratio, is clipped to 1 ± ε", published=0.1, scales=True, gt=0, lt=1
    )


class D3PO(Method):
    """Direct preference optimisation on the steps of two trajectories of a prompt."""

    name = "d3po"
    summary = "preferences between the steps of two trajectories of a prompt (D3PO)"
    reward_access = "value"
    needs_log_probabilities = True
    Settings = D3POSettings
    cuts_last_step = True
    settings: D3POSettings

    @classmethod
    def check(cls, settings: D3POSettings, sampler: SamplerSettings) -> None:
        check_log_probabilities(sampler)
        check_pairs(settings.images_per_prompt)

    @classmethod
    def prompts_per_step(cls, settings: D3POSettings) -> int:
        return settings.prompts_per_rollout

    @classmethod
    def cost(cls, settings: D3POSettings, prompts: int, sampler: SamplerSettings) -> dict[str, int]:
        images = prompts * settings.images_per_prompt
        paired = 2 * prompts * (settings.images_per_prompt // 2)
        return {
            "updates": settings.updates_per_rollout,
            "reward_queries": images,
            "images": images,
            # The rollout, then three passes for each trained step: the base model's forward, the policy's forward and
            # its backward. The drift penalty uses the same passes.
            "nfe": sampler.rows_per_prediction
            * (images * sampler.steps + 3 * paired * trained_steps(settings, sampler)),
        }

    def step(self, prompts: Sequence[str]) -> StepMetrics:
        settings, policy = self.settings, self.policy
        rollout = roll_out(self, [prompt for prompt in prompts for _ in range(settings.images_per_prompt)])
        pairs = ranked_pairs(rollout.rewards, settings.images_per_prompt)
        rows = shuffled_rows(self, len(pairs))
        losses, norms, right = [], [], []
        for update in range(settings.updates_per_rollout):
            chosen = rows[update :: settings.updates_per_rollout]
            if not len(chosen):
                continue
            for piece in micro_batches(len(chosen), max(1, settings.micro_batch // 2)):
                step, pair = chosen[piece].T
                steps = rollout.at(step.repeat(2), pairs[pair].T.flatten())  # the better images, then the worse ones
                base = base_prediction(policy, *steps.inputs, policy.sampler.guidance)
                prediction = policy.predict(*steps.inputs, policy.sampler.guidance)
                log_ratio = steps.log_probability(policy, prediction) - steps.log_probability(policy, base)
                better, worse = log_ratio.chunk(2)
                drift = drift_penalty(self, prediction, base)
                loss = self.preference_loss(better, worse) + (drift[: len(pair)] + drift[len(pair) :]) / 2
                self.optimiser.backward(loss.sum() / len(chosen))
                losses.append(loss.detach())
                right.append((better > worse).float())
            norms.append(self.optimiser.step())
        self.iteration += 1
        return preference_metrics(rollout.rewards, len(pairs), losses, right, norms)

    def preference_loss(self, better: Tensor, worse: Tensor) -> Tensor:
        """The loss of each pair `[P]`.

        Args:
            better, worse: log p_θ − log p_ref of the two actions, `[P]`, means over the latent's dimensions.
        """
        scale = relative_dimensions(self.policy)
        low, high = math.log(1 - self.settings.ratio_clip), math.log(1 + self.settings.ratio_clip)
        margin = (scale * better).clamp(low, high) - (scale * worse).clamp(low, high)
        return -torch.nn.functional.logsigmoid(self.settings.beta * margin)
