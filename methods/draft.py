"""DRaFT-K: direct reward fine-tuning through the last K denoising steps.

Clark, Vicol, Swersky, Fleet 2023, arXiv 2309.17400, Algorithm 1:

    θ ← θ − η ∇_θ E_c,x_T [ −r(x_0, c) ],   the gradient stopped at x_K

K is fixed, where AlignProp draws it; K = T is the paper's DRaFT. The authors differentiate DDIM with guidance with
respect to LoRA weights and find small K the most efficient.

With K = 1 and a schedule of leading spacing, offset 1, the only trained step is the one at t = 1, where √(1−ᾱ) = 0.041
(Stable Diffusion's schedule, and emoji-v1's). The image hardly depends on what is predicted there, so a gain in reward
takes large changes of it, a likely cause of the large drift from the base model (1.7 on emoji-v1).
"""

from collections.abc import Sequence

from torch import Tensor

from methods.base import Method, StepMetrics, micro_batches
from methods.common.backprop import (
    BackpropSettings,
    Tally,
    choose_checkpointing,
    penalise,
    sample_with_gradient,
    update_cost,
)
from methods.settings import setting
from models.sampler import SamplerSettings


class DRaFTSettings(
    BackpropSettings,
    source="arXiv 2309.17400, second-hand from a reimplementation: not checked in the paper",
    published={"weight_decay": 0.1, "max_grad_norm": None, "loss_scale": 1.0},
):
    """DRaFT-K's settings. Defaults suit the embedded model."""

    learning_rate: float = setting(1.6e-2, "AdamW's, tuned (sweeps/tuning)", published=4e-4, scales=True, gt=0)
    batch_size: int = setting(8, "images an update; tuned (sweeps/tuning)", published=4, scales=True, ge=1)
    keep_steps: int = setting(1, "K, 1 to 10 of 50 in the paper; tuned (sweeps/tuning)", published=1, ge=1)


class DRaFT(Method):
    """Gradient ascent on the reward through the last K steps of the sampler."""

    name = "draft"
    summary = "reward backpropagation through the last K denoising steps (DRaFT-K)"
    reward_access = "gradient"
    Settings = DRaFTSettings
    settings: DRaFTSettings

    @classmethod
    def check(cls, settings: DRaFTSettings, sampler: SamplerSettings) -> None:
        if settings.keep_steps > sampler.steps:
            raise ValueError(f"keep_steps is {settings.keep_steps}, but the training sampler has {sampler.steps} steps")

    @classmethod
    def prompts_per_step(cls, settings: DRaFTSettings) -> int:
        return settings.batch_size

    @classmethod
    def cost(cls, settings: DRaFTSettings, prompts: int, sampler: SamplerSettings) -> dict[str, int]:
        return update_cost(settings, sampler, prompts, forward=sampler.steps, kept=settings.keep_steps)

    def loss(self, rewards: Tensor) -> Tensor:
        """The loss of each image `[B]`."""
        return -self.settings.loss_scale * rewards

    def step(self, prompts: Sequence[str]) -> StepMetrics:
        steps, kept = self.policy.sampler.steps, self.settings.keep_steps
        keep = [index >= steps - kept for index in range(steps)]
        checkpointing = choose_checkpointing(self, prompts, kept)
        tally = Tally()
        for rows in micro_batches(len(prompts), self.settings.micro_batch):
            chosen = list(prompts[rows])
            draw = sample_with_gradient(self, chosen, range(rows.start, rows.stop), keep, checkpointing)
            rewards = self.reward(self.policy.decode(draw.final), chosen)
            losses = self.loss(rewards)
            self.optimiser.backward(losses.sum() / len(prompts))
            tally.drift += penalise(self, draw, chosen, len(prompts) * kept)
            tally.add(losses, rewards)
        norm = self.optimiser.step()
        self.iteration += 1
        return tally.metrics(self, norm, checkpointing)
