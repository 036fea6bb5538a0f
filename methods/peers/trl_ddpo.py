"""TRL 0.23.1's DDPOTrainer as a method (see `methods/ddpo.py` for ours and the paper).

TRL differs from ours in three points: an update takes whole trajectories and goes through their timesteps one at a
time, where ours mixes (sample, timestep) rows; a prompt's statistics are of its last eight rewards by default, where
ours are of its last 32; the clip range applies to the ratio of mean log-probabilities, without rescaling to the
latent's dimensions. One thing in TRL is changed: if rewards differ by rounding only, its advantages are replaced by 0,
as ours are.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from methods.base import StepMetrics, mean
from methods.common.advantages import futile_statistics, varies
from methods.peers.trl_method import SOURCE, TRLMethod, TRLSettings, largest_divisor
from methods.settings import setting
from models.sampler import SamplerSettings


class TRLDDPOSettings(TRLSettings, source=SOURCE):
    """Settings of TRL's DDPOTrainer. Defaults are those of our `ddpo` where TRL has the setting."""

    learning_rate: float = setting(3e-3, "AdamW's learning rate, as our ddpo", published=3e-4, scales=True, gt=0)
    prompts_per_rollout: int = setting(8, "distinct draws of a prompt, as our ddpo", published=2, scales=True, ge=1)
    images_per_prompt: int = setting(8, "images of each prompt, as our ddpo", published=1, scales=True, ge=1)
    updates_per_rollout: int = setting(
        4,
        "most optimiser updates an inner epoch, as our ddpo; fewer if they do not divide the rollout",
        published=2,
        scales=True,
        ge=1,
    )
    inner_epochs: int = setting(1, "passes over a rollout", published=1, scales=True, ge=1)
    statistics: Literal["per-prompt", "batch"] = setting(
        "per-prompt",
        "rewards that advantages are relative to. per-prompt: the prompt's last rewards; batch: those of the rollout",
        published="batch",
    )
    buffer_size: int = setting(
        32,
        "rewards remembered for a prompt, as our ddpo; equal to images_per_prompt it holds this rollout's images, "
        "the nearest to ddpo's statistics: group",
        published=16,
        scales=True,
        ge=2,
    )
    min_count: int = setting(
        16, "with fewer remembered rewards the rollout's statistics are used", published=16, scales=True, ge=2
    )
    advantage_clip: float = setting(5.0, "advantages are clipped to ± this", published=5.0, gt=0)
    clip_range: float = setting(
        3.2e-2,
        "ε of the ratio of mean log-probabilities, not rescaled. The default is our ddpo's 2e-3 for 16,384 "
        "dimensions, rescaled to the embedded latent's 1,024",
        published=1e-4,
        scales=True,
        gt=0,
    )
    timestep_fraction: float = setting(
        1.0, "share of a trajectory's steps that is trained on", published=1.0, gt=0, le=1
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
