"""DPOK: diffusion policy optimisation with Kullback-Leibler regularisation.

Fan, Watkins, Du, Liu, Ryu, Boutilier, Abbeel, Ghavamzadeh, Lee, Lee 2023, arXiv 2305.16381, Algorithm 1 with lemmas 4.1
(gradient) and 4.2 (KL); code: google-research/dpok, train_online_pg.py. The policy gradient of DDPO with a learned
baseline, and a penalty on each step's divergence from the base model:

    minimise E[ −α (r(x_0, c) − V(x_t, c, t)) clip(ρ_t, 1 ± ε) + β ‖ε_θ(x_t, t, c) − ε_base(x_t, t, c)‖² ]
    V regresses r on (x_t, c, t)

As in the authors' code, ρ_t = p_θ(x_{t−1} | x_t, c) / p_old uses the **mean** log-probability over a latent's
dimensions, and the square is the **mean** over dimensions, of ε with guidance; β is `drift_weight`. The ratio is
clipped on both sides, without DDPO's minimum. V learns from a rollout's rewards before they are compared with it, as in
the code. α = 100 and β = 0.01 are the code's defaults; its README runs one prompt with 10 and 0.01, many prompts with
1,000 and 0.1.

Two choices are ours: the policy learns from the present rollout only, each of its drawn rows once, where the code draws
rows from a buffer of about three rollouts; and V has another input and start (`methods/common/value_function.py`).
With several images of a prompt in a rollout, DPOK can trail `ddpo-early-shared-noise`: an error of V in a prompt's mean
is common to the advantages of all its images, whereas the mean of a group's rewards has no such error.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from methods.base import Method, StepMetrics, mean
from methods.common import policy_gradient
from methods.common.advantages import varies
from methods.common.rollouts import draw_batch
from methods.common.trajectories import TrajectorySettings, check_log_probabilities, roll_out, shuffled_rows
from methods.common.value_function import ValueFunction, ValueNetwork
from methods.settings import setting
from models.sampler import SamplerSettings


class DPOKSettings(
    TrajectorySettings,
    source="google-research/google-research, dpok/train_online_pg.py (which trains on 120 of a rollout's 300 rows)",
    published={"prompts_per_rollout": 6, "images_per_prompt": 1, "updates_per_rollout": 5,
        "timestep_choice": "random", "initial_noise": "independent"},
):  # fmt: skip
    """DPOK's settings. Defaults suit the embedded model; α, β and the gradient's clip are the authors' code's."""

    learning_rate: float = setting(1e-3, "AdamW's, tuned (sweeps/tuning)", published=1e-5, scales=True, gt=0)
    weight_decay: float = setting(0.0, "AdamW's decoupled weight decay", published=0.0, scales=True, ge=0)
    max_grad_norm: float = setting(0.1, "gradients are clipped to this norm", published=0.1, scales=True, gt=0)
    clip_range: float = setting(
        2e-3,
        "ε of the ratio for Stable Diffusion 1.5's 16,384 dimensions, here as `ddpo`; "
        "rescaled by 16,384 / dimensions, so that it allows the same joint log-ratio on any latent",
        published=1e-4,
        scales=True,
        gt=0,
    )
    timestep_fraction: float = setting(
        0.4, "share of a trajectory's steps that is trained on", published=0.4, gt=0, le=1
    )
    reward_weight: float = setting(100.0, "α, weight of the advantage", published=100.0, gt=0)
    drift_weight: float = setting(0.01, "β, weight of mean ‖ε_θ − ε_base‖²", published=0.01, ge=0)
    value_learning_rate: float = setting(
        3e-3,
        "learning rate of V's AdamW; tuned (sweeps/tuning)",
        published=1e-4,
        scales=True,
        gt=0,
    )
    value_updates: int = setting(20, "updates of V after a rollout", published=1, scales=True, ge=0)
    value_batch: int = setting(
        256, "rows in each update of V; the published are 5 batches of 256", published=1280, scales=True, ge=1
    )
    value_memory: int = setting(1000, "(sample, timestep) rows that V learns from", published=1000, ge=1)


class DPOK(Method):
    """Policy gradient with a value function and a KL penalty."""

    name = "dpok"
    summary = "policy gradient with a value function and a KL penalty towards the base model (DPOK)"
    reward_access = "value"
    needs_log_probabilities = True
    Settings = DPOKSettings
    cuts_last_step = True
    settings: DPOKSettings

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        policy, settings = self.policy, self.settings
        inputs = torch.Size(policy.state_shape).numel() + policy.pooled_width
        network = ValueNetwork(inputs, policy.sampler.steps, self.seeds).to(policy.device)
        self.value = ValueFunction(network, settings.value_learning_rate, settings.value_memory)

    @classmethod
    def check(cls, settings: DPOKSettings, sampler: SamplerSettings) -> None:
        check_log_probabilities(sampler)

    @classmethod
    def futile(cls, settings: DPOKSettings, prompts: int, training: int, drawn: float = math.inf) -> str | None:
        if settings.images_per_prompt == drawn == 1:
            return "the budget draws one image, whose reward is the value function's first: nothing can be learned"
        return None

    @classmethod
    def prompts_per_step(cls, settings: DPOKSettings) -> int:
        return settings.prompts_per_rollout

    @classmethod
    def cost(cls, settings: DPOKSettings, prompts: int, sampler: SamplerSettings) -> dict[str, int]:
        return policy_gradient.cost(settings, prompts, sampler, settings.updates_per_rollout)

    def step(self, prompts: Sequence[str]) -> StepMetrics:
        settings = self.settings
        rollout = roll_out(self, [prompt for prompt in prompts for _ in range(settings.images_per_prompt)])
        step, sample = shuffled_rows(self, len(rollout.prompts)).T
        inputs = rollout.states[step, sample], rollout.conditioning.pooled[sample], step
        rewards = torch.cat([self.value.rows.get("rewards", rollout.rewards[:0]), rollout.rewards])
        self.value.remember(*inputs, rollout.rewards[sample])
        value_loss = self._learn_value()
        advantages = rollout.rewards[sample] - self.value(*inputs)
        if not varies(rewards):  # the true V is then this reward, and the difference is an error of the network
            advantages = torch.zeros_like(advantages)

        done = policy_gradient.Updates()
        for update in policy_gradient.shares(len(step), settings.updates_per_rollout):
            for rows in update.split(settings.micro_batch):
                log_ratio, penalty = policy_gradient.log_ratios(self, rollout, step[rows], sample[rows])
                losses = self.surrogate(log_ratio, advantages[rows]) + penalty
                self.optimiser.backward(losses.sum() / len(update))
                done.add(losses, log_ratio, self.clip_range)
            done.norms.append(self.optimiser.step())
        self.iteration += 1
        return StepMetrics(
            loss=float(torch.cat(done.losses).mean()),
            reward=float(rollout.rewards.mean()),
            gradient_norm=mean(done.norms),
            updates=len(done.norms),
            extra={"clipped": mean(done.clipped), "advantage": float(advantages.mean()), "value_loss": value_loss},
        )

    def surrogate(self, log_ratio: Tensor, advantages: Tensor) -> Tensor:
        """The loss of each row `[B]` without its penalty, from log p_θ − log p_old `[B]` and the advantages `[B]`."""
        ratio = log_ratio.exp().clamp(1 - self.clip_range, 1 + self.clip_range)
        return -self.settings.reward_weight * advantages * ratio

    @property
    def clip_range(self) -> float:
        """ε, rescaled to the dimensions of this policy's latent."""
        return policy_gradient.clip_range(self)

    def _learn_value(self) -> float:
        settings = self.settings
        rows = len(self.value.rows["rewards"])
        losses = []
        for update in range(settings.value_updates):
            batch = draw_batch(self, f"value/{update}", rows, min(settings.value_batch, rows))
            losses.append(self.value.learn(batch))
        return mean(losses)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"value": self.value.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.value.load_state_dict(state["value"])
