"""AlignProp: reward backpropagation through the denoising chain.

Prabhudesai, Goyal, Pathak, Fragkiadaki 2023, arXiv 2310.03739; code: mihirp1998/AlignProp.

    θ ← θ − η ∇_θ E_c,x_T [ L(r(D(x_0), c)) ],   x_0 = the whole DDIM chain of T steps from x_T under θ

for prompts c, the decoder D, the reward r and the loss L. The code's L is 0.01 |r − 10|, for an aesthetic score of at
most 10. Below its target the gradient is that of −0.01 r, and Adam does not depend on the factor, except where the
gradient is clipped or beside `drift_weight`.

The gradient is kept through the last K steps only (truncated backpropagation through time): the predicted noise of an
earlier step is detached, and x_t is not, so that from the first kept step on the gradient also flows through the
update of x_t. The paper draws K ~ U(0, 50) for each trajectory; here K ~ U{1..T}, once for all trajectories of an
update. Memory can be bounded by recomputing denoiser calls in the backward pass (`checkpointing`).
"""

from collections.abc import Sequence
from itertools import count
from statistics import NormalDist
from typing import Literal

from pydantic import model_validator
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

REWRITE = "mihirp1998/AlignProp at b22918a (2024-10), config/alignprop_config.py: mean 42 and std 5 of 50"


class AlignPropSettings(
    BackpropSettings,
    source="mihirp1998/AlignProp at 7f4503f (v1), config/align_prop.py: aesthetic, aesthetic_k1",
    published={"batch_size": 128, "weight_decay": 0.1, "max_grad_norm": 5.0, "loss_scale": 0.01},
):
    """AlignProp's settings.

    `published` and `source` say what the authors ran. The defaults are for the embedded model; they differ in what
    `modifications` allows under a method's plain name.
    """

    learning_rate: float = setting(8e-3, "AdamW's, tuned (sweeps/tuning)", published=1e-3, scales=True, gt=0)
    truncation: Literal["uniform", "per-step", "gaussian", "fixed", "full"] = setting(
        "uniform",
        "uniform: K ~ U{1..T}, one draw an update; per-step: a fresh draw k ~ U{0..T} at every step i, "
        "which keeps its gradient where k <= i (v1 code and TRL, there with 50 whatever T is); "
        "gaussian: one draw b ~ N(`gaussian_mean` T, `gaussian_std` T) an update, steps from b on (2024-10 rewrite); "
        "fixed: K = `keep_steps`; full: every step",
        published="uniform",
        source="arXiv 2310.03739, section 4",
    )
    keep_steps: int | None = setting(None, "K for truncation: fixed", published=1, scales=True, ge=1)
    gaussian_mean: float = setting(
        0.84, "for truncation: gaussian, as a share of T", published=0.84, source=REWRITE, gt=0, lt=1
    )
    gaussian_std: float = setting(0.1, "for truncation: gaussian, as a share of T", published=0.1, source=REWRITE, gt=0)
    target_reward: float | None = setting(
        None,
        "the loss is |r − target_reward|. The published target is on the aesthetic predictor's scale and may lie below "
        "another reward's values; by default it lies above all of them, where the loss −r has the same gradient",
        published=10.0,
        scales=True,
    )

    @model_validator(mode="after")
    def _fixed_needs_steps(self) -> "AlignPropSettings":
        if (self.truncation == "fixed") != (self.keep_steps is not None):
            raise ValueError("keep_steps is for truncation: fixed, which needs it")
        return self


class AlignProp(Method):
    """Descent on a loss of the reward through the sampler."""

    name = "alignprop"
    summary = "reward backpropagation through the denoising chain, truncated at random (AlignProp)"
    reward_access = "gradient"
    Settings = AlignPropSettings
    settings: AlignPropSettings

    @classmethod
    def check(cls, settings: AlignPropSettings, sampler: SamplerSettings) -> None:
        steps = sampler.steps
        if settings.keep_steps is not None and settings.keep_steps > steps:
            raise ValueError(f"keep_steps is {settings.keep_steps}, but the training sampler has {steps} steps")
        if settings.truncation == "gaussian" and steps > 1:
            normal = first_kept_distribution(settings, steps)
            if normal.cdf(steps) - normal.cdf(1) < 0.01:
                raise ValueError(f"gaussian_mean and gaussian_std almost never draw a step between 1 and {steps - 1}")

    @classmethod
    def prompts_per_step(cls, settings: AlignPropSettings) -> int:
        return settings.batch_size

    @classmethod
    def cost(cls, settings: AlignPropSettings, prompts: int, sampler: SamplerSettings) -> dict[str, int]:
        return update_cost(settings, sampler, prompts, forward=sampler.steps, kept=settings.keep_steps or sampler.steps)

    def gradient_mask(self) -> list[bool]:
        """For each denoising step, noisy to clean, whether its predicted noise keeps its gradient."""
        steps, truncation = self.policy.sampler.steps, self.settings.truncation
        if truncation == "full":
            kept = steps
        elif truncation == "fixed":
            assert self.settings.keep_steps is not None
            kept = self.settings.keep_steps
        elif truncation == "uniform":
            kept = int(self.seeds.integers("truncation", self.iteration, [0], 1, steps + 1))
        elif truncation == "gaussian":
            kept = steps - self._gaussian_step()
        else:
            draws = self.seeds.integers("truncation", self.iteration, range(steps), 0, steps + 1)
            return [int(draw) <= index for index, draw in enumerate(draws)]
        return [index >= steps - kept for index in range(steps)]

    def _gaussian_step(self) -> int:
        """The first step that keeps its gradient, drawn until it is one of 1..T−1 as in the 2024-10 rewrite."""
        steps = self.policy.sampler.steps
        if steps == 1:
            return 0
        normal = first_kept_distribution(self.settings, steps)
        standard = (self.seeds.noise("truncation", self.iteration, 0, [attempt], ()) for attempt in count())
        drawn = (int(normal.mean + normal.stdev * float(number)) for number in standard)
        return next(step for step in drawn if 1 <= step < steps)

    def loss(self, rewards: Tensor) -> Tensor:
        """The loss of each image `[B]`."""
        if self.settings.target_reward is None:
            return -self.settings.loss_scale * rewards
        return self.settings.loss_scale * (rewards - self.settings.target_reward).abs()

    def step(self, prompts: Sequence[str]) -> StepMetrics:
        mask = self.gradient_mask()
        kept = sum(mask)  # a per-step draw can keep no step at all; the images are then scored and the update skipped
        checkpointing = choose_checkpointing(self, prompts, kept)
        tally = Tally()
        for rows in micro_batches(len(prompts), self.settings.micro_batch):
            chosen = list(prompts[rows])
            sample = sample_with_gradient(self, chosen, range(rows.start, rows.stop), mask, checkpointing)
            rewards = self.reward(self.policy.decode(sample.final), chosen)
            losses = self.loss(rewards)
            if kept:
                self.optimiser.backward(losses.sum() / len(prompts))
                tally.drift += penalise(self, sample, chosen, len(prompts) * kept)
            tally.add(losses, rewards)
        norm = self.optimiser.step() if kept else None
        self.iteration += 1
        metrics = tally.metrics(self, norm, checkpointing)
        metrics.extra["kept_steps"] = float(kept)
        return metrics


def first_kept_distribution(settings: AlignPropSettings, steps: int) -> NormalDist:
    """The distribution of the first step that keeps its gradient under `truncation: gaussian`, for T = `steps`."""
    return NormalDist(settings.gaussian_mean * steps, settings.gaussian_std * steps)
