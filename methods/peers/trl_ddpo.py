"""TRL 0.23.1's DDPOTrainer as a method (see `methods/ddpo.py` for ours and the paper).

TRL differs from ours in three points: an update takes whole trajectories and goes through their timesteps one at a
time, where ours mixes (sample, timestep) rows; advantages come from a running per-prompt buffer or from the rollout;
the clip range applies to the ratio of mean log-probabilities, without rescaling to the latent's dimensions. One thing
in TRL is changed: if rewards differ by rounding only, its advantages are replaced by 0, as ours are.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from methods.base import StepMetrics, mean
from methods.common.advantages import futile_statistics, varies
from methods.peers.trl_method import TRLMethod, TRLSettings, largest_divisor
from models.sampler import SamplerSettings


class TRLDDPOSettings(TRLSettings):
    """Settings of TRL's DDPOTrainer. Defaults are those of our `ddpo` if TRL has the setting."""

    learning_rate: float = Field(default=3e-3, gt=0, description="as our ddpo; 3e-4 in TRL")
    prompts_per_rollout: int = Field(default=8, ge=1, description="distinct draws of a prompt, as our ddpo")
    images_per_prompt: int = Field(
        default=8, ge=1, description="images of each prompt, as our ddpo; 1 in TRL's example"
    )
    updates_per_rollout: int = Field(
        default=4,
        ge=1,
        description="most optimiser updates an inner epoch, as our ddpo; fewer if they do not divide the rollout",
    )
    inner_epochs: int = Field(default=1, ge=1, description="passes over a rollout (TRL's)")
    statistics: Literal["per-prompt", "batch"] = Field(
        default="per-prompt",
        description="rewards that advantages are relative to. per-prompt: the prompt's last rewards; batch: those of "
        "the rollout (TRL's default)",
    )
    buffer_size: int = Field(
        default=8,
        ge=2,
        description="rewards remembered for a prompt; equal to images_per_prompt it holds this rollout's images, "
        "the nearest to our ddpo's groups; 16 in TRL",
    )
    min_count: int = Field(
        default=8, ge=2, description="with fewer remembered rewards the rollout's statistics are used; 16 in TRL"
    )
    advantage_clip: float = Field(default=5.0, gt=0, description="advantages are clipped to ± this (TRL's)")
    clip_range: float = Field(
        default=3.2e-2,
        gt=0,
        description="ε of the ratio of mean log-probabilities, not rescaled. The default is our ddpo's 2e-3 for 16,384 "
        "dimensions, rescaled to the embedded latent's 1,024; 1e-4 in TRL",
    )
    timestep_fraction: float = Field(
        default=1.0, gt=0, le=1, description="share of a trajectory's steps that is trained on (TRL's)"
    )


@dataclass(frozen=True)
class Cut:
    """How TRL cuts a rollout into batches.

    Attributes:
        sampled: images in a sampled batch.
        samplings: number of sampled batches.
        trained: images in a trained batch.
        pieces: number of trained batches in an update.
        updates: number of updates.
    """

    sampled: int
    samplings: int
    trained: int
    pieces: int
    updates: int


def cut(settings: TRLDDPOSettings, images: int) -> Cut:
    """Cuts a rollout of `images` images into equal batches of at most `micro_batch` rows, and into equal updates."""
    updates = largest_divisor(images, settings.updates_per_rollout)
    trained = largest_divisor(images // updates, settings.micro_batch)
    # TRL requires the sampled batch to be a multiple of the trained one.
    sampled = trained * largest_divisor(images // trained, max(1, settings.micro_batch // trained))
    return Cut(sampled, images // sampled, trained, images // updates // trained, updates)


class TRLDDPO(TRLMethod):
    """Policy gradient on the denoising chain by TRL's DDPOTrainer."""

    name = "trl-ddpo"
    summary = "TRL 0.23.1's DDPOTrainer on the same model, prompts, reward and meter (peer of ddpo)"
    reward_access = "value"
    needs_log_probabilities = True
    Settings = TRLDDPOSettings
    cuts_last_step = True
    settings: TRLDDPOSettings

    @classmethod
    def check(cls, settings: TRLDDPOSettings, sampler: SamplerSettings) -> None:
        super().check(settings, sampler)
        if sampler.eta <= 0:
            raise ValueError("the training sampler's eta must be above 0, or no step has a probability")
        if not trained_steps(settings, sampler):
            raise ValueError(
                f"timestep_fraction {settings.timestep_fraction} of {sampler.steps} steps is less than one step"
            )

    @classmethod
    def futile(cls, settings: TRLDDPOSettings, prompts: int, training: int, drawn: float = math.inf) -> str | None:
        return futile_statistics(settings, prompts, training, drawn)

    @classmethod
    def prompts_per_step(cls, settings: TRLDDPOSettings) -> int:
        return settings.prompts_per_rollout

    @classmethod
    def cost(cls, settings: TRLDDPOSettings, prompts: int, sampler: SamplerSettings) -> dict[str, int]:
        images = prompts * settings.images_per_prompt
        calls = images * sampler.rows_per_prediction
        return {
            "steps": 1,
            "updates": cut(settings, images).updates * settings.inner_epochs,
            "reward_queries": images,
            "images": images,
            # A forward pass for each step of the rollout; a forward and a backward pass for each trained step of each
            # inner epoch.
            "nfe": calls * (sampler.steps + 2 * settings.inner_epochs * trained_steps(settings, sampler)),
        }

    def trainer_class(self) -> tuple[Any, Any]:
        from trl.trainer.ddpo_config import DDPOConfig
        from trl.trainer.ddpo_trainer import DDPOTrainer

        return DDPOConfig, DDPOTrainer

    def configuration(self) -> dict[str, Any]:
        settings = self.settings
        return {
            # TRL trains with guidance or without it, at the sampler's scale.
            "train_cfg": self.policy.sampler.guidance > 1,
            "train_num_inner_epochs": settings.inner_epochs,
            "train_adv_clip_max": settings.advantage_clip,
            "train_clip_range": settings.clip_range,
            "train_timestep_fraction": settings.timestep_fraction,
            "per_prompt_stat_tracking": settings.statistics == "per-prompt",
            "per_prompt_stat_tracking_buffer_size": settings.buffer_size,
            "per_prompt_stat_tracking_min_count": settings.min_count,
        }

    def _listen(self) -> None:
        """Also replaces the advantages of rewards that do not vary by 0."""
        super()._listen()
        trainer = self.trainer
        if self.settings.statistics == "batch":
            loss = trainer.loss

            def loss_of(advantages: Tensor, *others: Any) -> Tensor:
                constant = bool(self._rewards) and not varies(torch.cat(self._rewards))
                return loss(torch.zeros_like(advantages) if constant else advantages, *others)

            trainer.loss = loss_of
            return
        tracker = trainer.stat_tracker
        update = tracker.update

        def update_of(prompts: Sequence[str], rewards: np.ndarray) -> np.ndarray:
            advantages = update(prompts, rewards)
            for prompt in set(prompts):
                remembered, rows = tracker.stats[prompt], np.array(prompts) == prompt
                used = rewards if len(remembered) < tracker.min_count else np.array(remembered, rewards.dtype)
                if not varies(torch.from_numpy(np.concatenate([used, rewards[rows]]))):
                    advantages[rows] = 0
            return advantages

        tracker.update = update_of

    def step(self, prompts: Sequence[str]) -> StepMetrics:
        prompts = [prompt for prompt in prompts for _ in range(self.settings.images_per_prompt)]
        pieces, config = cut(self.settings, len(prompts)), self.trainer.config
        config.sample_batch_size = pieces.sampled
        config.sample_num_batches_per_epoch = pieces.samplings
        config.train_batch_size = pieces.trained
        config.train_gradient_accumulation_steps = pieces.pieces
        self.run_trainer(prompts, pieces.pieces * self.trainer.num_train_timesteps)
        return StepMetrics(
            loss=self.mean_of("loss"),
            reward=float(torch.cat(self._rewards).mean()),
            gradient_norm=mean(self._norms),
            updates=len(self._norms),
            extra={"clipped": self.mean_of("clipfrac")},
        )

    def state_dict(self) -> dict[str, Any]:
        statistics = self.trainer.stat_tracker.stats if self.settings.statistics == "per-prompt" else {}
        return super().state_dict() | {
            "statistics": {str(prompt): [float(value) for value in values] for prompt, values in statistics.items()}
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        if self.settings.statistics == "per-prompt":
            self.trainer.stat_tracker.stats = {
                prompt: deque(values, maxlen=self.settings.buffer_size)
                for prompt, values in state["statistics"].items()
            }


def trained_steps(settings: TRLDDPOSettings, sampler: SamplerSettings) -> int:
    """The number of steps of a trajectory that TRL trains on."""
    return int(sampler.steps * settings.timestep_fraction)
