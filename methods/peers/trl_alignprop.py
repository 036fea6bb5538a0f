"""TRL 0.23.1's AlignPropTrainer as a method (see `methods/alignprop.py` for ours and the paper).

TRL differs from ours in three points: the loss is 10 − mean r (the same gradient as −r); every denoiser call is
checkpointed; the truncation is drawn anew at every step, as in AlignProp's v1 code.
"""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from pydantic import model_validator
from torch import Tensor

from methods.base import StepMetrics, mean
from methods.peers.trl_method import SOURCE, TRLMethod, TRLSettings, largest_divisor
from methods.settings import setting
from models.sampler import SamplerSettings


class TRLAlignPropSettings(TRLSettings, source=SOURCE):
    """Settings of TRL's AlignPropTrainer. Defaults are those of our `alignprop` if TRL has the setting."""

    learning_rate: float = setting(8e-3, "AdamW's learning rate, as our alignprop", published=1e-3, scales=True, gt=0)
    batch_size: int = setting(16, "images an update, as our alignprop", published=1, scales=True, ge=1)
    truncation: Literal["per-step", "fixed", "full"] = setting(
        "per-step",
        "per-step: a fresh draw k at every step i, which keeps its gradient where k <= i; "
        "fixed: the last `keep_steps`; full: every step",
        published="per-step",
    )
    truncation_range: tuple[int, int] | None = setting(
        None,
        "bounds of per-step's draw, both included; (0, T) by default. TRL's is for T = 50: at "
        "T = 5 it would keep no step at all in three batches of four",
        published=(0, 50),
        scales=True,
    )
    keep_steps: int | None = setting(None, "K for truncation: fixed", published=1, scales=True, ge=1)

    @model_validator(mode="after")
    def _fits_the_truncation(self) -> "TRLAlignPropSettings":
        if (self.truncation == "fixed") != (self.keep_steps is not None):
            raise ValueError("keep_steps is for truncation: fixed, which needs it")
        if self.truncation_range is not None and self.truncation != "per-step":
            raise ValueError("truncation_range is for truncation: per-step")
        return self


class NoStepKeptError(Exception):
    """No step of any image in the batch keeps its gradient under the drawn truncation."""


class TRLAlignProp(TRLMethod):
    """Reward backpropagation by TRL's AlignPropTrainer."""

    name = "trl-alignprop"
    summary = "TRL 0.23.1's AlignPropTrainer on the same model, prompts, reward and meter (peer of alignprop)"
    reward_access = "gradient"
    Settings = TRLAlignPropSettings
    settings: TRLAlignPropSettings

    def __init__(self, *args: Any, **kwargs: Any):
        self._kept = False
        super().__init__(*args, **kwargs)

    @classmethod
    def check(cls, settings: TRLAlignPropSettings, sampler: SamplerSettings) -> None:
        super().check(settings, sampler)
        if settings.keep_steps is not None and settings.keep_steps > sampler.steps:
            raise ValueError(f"keep_steps is {settings.keep_steps}, but the training sampler has {sampler.steps} steps")

    @classmethod
    def prompts_per_step(cls, settings: TRLAlignPropSettings) -> int:
        return settings.batch_size

    @classmethod
    def cost(cls, settings: TRLAlignPropSettings, prompts: int, sampler: SamplerSettings) -> dict[str, int]:
        calls = prompts * sampler.rows_per_prediction * sampler.steps
        kept = settings.keep_steps or sampler.steps
        return {
            "updates": 1,
            "reward_queries": prompts,
            "images": prompts,
            # A kept step is recomputed, then differentiated.
            "nfe": calls + 2 * calls * kept // sampler.steps,
        }

    def trainer_class(self) -> tuple[Any, Any]:
        from trl.trainer.alignprop_config import AlignPropConfig
        from trl.trainer.alignprop_trainer import AlignPropTrainer

        return AlignPropConfig, AlignPropTrainer

    def configuration(self) -> dict[str, Any]:
        steps = self.policy.sampler.steps
        return {
            "truncated_backprop_rand": self.settings.truncation == "per-step",
            "truncated_rand_backprop_minmax": self.settings.truncation_range or (0, steps),
            "truncated_backprop_timestep": steps - (self.settings.keep_steps or steps),
        }

    def step(self, prompts: Sequence[str]) -> StepMetrics:
        config = self.trainer.config
        config.train_batch_size = largest_divisor(len(prompts), self.settings.micro_batch)
        config.train_gradient_accumulation_steps = len(prompts) // config.train_batch_size
        self._kept = False
        try:
            self.run_trainer(prompts, config.train_gradient_accumulation_steps)
        except NoStepKeptError:
            # TRL would raise in its backward pass. The images are drawn and scored, but there is no gradient.
            for parameter in self.policy.trainable_parameters():
                parameter.grad = None
        reward = float(torch.cat(self._rewards).mean())
        skipped = float(not self._norms)
        return StepMetrics(10 - reward, reward, mean(self._norms), len(self._norms), extra={"skipped": skipped})

    def _score(self, images: Tensor, prompts: Sequence[str], metadata: Sequence[Any]) -> tuple[Tensor, dict[str, Any]]:
        rewards, extra = super()._score(images, prompts, metadata)
        self._kept = self._kept or rewards.requires_grad
        if not rewards.requires_grad:
            # Another piece of the batch may have kept a step, so this piece adds a gradient of zero.
            rewards = rewards + 0.0 * self.policy.trainable_parameters()[0].sum()
        return rewards, extra

    def before_update(self) -> None:
        if not self._kept:
            raise NoStepKeptError
