"""Diffusion-DPO on pairs that the policy drew and the reward ranked.

Wallace et al. 2023, arXiv 2311.12908, eq. 14; code: SalesforceAIResearch/DiffusionDPO, train.py. For a better image
x^w and a worse x^l of one prompt, under the same timestep t and the same noise ε,

    minimise −log σ( −(β/2) [ (ℓ^w − ℓ_ref^w) − (ℓ^l − ℓ_ref^l) ] ),    ℓ = ‖ε − ε_θ(x_t, t, c)‖²

with the base model as reference. Published are this loss, β, the reference and one pair a caption. Ours are the pairs:
the paper learns from people's choices collected beforehand; here the policy draws the images in rounds, without
guidance as in the loss, and the reward ranks them, so that the method spends reward queries. Two parts of the authors'
code are left out: the learning rate's warm-up over the first 500 of 2,000 updates, and the drop of one caption in five.

In that code ℓ is the **mean** over the 16,384 dimensions of Stable Diffusion 1.5's latent, with β = 5,000; for the sum
over dimensions β would be 0.305. Here β keeps its meaning for the sum on latents of any size: it is rescaled by
dimensions / 16,384. ℓ is the error of ε, also for models that predict v (‖δv‖² = ‖δε‖² / ᾱ).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from methods.base import Method, StepMetrics, TrainingSettings, micro_batches, on_device
from methods.common.denoising import add_noise
from methods.common.drift import base_prediction, drift_penalty
from methods.common.preferences import check_pairs, preference_metrics, ranked_pairs
from methods.common.rollouts import collect, draw_batch
from methods.common.trajectories import relative_dimensions
from methods.settings import OURS, setting
from models.sampler import SamplerSettings


class DPOSettings(
    TrainingSettings,
    source="SalesforceAIResearch/DiffusionDPO, launchers/sd15.sh and train.py, full fine-tuning",
    published={"weight_decay": 1e-2, "max_grad_norm": 1.0},
):
    """Diffusion-DPO's settings. Defaults suit the embedded model; the paper has no rounds."""

    learning_rate: float = setting(3e-3, "AdamW's, tuned (sweeps/tuning)", published=2.048e-5, scales=True, gt=0)
    prompts_per_rollout: int = setting(8, "distinct draws of a prompt in a round", source=OURS, scales=True, ge=1)
    images_per_prompt: int = setting(8, "images of each prompt, two and two a pair", published=2, scales=True, ge=1)
    buffer_rollouts: int = setting(1, "rounds whose pairs are learned from", source=OURS, ge=1)
    updates_per_rollout: int = setting(4, "optimiser updates after a round", source=OURS, scales=True, ge=1)
    batch_size: int = setting(32, "pairs an update, drawn from the buffer", published=2048, scales=True, ge=1)
    beta: float = setting(
        10000.0,
        "β for Stable Diffusion 1.5's 16,384 dimensions: tuned (sweeps/tuning); 2,000 to 5,000 in the "
        "paper; rescaled by dimensions / 16,384",
        published=5000.0,
        scales=True,
        gt=0,
    )


@dataclass(frozen=True)
class Pairs:
    """P ranked pairs: their prompts, and x_0 of the better and of the worse image, `[P, C, h, w]` each."""

    prompts: list[str]
    better: Tensor
    worse: Tensor


class DPO(Method):
    """Direct preference optimisation on the denoising errors of two images of a prompt."""

    name = "dpo"
    summary = "Diffusion-DPO on pairs that the policy drew and the reward ranked"
    reward_access = "value"
    Settings = DPOSettings
    default_sampler = SamplerSettings(steps=10, guidance=1.0, eta=0.0)
    cuts_last_step = True
    settings: DPOSettings

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.buffer: list[Pairs] = []

    @classmethod
    def check(cls, settings: DPOSettings, sampler: SamplerSettings) -> None:
        check_pairs(settings.images_per_prompt)

    @classmethod
    def prompts_per_step(cls, settings: DPOSettings) -> int:
        return settings.prompts_per_rollout

    @classmethod
    def cost(cls, settings: DPOSettings, prompts: int, sampler: SamplerSettings) -> dict[str, int]:
        images = prompts * settings.images_per_prompt
        learned = 2 * settings.updates_per_rollout * settings.batch_size
        return {
            "updates": settings.updates_per_rollout,
            "reward_queries": images,
            "images": images,
            # The images, then three passes for each image of a pair: the base model's forward, the policy's forward
            # and its backward. The drift penalty uses the same passes.
            "nfe": images * sampler.steps * sampler.rows_per_prediction + 3 * learned,
        }

    def step(self, prompts: Sequence[str]) -> StepMetrics:
        settings, policy = self.settings, self.policy
        drawn = collect(self, [prompt for prompt in prompts for _ in range(settings.images_per_prompt)])
        ranked = ranked_pairs(drawn.rewards, settings.images_per_prompt)
        better, worse = ranked.T
        pairs = Pairs([drawn.prompts[index] for index in better.tolist()], drawn.latents[better], drawn.latents[worse])
        self.buffer = [*self.buffer, pairs][-settings.buffer_rollouts :]
        sides = [entry.better for entry in self.buffer], [entry.worse for entry in self.buffer]
        clean = torch.stack([torch.cat(side) for side in sides])
        names = [prompt for entry in self.buffer for prompt in entry.prompts]

        losses, norms, right = [], [], []
        for update in range(settings.updates_per_rollout if names else 0):
            order = draw_batch(self, f"batch/{update}", len(names), settings.batch_size)
            for piece in micro_batches(len(order), max(1, settings.micro_batch // 2)):
                chosen = [index % len(names) for index in order[piece]]
                captions = [names[index] for index in chosen] * 2
                # Both images of a pair have the pair's number, and so the same timestep and noise.
                noisy = add_noise(self, clean[:, chosen].flatten(0, 1), captions, f"pairs/{update}", order[piece] * 2)
                base = base_prediction(policy, *noisy.inputs)
                prediction = policy.predict(*noisy.inputs)
                excess = noisy.error(prediction, "epsilon") - noisy.error(base, "epsilon")
                drift = drift_penalty(self, prediction, base)
                loss = self.preference_loss(*excess.chunk(2)) + (drift[: len(chosen)] + drift[len(chosen) :]) / 2
                self.optimiser.backward(loss.sum() / len(order))
                losses.append(loss.detach())
                right.append((excess[: len(chosen)] < excess[len(chosen) :]).float())
            norms.append(self.optimiser.step())
        self.iteration += 1
        return preference_metrics(drawn.rewards, len(ranked), losses, right, norms)

    def preference_loss(self, better: Tensor, worse: Tensor) -> Tensor:
        """The loss of each pair `[P]`, eq. 14.

        Args:
            better, worse: ℓ − ℓ_ref of the two images, `[P]`, means over the latent's dimensions.
        """
        beta = self.settings.beta * relative_dimensions(self.policy)
        return -torch.nn.functional.logsigmoid(-beta / 2 * (better - worse))

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"buffer": [asdict(pairs) for pairs in self.buffer]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.buffer = [Pairs(**on_device(pairs, self.policy.device)) for pairs in state["buffer"]]
