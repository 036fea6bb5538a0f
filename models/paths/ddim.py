"""DDIM with eta, per-row timesteps and log-probabilities (Song et al. 2021, arXiv 2010.02502, eq. 12 and 16).

Timesteps and cumulative alphas come from the checkpoint's diffusers scheduler. The arithmetic is our own, because it
must be differentiable, accept rows with different timesteps, and return the mean and the standard deviation of each
step. The tests compare it with diffusers' `DDIMScheduler.step`.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from models.choices import Spacing
from models.noise import SeedStream
from models.paths.base import NoisePath
from models.paths.prediction import Prediction
from models.paths.transition import GaussianTransition
from models.sampler import SamplerSettings

NEARLY_NO_SIGNAL = 1e-3
"""Below this ᾱ, x̂_0 is computed from v itself. Computed from ε it would be a difference of nearly equal numbers divided
by √ᾱ, and 0 / 0 at zero terminal signal (Lin et al. 2023, arXiv 2305.08891). Above it the two agree to rounding. Models
without such a timestep, such as Stable Diffusion 1.x and the embedded one (ᾱ_T = 0.0047), use ε at every step.
"""


class DDIM(NoisePath):
    """The noise process of a checkpoint: ᾱ, the timesteps of a run of T steps, and the DDIM update.

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
        self._runs: dict[tuple[int, Spacing | None, str], Tensor] = {}
        self._noiseless: dict[tuple[int, Spacing | None], int | None] = {}
        # The ᾱ after the last step. diffusers' default, 1.0, leaves the last step without variance.
        self.final_alpha = 1.0 if config.get("set_alpha_to_one", False) else float(self.alphas_cumprod[0])
        # ᾱ of each timestep, and last, where index −1 finds it, that after the last step; a copy on each device.
        table = torch.cat([self.alphas_cumprod, self.alphas_cumprod.new_tensor([self.final_alpha])])
        self._tables: dict[torch.device, Tensor] = {table.device: table}
        self.init_noise_sigma = float(getattr(scheduler, "init_noise_sigma", 1.0))
        self.scheduler = scheduler
        self._spaced: dict[Spacing | None, Any] = {None: scheduler, config.timestep_spacing: scheduler}

    def timesteps(self, sampler: SamplerSettings) -> list[int]:
        """The T timesteps of a sampler's run, from noisy to clean, as diffusers' scheduler spaces them.

        Raises:
            ValueError: the model was not trained at T distinct timesteps, or the spacing leaves them.
        """
        steps, scheduler = sampler.steps, self.spaced(sampler.spacing)
        if steps > self.train_timesteps:
            raise ValueError(f"{steps} steps are more than the model's {self.train_timesteps} timesteps")
        scheduler.set_timesteps(steps)
        run = [int(t) for t in scheduler.timesteps]
        falling = all(after < before for before, after in pairwise([self.train_timesteps, *run, -1]))
        if not falling:
            spacing = scheduler.config.timestep_spacing
            raise ValueError(f"{steps} steps with {spacing} spacing leave the model's {self.train_timesteps} timesteps")
        return run

    def spaced(self, spacing: Spacing | None) -> Any:
        """The scheduler with another spacing; `steps_offset` is 1 with leading spacing only (`models.schedulers`)."""
        if spacing not in self._spaced:
            changed = {"timestep_spacing": spacing, "steps_offset": int(spacing == "leading")}
            self._spaced[spacing] = type(self.scheduler).from_config(self.scheduler.config, **changed)
        return self._spaced[spacing]

    def times(self, sampler: SamplerSettings, device: torch.device | str = "cpu") -> Tensor:
        """The timesteps of a sampler's run, from noisy to clean, and −1 after the last: int64 `[T + 1]`.

        With `linspace` spacing the stride is (N − 1) / (T − 1), where diffusers 0.42.1 steps by N // T.
        """
        key = sampler.steps, sampler.spacing, str(device)
        if key not in self._runs:
            self._runs[key] = torch.tensor([*self.timesteps(sampler), -1]).to(device, non_blocking=True)
        return self._runs[key]

    def draw_times(self, seeds: SeedStream, purpose: str, step: int, samples: Sequence[int]) -> Tensor:
        """A training timestep for each of the numbered `samples`, uniform, keyed as all noise is: int64 `[B]`."""
        return seeds.integers(purpose, step, samples, 0, self.train_timesteps)

    def start(self, noise: Tensor) -> Tensor:
        """x_T `[B, ...]` from standard normal noise."""
        return noise * self.init_noise_sigma

    def unfit(self, sampler: SamplerSettings, random: bool = False) -> str | None:
        unfit = super().unfit(sampler)
        noiseless = self.noiseless_step(sampler) if random and not unfit else None
        if noiseless is None:
            return unfit
        if sampler.spacing == "linspace":
            return (
                f"linspace spacing ends at t = {noiseless}, in whose step no noise is added, so that it has no "
                "log-probability; write spacing: leading (or trailing)"
            )
        config = self.spaced(sampler.spacing).config
        if config.get("set_alpha_to_one"):
            key = "set_alpha_to_one: false"
        elif config.timestep_spacing == "linspace":
            key = "timestep_spacing: leading (or trailing)"
        elif noiseless == 0 and self.final_alpha < 1:
            key = "steps_offset: 1"
        else:
            key = "a beta_start above 0"
        return (
            f"the model's scheduler adds no noise in its step at t = {noiseless}, so that step has no log-probability; "
            f"write {key} in its configuration (scheduler_config.json)"
        )

    def noiseless_step(self, sampler: SamplerSettings) -> int | None:
        """The first timestep of a sampler's run whose step adds no noise even with eta 1; None if all steps do."""
        key = sampler.steps, sampler.spacing
        if key not in self._noiseless:
            self._noiseless[key] = self._find_noiseless_step(sampler)
        return self._noiseless[key]

    def _find_noiseless_step(self, sampler: SamplerSettings) -> int | None:
        run = self.times(sampler)
        alpha, following = self.alpha(run[:-1], run.double()), self.alpha(run[1:], run.double())
        noiseless = run[:-1][(1 - following) / (1 - alpha) * (1 - alpha / following) <= 0]
        return int(noiseless[0]) if len(noiseless) else None

    def alpha(self, timesteps: Tensor, like: Tensor) -> Tensor:
        """ᾱ_t of int64 `timesteps` `[B]`, shaped to broadcast against `like` `[B, ...]`; the final ᾱ at −1."""
        if like.device not in self._tables:
            self._tables[like.device] = next(iter(self._tables.values())).to(like.device, non_blocking=True)
        return self._tables[like.device][timesteps].to(like.dtype).reshape(-1, *[1] * (like.dim() - 1))

    def prediction(self, output: Tensor, state: Tensor, times: Tensor) -> Prediction:
        """The prediction that the model's output `[B, ...]`, ε or v, stands for at x_t `state` `[B, ...]`."""
        return Prediction(state, times, output, self.epsilon(output, state, times), self)

    def epsilon(self, output: Tensor, latents: Tensor, timesteps: Tensor) -> Tensor:
        """Converts the model's output `[B, ...]`, ε or v, to predicted noise ε `[B, ...]`."""
        if self.prediction_type == "epsilon":
            return output
        alpha = self.alpha(timesteps, latents)
        return alpha.sqrt() * output + (1 - alpha).sqrt() * latents

    def target(self, final: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """The training target `[B, ...]` of the model, ε or v, for clean latents x_0 `final` under `noise` ε."""
        return noise if self.prediction_type == "epsilon" else self.velocity(final, noise, times)

    def velocity(self, final: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """v `[B, ...]` = √ᾱ ε − √(1−ᾱ) x_0 (Salimans & Ho 2022, arXiv 2202.00512, appendix D)."""
        alpha = self.alpha(times, final)
        return alpha.sqrt() * noise - (1 - alpha).sqrt() * final

    def corrupt(self, final: Tensor, noise: Tensor, times: Tensor) -> Tensor:
        """x_t `[B, ...]` of the forward process: √ᾱ x_0 + √(1−ᾱ) ε."""
        alpha = self.alpha(times, final)
        return alpha.sqrt() * final + (1 - alpha).sqrt() * noise

    def clean(self, prediction: Prediction) -> Tensor:
        """x̂_0 `[B, ...]`, from the predicted noise, or from v at timesteps with ᾱ below `NEARLY_NO_SIGNAL`."""
        state = prediction.state
        alpha = self.alpha(prediction.times, state)
        if not self.fades or self.prediction_type == "epsilon":
            return (state - (1 - alpha).sqrt() * prediction.epsilon) / alpha.sqrt()
        direct = alpha < NEARLY_NO_SIGNAL
        # Without the replacement by 1, the branch that `where` does not take would have NaN gradients.
        divisor = torch.where(direct, torch.ones_like(alpha), alpha).sqrt()
        by_noise = (state - (1 - alpha).sqrt() * prediction.epsilon) / divisor
        by_velocity = alpha.sqrt() * state - (1 - alpha).sqrt() * prediction.output
        return torch.where(direct, by_velocity, by_noise)

    def transition(self, prediction: Prediction, step: int | Tensor, sampler: SamplerSettings) -> GaussianTransition:
        """p(x_{t−1} | x_t), eq. 12 and 16.

        Args:
            prediction: the prediction at x_t.
            step: the number of the step, from 0: one for all rows, or int64 `[B]`.
            sampler: the sampler whose run the step belongs to.
        """
        state = prediction.state
        following = self.times(sampler, state.device)[step + 1]
        following = following.expand(len(state)) if following.dim() == 0 else following
        alpha, alpha_following = self.alpha(prediction.times, state), self.alpha(following, state)
        variance = (1 - alpha_following) / (1 - alpha) * (1 - alpha / alpha_following)
        std = sampler.eta * variance.clamp(min=0).sqrt()
        clean = prediction.clean
        direction = (1 - alpha_following - std**2).clamp(min=0).sqrt() * prediction.epsilon
        stochastic = sampler.eta > 0 and self.noiseless_step(sampler) is None
        return GaussianTransition(alpha_following.sqrt() * clean + direction, std, stochastic)
