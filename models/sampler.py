"""DDIM with eta, per-row timesteps and log-probabilities (Song et al. 2021, arXiv 2010.02502, eq. 12 and 16).

Timesteps and cumulative alphas come from the checkpoint's diffusers scheduler; the arithmetic is ours because it
must be differentiable, batched over rows with different timesteps, and must expose the mean and the standard
deviation of each step. diffusers' own `DDIMScheduler.step` is the reference in the tests.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class SamplerSettings:
    """How images are sampled.

    Attributes:
        steps: number of denoising steps T, at least 1.
        guidance: classifier-free guidance scale w; 1 turns guidance off, above 1 every step costs two rows.
        eta: 0 is deterministic DDIM, 1 has DDPM's variance; log-probabilities exist only above 0.
    """

    steps: int
    guidance: float = 1.0
    eta: float = 0.0

    @property
    def rows_per_prediction(self) -> int:
        """Denoiser rows that one prediction of one image costs."""
        return rows_per_prediction(self.guidance)


def rows_per_prediction(guidance: float) -> int:
    """Denoiser rows of one guided prediction: the conditional one, and the unconditional one where w is not 1."""
    return 1 if guidance == 1.0 else 2


class Noise(Protocol):
    """Gives the noise that the step at `timestep` adds, `[B, *latent_shape]`, on any device."""

    def __call__(self, timestep: int) -> Tensor: ...


class Observer(Protocol):
    """Sees each step of a chain: x_t, the timesteps `[B]` and the predicted noise."""

    def __call__(self, latents: Tensor, timesteps: Tensor, epsilon: Tensor) -> None: ...


@dataclass(frozen=True)
class Prediction:
    """What the denoiser says of some rows.

    Attributes:
        epsilon: predicted noise ε `[B, ...]`, guided.
        output: what the denoiser put out, ε or v `[B, ...]`, guided. Where x_t is all noise, x̂_0 is in v alone.
    """

    epsilon: Tensor
    output: Tensor


NEARLY_NO_SIGNAL = 1e-3
"""Below this ᾱ, x̂_0 is taken from v itself. Through ε it would be a difference of nearly equal numbers divided by √ᾱ,
and 0 / 0 at zero terminal signal (Lin et al. 2023, arXiv 2305.08891). Above it the two agree to rounding, and curves of
models without such a timestep, as Stable Diffusion 1.x and the embedded one (ᾱ_T = 0.0047), stay bitwise the same.
"""


class Schedule:
    """The noise schedule of a checkpoint: ᾱ, the timesteps of a run of T steps, and the DDIM update.

    Args:
        scheduler: diffusers' `DDIMScheduler` (see `models.schedulers`).

    Raises:
        ValueError: its prediction type is neither `epsilon` nor `v_prediction`, or it is ε where no signal is left.
    """

    def __init__(self, scheduler: Any):
        config = scheduler.config
        self.prediction_type: str = config.prediction_type
        if self.prediction_type not in ("epsilon", "v_prediction"):
            raise ValueError(
                f"scheduler: prediction_type {self.prediction_type!r} is not supported; "
                "use a checkpoint that predicts epsilon or v_prediction"
            )
        self.train_timesteps: int = config.num_train_timesteps
        self.alphas_cumprod: Tensor = scheduler.alphas_cumprod.double()
        if self.prediction_type == "epsilon" and not float(self.alphas_cumprod.min()) > 0:
            raise ValueError(
                "scheduler: rescale_betas_zero_snr leaves no signal at the last timestep, where predicted noise says "
                "nothing of the image; use a checkpoint that predicts v, or rescale_betas_zero_snr: false"
            )
        self.fades = bool((self.alphas_cumprod < NEARLY_NO_SIGNAL).any())  # hardly any signal at some timestep
        self._runs: dict[int, Tensor] = {}
        # The ᾱ behind the last step. diffusers' default, 1.0, leaves the last step without variance.
        self.final_alpha = 1.0 if config.get("set_alpha_to_one", False) else float(self.alphas_cumprod[0])
        self.init_noise_sigma = float(getattr(scheduler, "init_noise_sigma", 1.0))
        self.scheduler = scheduler  # the checkpoint's own, in diffusers' class

    def timesteps(self, steps: int) -> list[int]:
        """The T timesteps of a run, from noisy to clean, as the checkpoint's scheduler spaces them.

        Raises:
            ValueError: the model was not trained at so many distinct timesteps.
        """
        if steps > self.train_timesteps:
            raise ValueError(f"{steps} steps are more than the model's {self.train_timesteps} timesteps")
        self.scheduler.set_timesteps(steps)
        found = [int(t) for t in self.scheduler.timesteps]
        falling = all(after < before for before, after in pairwise([self.train_timesteps, *found, -1]))
        if not falling:
            spacing = self.scheduler.config.timestep_spacing
            raise ValueError(f"{steps} steps with {spacing} spacing leave the model's {self.train_timesteps} timesteps")
        return found

    def previous(self, timesteps: Tensor, steps: int) -> Tensor:
        """The timestep behind each of int64 `timesteps` `[B]` in a run of T `steps`; −1 behind the last one.

        It is the next one in the run, whatever the spacing: with `linspace` the stride is (N − 1) / (T − 1), and not
        N // T, which diffusers 0.42.1 steps by. One that is not in the run is followed by the timestep N // T below it.
        """
        if steps not in self._runs:
            self._runs[steps] = torch.tensor([-1, *reversed(self.timesteps(steps))])
        run = self._runs[steps].to(timesteps.device)  # −1, then from clean to noisy
        place = torch.searchsorted(run, timesteps).clamp(max=len(run) - 1)
        return torch.where(run[place] == timesteps, run[place - 1], timesteps - self.train_timesteps // steps)

    def noiseless_step(self, steps: int) -> int | None:
        """The first timestep of a run of T `steps` whose step adds no noise even with eta 1; None where all do."""
        run = torch.tensor(self.timesteps(steps))
        one = torch.zeros(len(run), 1, dtype=torch.float64)
        _, sigma = self.step(Prediction(one, one), one, run, steps, 1.0)
        still = run[sigma.flatten() == 0]
        return int(still[0]) if len(still) else None

    def alpha(self, timesteps: Tensor, like: Tensor) -> Tensor:
        """ᾱ_t for int64 `timesteps` `[B]`, shaped to broadcast against `like` `[B, ...]`; below zero: the final ᾱ."""
        table = self.alphas_cumprod.to(like.device)
        values = torch.where(timesteps >= 0, table[timesteps.clamp(min=0)], self.final_alpha)
        return values.to(like.dtype).reshape(-1, *[1] * (like.dim() - 1))

    def prediction(self, output: Tensor, latents: Tensor, timesteps: Tensor) -> Prediction:
        """What the model's output `[B, ...]` says, whatever it predicts."""
        return Prediction(self.epsilon(output, latents, timesteps), output)

    def epsilon(self, output: Tensor, latents: Tensor, timesteps: Tensor) -> Tensor:
        """The model's output as predicted noise ε, `[B, ...]`, whatever it predicts."""
        if self.prediction_type == "epsilon":
            return output
        alpha = self.alpha(timesteps, latents)
        return alpha.sqrt() * output + (1 - alpha).sqrt() * latents

    def target(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """What the model is trained to output for `clean` latents under `noise`: ε or v."""
        if self.prediction_type == "epsilon":
            return noise
        alpha = self.alpha(timesteps, clean)
        return alpha.sqrt() * noise - (1 - alpha).sqrt() * clean

    def add_noise(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t of the forward process: √ᾱ x_0 + √(1−ᾱ) ε."""
        alpha = self.alpha(timesteps, clean)
        return alpha.sqrt() * clean + (1 - alpha).sqrt() * noise

    def predicted_clean(self, prediction: Prediction, latents: Tensor, timesteps: Tensor) -> Tensor:
        """x̂_0 `[B, ...]`: from predicted noise, or from v itself where hardly any signal is left."""
        alpha = self.alpha(timesteps, latents)
        if not self.fades or self.prediction_type == "epsilon":
            return (latents - (1 - alpha).sqrt() * prediction.epsilon) / alpha.sqrt()
        direct = alpha < NEARLY_NO_SIGNAL
        divisor = torch.where(direct, torch.ones_like(alpha), alpha).sqrt()  # or the branch not taken has NaN gradients
        by_noise = (latents - (1 - alpha).sqrt() * prediction.epsilon) / divisor
        by_velocity = alpha.sqrt() * latents - (1 - alpha).sqrt() * prediction.output
        return torch.where(direct, by_velocity, by_noise)

    def step(
        self, prediction: Prediction, latents: Tensor, timesteps: Tensor, steps: int, eta: float
    ) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of p(x_{t−1} | x_t) for rows with timesteps of their own.

        Args:
            prediction: of the rows.
            latents: x_t `[B, ...]`.
            timesteps: int64 `[B]`.
            steps: T, which fixes the timestep behind each (see `previous`).
            eta: scale of DDPM's standard deviation.

        Returns:
            mean `[B, ...]` and σ `[B, 1, ...]`.
        """
        previous = self.previous(timesteps, steps)
        alpha, alpha_previous = self.alpha(timesteps, latents), self.alpha(previous, latents)
        variance = (1 - alpha_previous) / (1 - alpha) * (1 - alpha / alpha_previous)
        sigma = eta * variance.clamp(min=0).sqrt()
        clean = self.predicted_clean(prediction, latents, timesteps)
        direction = (1 - alpha_previous - sigma**2).clamp(min=0).sqrt() * prediction.epsilon
        return alpha_previous.sqrt() * clean + direction, sigma


def log_probability(sample: Tensor, mean: Tensor, sigma: Tensor) -> Tensor:
    """log N(sample; mean, σ²), **averaged** over a row's dimensions as DDPO's code does: `[B]`.

    Multiply by the number of dimensions for the joint log-probability.

    Raises:
        ValueError: some σ is zero (eta 0, or a step without variance, see `Schedule.noiseless_step`).
    """
    if not bool((sigma > 0).all()):
        raise ValueError("sampler: a step has zero variance, so it has no log-probability; use eta > 0")
    squared = (sample - mean) ** 2 / (2 * sigma**2)
    return (-squared - sigma.log() - 0.5 * math.log(2 * math.pi)).flatten(1).mean(1)


@dataclass(frozen=True)
class Trajectory:
    """A rollout x_T … x_0 with what a policy gradient needs.

    Attributes:
        timesteps: the T timesteps, noisy to clean.
        latents: `[T + 1, B, ...]`, the first is x_T and the last x_0.
        log_probabilities: `[T, B]`, fp32, of each step under the policy that sampled it.
    """

    timesteps: list[int]
    latents: Tensor
    log_probabilities: Tensor
