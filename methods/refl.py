"""ReFL: reward feedback learning.

Xu, Liu, Wu, Tong, Li, Ding, Tang, Dong 2023 (ImageReward), arXiv 2304.05977, Algorithm 1; code: THUDM/ImageReward.

    m ~ U over late steps;  x_m by m steps without gradient;  x̂_0 = (x_m − √(1−ᾱ) ε_θ(x_m, c)) / √ᾱ
    θ ← θ − η λ ∇_θ E[ φ(r(x̂_0, c)) ],   φ(r) = relu(2 − r) on ImageReward's scale, λ = 1e-3

The authors' code samples 40 steps without guidance and draws m from 30..39 for each micro-batch of two. Here m is drawn
once for an update, whose result must not depend on the micro-batch. Denoiser and x̂_0 take the timestep of x_m, as in
the code since July 2023. Two parts are left out: the code saves a moving average of the weights, here the policy itself
is evaluated; and the paper's algorithm also trains on the pre-training loss, for which a comparison by reward has no
data. `drift_weight` can pull the policy towards the base model instead.
"""

from collections.abc import Sequence

from pydantic import model_validator
from torch import Tensor

from methods.base import Method, StepMetrics, micro_batches
from methods.common.backprop import BackpropSettings, Draw, Tally, choose_checkpointing, penalise, update_cost
from methods.settings import setting
from models.checkpointing import Checkpointing
from models.sampler import SamplerSettings


class ReFLSettings(
    BackpropSettings,
    source="THUDM/ImageReward, ImageReward/ReFL.py and scripts/train_refl.sh, full fine-tuning",
    published={"weight_decay": 1e-2, "max_grad_norm": 1.0, "batch_size": 64},
):
    """ReFL's settings. Defaults suit the embedded model."""

    learning_rate: float = setting(8e-3, "AdamW's, tuned (sweeps/tuning)", published=1e-5, scales=True, gt=0)
    loss_scale: float = setting(1.0, "λ, factor on the loss", published=1e-3, scales=True, gt=0)
    threshold: float | None = setting(
        None,
        "the loss is λ·relu(threshold − r). The published threshold is on ImageReward's scale and may leave no "
        "gradient on another; by default it lies above all rewards, where the loss −λ·r has the same gradient",
        published=2.0,
        scales=True,
    )
    stop_from: float = setting(0.75, "earliest stop as a share of T, rounded down", published=0.75, ge=0, lt=1)
    stop_to: float = setting(1.0, "end of the stops as a share of T, itself excluded", published=1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _ordered(self) -> "ReFLSettings":
        if self.stop_from >= self.stop_to:
            raise ValueError("stop_from must be below stop_to")
        return self


class ReFL(Method):
    """Gradient ascent on the reward of the clean image predicted at a late step."""

    name = "refl"
    summary = "reward gradient through one late step's prediction of the clean image (ReFL)"
    reward_access = "gradient"
    Settings = ReFLSettings
    settings: ReFLSettings

    @classmethod
    def prompts_per_step(cls, settings: ReFLSettings) -> int:
        return settings.batch_size

    @classmethod
    def cost(cls, settings: ReFLSettings, prompts: int, sampler: SamplerSettings) -> dict[str, int]:
        latest = stops(settings, sampler.steps)[-1]
        return update_cost(settings, sampler, prompts, forward=latest + 1, kept=1)

    def loss(self, rewards: Tensor) -> Tensor:
        """The loss of each image `[B]`."""
        if self.settings.threshold is None:
            return -self.settings.loss_scale * rewards
        return self.settings.loss_scale * (self.settings.threshold - rewards).relu()

    def step(self, prompts: Sequence[str]) -> StepMetrics:
        possible = stops(self.settings, self.policy.sampler.steps)
        stop = possible[int(self.seeds.integers("stop", self.iteration, [0], 0, len(possible)))]
        checkpointing = choose_checkpointing(self, prompts, kept=1)
        tally = Tally()
        for rows in micro_batches(len(prompts), self.settings.micro_batch):
            chosen = list(prompts[rows])
            draw = self._predict(chosen, range(rows.start, rows.stop), stop, checkpointing)
            rewards = self.reward(self.policy.decode(draw.final), chosen)
            losses = self.loss(rewards)
            self.optimiser.backward(losses.sum() / len(prompts))
            tally.drift += penalise(self, draw, chosen, len(prompts))
            tally.add(losses, rewards)
        norm = self.optimiser.step()
        self.iteration += 1
        metrics = tally.metrics(self, norm, checkpointing)
        metrics.extra["stop"] = float(stop)
        return metrics

    def _predict(self, prompts: list[str], samples: range, stop: int, checkpointing: Checkpointing) -> Draw:
        """Samples x_m, m = `stop` steps into the chain, and predicts x̂_0 from it."""
        policy, noise = self.policy, self.rollout_noise(samples)
        conditioning = policy.encode(prompts)
        state = policy.sample(policy.start(noise(-1)), conditioning, noise, end=stop)
        times = policy.times()[stop].expand(len(state))
        prediction = policy.predict(state, times, conditioning, policy.sampler.guidance, checkpointing)
        return Draw(prediction.clean, [state], [times])


def stops(settings: ReFLSettings, steps: int) -> range:
    """The steps m, counted from the noise, at which a chain of T = `steps` may stop; there is at least one."""
    first = int(settings.stop_from * steps)
    return range(first, max(first + 1, int(settings.stop_to * steps)))
