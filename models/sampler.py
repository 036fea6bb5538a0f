"""DDIM with eta, per-row timesteps and log-probabilities (Song et al. 2021, arXiv 2010.02502, eq. 12 and 16).

Timesteps and cumulative alphas come from the checkpoint's diffusers scheduler. The arithmetic is our own, because it
must be differentiable, accept rows with different timesteps, and return the mean and the standard deviation of each
step. The tests compare it with diffusers' `DDIMScheduler.step`.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class SamplerSettings:
    """The settings of the DDIM sampler.

    Attributes:
        steps: number of denoising steps T, at least 1.
        guidance: classifier-free guidance scale w; 1 turns guidance off, any other value costs two rows a step.
        eta: 0 is deterministic DDIM, 1 has DDPM's variance; log-probabilities exist only above 0.
    """

    steps: int
    guidance: float = 1.0
    eta: float = 0.0

    @property
    def rows_per_prediction(self) -> int:
        """The number of denoiser rows that one prediction for one image costs."""
        return rows_per_prediction(self.guidance)


def rows_per_prediction(guidance: float) -> int:
    """The denoiser rows of one prediction: 1 without guidance, 2 (conditional and unconditional) with it."""
    return 1 if guidance == 1.0 else 2


class Noise(Protocol):
    """Returns the noise `[B, *latent_shape]` that the step at `timestep` adds, on any device."""

    def __call__(self, timestep: int) -> Tensor: ...


class Observer(Protocol):
    """Called at each step of a chain with x_t `[B, ...]`, the timesteps `[B]` and the predicted noise `[B, ...]`."""

    def __call__(self, latents: Tensor, timesteps: Tensor, epsilon: Tensor) -> None: ...


@dataclass(frozen=True)
class Prediction:
    """The denoiser's prediction for B rows.

    Attributes:
        epsilon: predicted noise ε `[B, ...]`, with guidance.
        output: output of the denoiser, ε or v `[B, ...]`, with guidance. If x_t is pure noise, x̂_0 follows from v but
            not from ε.
    """

    epsilon: Tensor
    output: Tensor


NEARLY_NO_SIGNAL = 1e-3
"""Below this ᾱ, x̂_0 is computed from v itself. Computed from ε it would be a difference of nearly equal numbers divided
by √ᾱ, and 0 / 0 at zero terminal signal (Lin et al. 2023, arXiv 2305.08891). Above it the two agree to rounding. Models
without such a timestep, such as Stable Diffusion 1.x and the embedded one (ᾱ_T = 0.0047), use ε at every step.
"""


class Schedule:
    """The noise schedule of a checkpoint: ᾱ, the timesteps of a run of T steps, and the DDIM update.

    Args:
        scheduler: diffusers' `DDIMScheduler` (see `models.schedulers`).

    Attributes:
        fades: whether some timestep has an ᾱ below `NEARLY_NO_SIGNAL`.

    Raises:
        ValueError: the prediction type is neither `epsilon` nor `v_prediction`, or it is `epsilon` and ᾱ reaches 0.
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
                "scheduler: rescale_betas_zero_snr leaves no signal at the last timestep, where no image follows from "
                "the predicted noise; use a checkpoint that predicts v, or rescale_betas_zero_snr: false"
            )
        self.fades = bool((self.alphas_cumprod < NEARLY_NO_SIGNAL).any())
        self._runs: dict[int, Tensor] = {}
        # The ᾱ after the last step. diffusers' default, 1.0, leaves the last step without variance.
        self.final_alpha = 1.0 if config.get("set_alpha_to_one", False) else float(self.alphas_cumprod[0])
        self.init_noise_sigma = float(getattr(scheduler, "init_noise_sigma", 1.0))
        self.scheduler = scheduler

    def timesteps(self, steps: int) -> list[int]:
        """The T timesteps of a run of T `steps`, from noisy to clean, as the checkpoint's scheduler spaces them.

        Raises:
            ValueError: the model was not trained at T distinct timesteps, or the spacing leaves them.
        """
        if steps > self.train_timesteps:
            raise ValueError(f"{steps} steps are more than the model's {self.train_timesteps} timesteps")
        self.scheduler.set_timesteps(steps)
        run = [int(t) for t in self.scheduler.timesteps]
        falling = all(after < before for before, after in pairwise([self.train_timesteps, *run, -1]))
        if not falling:
            spacing = self.scheduler.config.timestep_spacing
            raise ValueError(f"{steps} steps with {spacing} spacing leave the model's {self.train_timesteps} timesteps")
        return run

    def previous(self, timesteps: Tensor, steps: int) -> Tensor:
        """The timestep that a step leads to, for each of int64 `timesteps` `[B]` in a run of T `steps`.

        It is the next timestep of the run, for any spacing, and −1 after the last one: with `linspace` spacing the
        stride is (N − 1) / (T − 1), where diffusers 0.42.1 steps by N // T. A timestep that is not in the run leads to
        the timestep N // T below it.
        """
        if steps not in self._runs:
            self._runs[steps] = torch.tensor([-1, *reversed(self.timesteps(steps))])
        run = self._runs[steps].to(timesteps.device)  # −1, then from clean to noisy
        place = torch.searchsorted(run, timesteps).clamp(max=len(run) - 1)
        return torch.where(run[place] == timesteps, run[place - 1], timesteps - self.train_timesteps // steps)

    def noiseless_step(self, steps: int) -> int | None:
        """The first timestep of a run of T `steps` whose step adds no noise even with eta 1; None if all steps do."""
        run = torch.tensor(self.timesteps(steps))
        one = torch.zeros(len(run), 1, dtype=torch.float64)
        _, sigma = self.step(Prediction(one, one), one, run, steps, 1.0)
        noiseless = run[sigma.flatten() == 0]
        return int(noiseless[0]) if len(noiseless) else None

    def alpha(self, timesteps: Tensor, like: Tensor) -> Tensor:
        """ᾱ_t of int64 `timesteps` `[B]`, shaped to broadcast against `like` `[B, ...]`; the final ᾱ below zero."""
        table = self.alphas_cumprod.to(like.device)
        values = torch.where(timesteps >= 0, table[timesteps.clamp(min=0)], self.final_alpha)
        return values.to(like.dtype).reshape(-1, *[1] * (like.dim() - 1))

    def prediction(self, output: Tensor, latents: Tensor, timesteps: Tensor) -> Prediction:
        """The prediction that the model's output `[B, ...]`, ε or v, stands for at x_t `latents` `[B, ...]`."""
        return Prediction(self.epsilon(output, latents, timesteps), output)

    def epsilon(self, output: Tensor, latents: Tensor, timesteps: Tensor) -> Tensor:
        """Converts the model's output `[B, ...]`, ε or v, to predicted noise ε `[B, ...]`."""
        if self.prediction_type == "epsilon":
            return output
        alpha = self.alpha(timesteps, latents)
        return alpha.sqrt() * output + (1 - alpha).sqrt() * latents

    def target(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The training target `[B, ...]` of the model, ε or v, for `clean` latents x_0 under `noise` ε."""
        if self.prediction_type == "epsilon":
            return noise
        alpha = self.alpha(timesteps, clean)
        return alpha.sqrt() * noise - (1 - alpha).sqrt() * clean

    def add_noise(self, clean: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """x_t `[B, ...]` of the forward process: √ᾱ x_0 + √(1−ᾱ) ε."""
        alpha = self.alpha(timesteps, clean)
        return alpha.sqrt() * clean + (1 - alpha).sqrt() * noise

    def predicted_clean(self, prediction: Prediction, latents: Tensor, timesteps: Tensor) -> Tensor:
        """x̂_0 `[B, ...]`, from the predicted noise, or from v at timesteps with ᾱ below `NEARLY_NO_SIGNAL`."""
        alpha = self.alpha(timesteps, latents)
        if not self.fades or self.prediction_type == "epsilon":
            return (latents - (1 - alpha).sqrt() * prediction.epsilon) / alpha.sqrt()
        direct = alpha < NEARLY_NO_SIGNAL
        # Without the replacement by 1, the branch that `where` does not take would have NaN gradients.
        divisor = torch.where(direct, torch.ones_like(alpha), alpha).sqrt()
        by_noise = (latents - (1 - alpha).sqrt() * prediction.epsilon) / divisor
        by_velocity = alpha.sqrt() * latents - (1 - alpha).sqrt() * prediction.output
        return torch.where(direct, by_velocity, by_noise)

    def step(
        self, prediction: Prediction, latents: Tensor, timesteps: Tensor, steps: int, eta: float
    ) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of p(x_{t−1} | x_t), eq. 12 and 16.

        Args:
            prediction: the denoiser's prediction at x_t.
            latents: x_t `[B, ...]`.
            timesteps: int64 `[B]`, one for each row.
            steps: T, which fixes the timestep of x_{t−1} (see `previous`).
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
    """The latents x_T … x_0 of a rollout, with the log-probabilities that a policy gradient needs.

    Attributes:
        timesteps: the T timesteps, noisy to clean.
        latents: `[T + 1, B, ...]`; the first is x_T and the last x_0.
        log_probabilities: `[T, B]`, fp32; log-probability of each step under the policy that sampled it.
    """

    timesteps: list[int]
    latents: Tensor
    log_probabilities: Tensor
