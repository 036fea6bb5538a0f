"""DDPO: denoising diffusion policy optimisation.

Black, Janner, Du, Kostrikov, Levine 2023, arXiv 2305.13301; code: kvablack/ddpo-pytorch. Denoising is a Markov
decision process whose action is x_{t−1}; the reward comes at the end and every step shares its advantage A:

    score function (DDPO_SF):       ∇J = E[ Σ_t ∇ log p_θ(x_{t−1} | x_t, c) · A ],    one update a rollout
    importance sampling (DDPO_IS):  maximise E[ Σ_t min(A ρ_t, A clip(ρ_t, 1 ± ε)) ],  ρ_t = p_θ / p_old

The clip is the code's, as in PPO; the paper's equation has the gradient of Σ_t A ρ_t. A is the reward standardised by
the prompt's last rewards (appendix D.3). As in the authors' code, log p is the mean over a latent's dimensions instead
of the sum, so ρ_t is the joint ratio to the power of 1 / dimensions. The defaults differ from what is published in
sizes, learning rate and clip. One difference is no setting: an update has single steps of any trajectory, where the
authors' code gives it whole trajectories.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from methods.base import Method, StepMetrics, mean
from methods.common import policy_gradient
from methods.common.advantages import PromptStatistics, futile_statistics, group_advantages, standardise
from methods.common.trajectories import TrajectorySettings, check_log_probabilities, roll_out, shuffled_rows
from methods.settings import setting
from models.sampler import SamplerSettings


class DDPOSettings(
    TrajectorySettings,
    source="kvablack/ddpo-pytorch, config/dgx.py: aesthetic, and config/base.py; scripts/train.py",
    published={"weight_decay": 1e-4, "max_grad_norm": 1.0, "prompts_per_rollout": 256, "images_per_prompt": 1,
        "updates_per_rollout": 2, "timestep_fraction": 1.0, "timestep_choice": "random",
        "initial_noise": "independent"},
):  # fmt: skip
    """DDPO's settings.

    `published` and `source` say what the authors ran. The defaults are for the embedded model; they differ in what
    `modifications` allows under a method's plain name.
    """

    learning_rate: float = setting(3e-3, "AdamW's, tuned (sweeps/tuning)", published=3e-4, scales=True, gt=0)
    estimator: Literal["importance-sampling", "score-function"] = setting(
        "importance-sampling", "DDPO-IS, the better in the paper, or DDPO-SF", published="importance-sampling"
    )
    statistics: Literal["group", "per-prompt", "batch"] = setting(
        "per-prompt",
        "rewards that advantages are relative to. group: those of the prompt's images in this rollout, "
        "over the deviation of the whole rollout; "
        "per-prompt: the prompt's last rewards; batch: those of the rollout",
        published="per-prompt",
    )
    buffer_size: int = setting(32, "rewards remembered for a prompt", published=32, scales=True, ge=2)
    min_count: int = setting(
        16,
        "with fewer remembered rewards the statistics of the whole rollout are used; with 8 images a prompt, those of "
        "the prompt begin at its second draw",
        published=16,
        scales=True,
        ge=2,
    )
    advantage_clip: float = setting(5.0, "advantages are clipped to ± this", published=5.0, gt=0)
    clip_range: float = setting(
        2e-3,
        "ε of the ratio for Stable Diffusion 1.5's 16,384 dimensions, tuned (sweeps/tuning); rescaled by "
        "16,384 / dimensions, so that it allows the same joint log-ratio on any latent",
        published=1e-4,
        scales=True,
        gt=0,
    )


class DDPO(Method):
    """Policy gradient on the denoising chain."""

    name = "ddpo"
    summary = "policy gradient on the denoising chain, clipped importance sampling (DDPO)"
    reward_access = "value"
    needs_log_probabilities = True
    Settings = DDPOSettings
    cuts_last_step = True
    settings: DDPOSettings

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.statistics = PromptStatistics(self.settings.buffer_size, self.settings.min_count)

    @classmethod
    def check(cls, settings: DDPOSettings, sampler: SamplerSettings) -> None:
        check_log_probabilities(sampler)

    @classmethod
    def futile(cls, settings: DDPOSettings, prompts: int, training: int, drawn: float = math.inf) -> str | None:
        return futile_statistics(settings, prompts, training, drawn)

    @classmethod
    def prompts_per_step(cls, settings: DDPOSettings) -> int:
        return settings.prompts_per_rollout

    @classmethod
    def cost(cls, settings: DDPOSettings, prompts: int, sampler: SamplerSettings) -> dict[str, int]:
        return policy_gradient.cost(settings, prompts, sampler, updates(settings))

    def step(self, prompts: Sequence[str]) -> StepMetrics:
        settings = self.settings
        prompts = [prompt for prompt in prompts for _ in range(settings.images_per_prompt)]
        rollout = roll_out(self, prompts)
        advantages = self._advantages(rollout.rewards, prompts)
        advantages = advantages.clamp(-settings.advantage_clip, settings.advantage_clip)

        # The loss is the mean over trained (step, sample) rows, as in the code; the paper sums over a sample's steps.
        step, sample = shuffled_rows(self, len(prompts)).T
        done = policy_gradient.Updates()
        for update in policy_gradient.shares(len(step), updates(settings)):
            for rows in update.split(settings.micro_batch):
                log_ratio, penalty = policy_gradient.log_ratios(self, rollout, step[rows], sample[rows])
                losses = self.surrogate(log_ratio, advantages[sample[rows]]) + penalty
                self.optimiser.backward(losses.sum() / len(update))
                done.add(losses, log_ratio, self.clip_range)
            done.norms.append(self.optimiser.step())
        self.iteration += 1
        return StepMetrics(
            loss=float(torch.cat(done.losses).mean()),
            reward=float(rollout.rewards.mean()),
            gradient_norm=mean(done.norms),
            updates=len(done.norms),
            extra={"clipped": mean(done.clipped)},
        )

    @property
    def clip_range(self) -> float:
        """ε, rescaled to the dimensions of this policy's latent."""
        return policy_gradient.clip_range(self)

    def surrogate(self, log_ratio: Tensor, advantages: Tensor) -> Tensor:
        """The loss of each row `[B]`, by DDPO_SF or DDPO_IS, from log p_θ − log p_old `[B]` and advantages `[B]`."""
        if self.settings.estimator == "score-function":
            # Its gradient is that of −A log p_θ, as p_old is a constant; its value, before any update, is 0.
            return -advantages * log_ratio
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1 - self.clip_range, 1 + self.clip_range)
        return torch.maximum(-advantages * ratio, -advantages * clipped)

    def _advantages(self, rewards: Tensor, prompts: Sequence[str]) -> Tensor:
        if self.settings.statistics == "group":
            return group_advantages(rewards, prompts)
        if self.settings.statistics == "per-prompt":
            return self.statistics.update(rewards, prompts)
        return standardise(rewards)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"statistics": self.statistics.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.statistics.load_state_dict(state["statistics"])


def updates(settings: DDPOSettings) -> int:
    """The number of updates on a rollout; one for the score-function estimator, which is unbiased only on-policy."""
    return 1 if settings.estimator == "score-function" else settings.updates_per_rollout
