"""DRaFT-LV: the last denoising step's gradient, averaged over fresh noise.

Clark, Vicol, Swersky, Fleet 2023, arXiv 2309.17400, Algorithm 1. After a DRaFT-1 gradient g_0 on x_0, n times:

    x_1 = √ᾱ_1 sg(x_0) + √(1 − ᾱ_1) ε,   x̂_0 = (x_1 − √(1 − ᾱ_1) ε_θ(x_1, c)) / √ᾱ_1,   g_i = ∇_θ r(x̂_0, c)

sg stops the gradient. The update uses the mean of g_0 … g_n, where the paper has their sum: Adam does not depend on
this factor, but the clip of the gradient's norm does. An image is sampled once and differentiated 1 + n times, which
costs 1 + n reward queries for each prompt.

With a schedule of leading spacing, offset 1, the last step is the one at t = 1, where √(1−ᾱ) = 0.041 (Stable
Diffusion's schedule, and emoji-v1's). The image hardly depends on what is predicted there, so a gain in reward takes
large changes of it, a likely cause of the large drift from the base model (1.7 on emoji-v1).
"""

from collections.abc import Iterator, Sequence

from torch import Tensor

from methods.base import Method, StepMetrics, micro_batches
from methods.common.backprop import (
    BackpropSettings,
    Draw,
    Tally,
    choose_checkpointing,
    penalise,
    sample_with_gradient,
    update_cost,
)
from methods.settings import setting
from models.checkpointing import Checkpointing
from models.sampler import SamplerSettings


class DRaFTLVSettings(
    BackpropSettings,
    source="arXiv 2309.17400, second-hand from a reimplementation: not checked in the paper",
    published={"weight_decay": 0.1, "max_grad_norm": None, "loss_scale": 1.0},
):
    """DRaFT-LV's settings. Defaults suit the embedded model."""

    learning_rate: float = setting(8e-3, "AdamW's, tuned (sweeps/tuning)", published=4e-4, scales=True, gt=0)
    batch_size: int = setting(4, "images an update; tuned (sweeps/tuning)", published=4, scales=True, ge=1)
    repeats: int = setting(
        2, "n, how often x_0 is noised anew", published=2, source="arXiv 2309.17400, Algorithm 1", ge=1
    )


class DRaFTLV(Method):
    """Gradient ascent on the reward through the last step, repeated under fresh noise."""

    name = "draft-lv"
    summary = "reward backpropagation through the last step, averaged over fresh noise (DRaFT-LV)"
    reward_access = "gradient"
    Settings = DRaFTLVSettings
    settings: DRaFTLVSettings

    @classmethod
    def prompts_per_step(cls, settings: DRaFTLVSettings) -> int:
        return settings.batch_size

    @classmethod
    def cost(cls, settings: DRaFTLVSettings, prompts: int, sampler: SamplerSettings) -> dict[str, int]:
        images = 1 + settings.repeats
        return update_cost(settings, sampler, prompts, sampler.steps + settings.repeats, kept=images, images=images)

    def loss(self, rewards: Tensor) -> Tensor:
        """The loss of each image `[B]`."""
        return -self.settings.loss_scale * rewards

    def step(self, prompts: Sequence[str]) -> StepMetrics:
        images = 1 + self.settings.repeats
        # The graph of an image is freed before the next one is drawn, so only one denoiser call is stored at a time.
        checkpointing = choose_checkpointing(self, prompts, kept=1)
        total = len(prompts) * images
        tally = Tally()
        for rows in micro_batches(len(prompts), self.settings.micro_batch):
            chosen = list(prompts[rows])
            for draw in self._draws(chosen, range(rows.start, rows.stop), checkpointing):
                rewards = self.reward(self.policy.decode(draw.final), chosen)
                losses = self.loss(rewards)
                self.optimiser.backward(losses.sum() / total)
                tally.drift += penalise(self, draw, chosen, total)
                tally.add(losses, rewards)
        norm = self.optimiser.step()
        self.iteration += 1
        return tally.metrics(self, norm, checkpointing)

    def _draws(self, prompts: list[str], samples: range, checkpointing: Checkpointing) -> Iterator[Draw]:
        policy = self.policy
        last = [False] * (policy.sampler.steps - 1) + [True]
        sampled = sample_with_gradient(self, prompts, samples, last, checkpointing)
        yield sampled

        clean, conditioning = sampled.final.detach(), policy.encode(prompts)
        key, times = policy.noise_keys()[-1], policy.times()[-1].expand(len(clean))
        for repeat in range(self.settings.repeats):
            noise = self.seeds.noise(f"draft-lv/{repeat}", self.iteration, key, samples, policy.state_shape)
            noisy = policy.corrupt(clean, times, noise.to(policy.device))
            policy.meter.count_images(len(clean))
            prediction = policy.predict(noisy, times, conditioning, policy.sampler.guidance, checkpointing)
            yield Draw(prediction.clean, [noisy], [times])
