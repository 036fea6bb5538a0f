"""DiffusionNFT: online reinforcement on the forward process.

Zheng, Chen, Ye, Wang, Zhang, Jiang, Su, Ermon, Zhu, Liu 2025, arXiv 2509.16117; code: NVlabs/DiffusionNFT. An
image drawn by the model `old` counts as good with probability q, which follows from its advantage A among its prompt's
images. The policy v_θ is trained as the good direction from `old`, and its mirror image as the bad direction:

    q = clip(½ + A / (2 A_max), 0, 1),    v± = v_old ± β (v_θ − v_old)
    minimise (A_max / β) [ q ‖x̂_0⁺ − x_0‖² / w⁺ + (1 − q) ‖x̂_0⁻ − x_0‖² / w⁻ ] + 1e-4 ‖ε_θ − ε_base‖²,
    w± = mean |x̂_0± − x_0|, without gradient

x̂_0± is the clean latent that v± predicts at x_t, the forward noising of x_0. The method needs no log-probability, so it
works with any sampler and stores no trajectory. The samples come from `old`, a second set of adapter weights that
follows the policy by an exponential moving average, fast at first. The loss has no guidance, and neither has the
sampling of the authors' code.

As in the code, the squares are means over dimensions. The code differs in four points. Its model is a flow,
x̂_0 = x_t − t v; here x̂_0 follows from v or ε by the schedule. Its last term is the drift of the flow's v, where
δε = (1 − t) δv; the weight is the same here. Here A is a reward less its prompt's mean, over the standard deviation of
these differences; the code divides by the standard deviation of the rewards themselves, which is larger if prompts
differ. The code evaluates a moving average of the policy's weights; here the policy is evaluated.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from methods.base import Method, StepMetrics, TrainingSettings, mean, micro_batches
from methods.common.advantages import group_advantages
from methods.common.denoising import add_noise
from methods.common.drift import drift_penalty, reference, reference_nfe
from methods.common.rollouts import collect
from methods.settings import setting
from models.adapter import MovingAverage
from models.sampler import SamplerSettings


class NFTSettings(
    TrainingSettings,
    source="NVlabs/DiffusionNFT, config/nft.py: sd3_pickscore, config/base.py and scripts/train_nft_sd3.py",
    published={"weight_decay": 1e-4, "max_grad_norm": 1.0},
):
    """NFT's settings. Defaults suit the embedded model; the paper fine-tunes Stable Diffusion 3.5 with LoRA."""

    learning_rate: float = setting(3e-3, "AdamW's, tuned (sweeps/tuning)", published=3e-4, scales=True, gt=0)
    prompts_per_rollout: int = setting(8, "distinct draws of a prompt in a round", published=48, scales=True, ge=1)
    images_per_prompt: int = setting(8, "images of each prompt", published=24, scales=True, ge=2)
    timesteps_per_image: int = setting(
        4,
        "draws of t and noise for each image, at any t; the published are 9 of the sampler's 10 steps",
        published=9,
        scales=True,
        ge=1,
    )
    updates_per_rollout: int = setting(4, "optimiser updates on a round", published=1, scales=True, ge=1)
    beta: float = setting(
        0.03, "β: tuned (sweeps/tuning); 0.1 in the code's OCR and multi-reward runs", published=1.0, scales=True, gt=0
    )
    advantage_clip: float = setting(5.0, "A_max: advantages are clipped to ± this", published=5.0, gt=0)
    old_rate: float = setting(1e-3, "`old`'s decay is this times the updates so far", published=1e-3, ge=0)
    old_decay: float = setting(0.5, "`old`'s decay is at most this", published=0.5, ge=0, lt=1)
    drift_weight: float = setting(
        1e-4,
        "weight of mean ‖ε_θ − ε_base‖², pulling towards the base model; the published is for the flow's v",
        published=1e-4,
        ge=0,
    )


class NFT(Method):
    """Reinforcement of good directions from `old` over bad ones, on the denoising error."""

    name = "nft"
    summary = "good and bad directions on the forward process (DiffusionNFT)"
    reward_access = "value"
    Settings = NFTSettings
    default_sampler = SamplerSettings(steps=10, guidance=1.0, eta=0.0)
    cuts_last_step = True
    settings: NFTSettings

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.old = MovingAverage(self.policy.snapshot())

    @classmethod
    def prompts_per_step(cls, settings: NFTSettings) -> int:
        return settings.prompts_per_rollout

    @classmethod
    def cost(cls, settings: NFTSettings, prompts: int, sampler: SamplerSettings) -> dict[str, int]:
        images = prompts * settings.images_per_prompt
        learned = images * settings.timesteps_per_image
        return {
            "updates": settings.updates_per_rollout,
            "reward_queries": images,
            "images": images,
            # The images, then three passes for each draw: old's forward, the policy's forward and its backward.
            "nfe": images * sampler.steps * sampler.rows_per_prediction
            + 3 * learned
            + reference_nfe(settings, learned),
        }

    def step(self, prompts: Sequence[str]) -> StepMetrics:
        settings, policy = self.settings, self.policy
        prompts = [prompt for prompt in prompts for _ in range(settings.images_per_prompt)]
        with policy.using(self.old.weights):
            drawn = collect(self, prompts)
        advantages = group_advantages(drawn.rewards, prompts)
        good = (0.5 + advantages / (2 * settings.advantage_clip)).clamp(0, 1)

        # A row is an image at one draw of t and noise, keyed by the number of the row.
        order = self.seeds.permutation("rows", self.iteration, len(prompts) * settings.timesteps_per_image)
        losses, norms = [], []
        for update in range(settings.updates_per_rollout):
            chosen = order[update :: settings.updates_per_rollout]
            if not chosen:
                continue
            for piece in micro_batches(len(chosen), settings.micro_batch):
                image = [row % len(prompts) for row in chosen[piece]]
                clean, captions = drawn.latents[image], [prompts[index] for index in image]
                noisy = add_noise(self, clean, captions, "denoising", chosen[piece])
                base = reference(self, *noisy.inputs)
                with policy.using(self.old.weights):
                    old = policy.predict(*noisy.inputs)
                prediction = policy.predict(*noisy.inputs)
                loss = self.contrast(prediction.clean, old.clean, clean, good[image])
                loss = loss + drift_penalty(self, prediction, base)
                self.optimiser.backward(loss.sum() / len(chosen))
                losses.append(loss.detach())
            norms.append(self.optimiser.step())
        self.iteration += 1
        self._follow()
        return StepMetrics(
            loss=float(torch.cat(losses).mean()),
            reward=float(drawn.rewards.mean()),
            gradient_norm=mean(norms),
            updates=len(norms),
        )

    def contrast(self, predicted: Tensor, old: Tensor, clean: Tensor, good: Tensor) -> Tensor:
        """The loss of each row `[B]`.

        Args:
            predicted, old: x̂_0 of the policy and of `old`, `[B, C, h, w]`. x̂_0 is linear in v, so x̂_0± follows from the
                two as v± does.
            clean: x_0 `[B, C, h, w]`.
            good: q `[B]`.
        """
        beta = self.settings.beta
        towards = old + beta * (predicted - old)
        away = old - beta * (predicted - old)
        positive, negative = (self_normalised_error(side, clean) for side in (towards, away))
        return self.settings.advantage_clip / beta * (good * positive + (1 - good) * negative)

    def _follow(self) -> None:
        """Updates old ← λ old + (1 − λ) θ, with a decay λ that grows with the number of updates so far."""
        decay = min(
            self.settings.old_rate * self.settings.updates_per_rollout * self.iteration, self.settings.old_decay
        )
        self.old.update(self.policy.snapshot(), decay)

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"old": self.old.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.old.load_state_dict(state["old"])


def self_normalised_error(predicted: Tensor, clean: Tensor) -> Tensor:
    """mean (x̂_0 − x_0)² / mean |x̂_0 − x_0|, the denominator at least 1e-5 and without gradient: `[B]`."""
    difference = (predicted - clean).flatten(1)
    return (difference**2).mean(1) / difference.detach().abs().mean(1).clamp(min=1e-5)
