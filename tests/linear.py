"""A linear-Gaussian model: its samples, their mean reward and every gradient of it are known in closed form.

It is a family as any other, and the policy, the adapter, the sampler, the meter and the methods that work on it are the
product's. The images of a prompt c are Gaussian, x_0 ~ N(μ_c, s²) with μ_c = W e_c of the prompt's vector e_c, and the
adapter is in W. The best denoiser of such images is linear in x_t. With a = ᾱ_t and d = x_t − √a μ_c,

    x̂_0 = μ_c + h d,    ε = g d,    h = √a s² / (a s² + 1 − a),    g = √(1−a) / (a s² + 1 − a),

and a DDIM step (Song et al. 2021, arXiv 2010.02502, eq. 12) to ᾱ = a' with deviation σ draws d' = k d + σ z with
k = √a' h + √(1 − a' − σ²) g. Nothing here asks the product for a step, a mean or a deviation.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from models.families.base import Family
from models.families.conditioning import Conditioning
from models.noise import SeedStream, keyed_generator
from models.paths.ddim import DDIM
from models.policy import Policy
from models.sampler import SamplerSettings

DIMENSIONS, WIDTH = 3, 4
"""Dimensions of a state, which is one pixel of three colours, and of a prompt's vector."""

DEVIATION = 0.7
"""s, the standard deviation of the images of a prompt in each dimension."""

TARGET = torch.tensor([1.0, -0.5, 0.8])
"""What `closeness` is highest at, and the direction in which `linear` rises."""

RANGE = 16.0
"""The images are states shrunk by this to [0, 1], with a half for 0, so that none is clamped."""

TARGETS = ("mean",)
"""The module that the adapter is in."""


def scales(alpha: Tensor) -> tuple[Tensor, Tensor]:
    """h and g: by how much x̂_0 and ε grow with x_t at ᾱ = `alpha`."""
    total = alpha * DEVIATION**2 + 1 - alpha
    return alpha.sqrt() * DEVIATION**2 / total, (1 - alpha).sqrt() / total


class LinearDenoiser(nn.Module):
    """ε or v of the best denoiser for states `[B, 3, 1, 1]` with mean `mean(vector)`."""

    def __init__(self, alphas: Tensor, prediction_type: str):
        super().__init__()
        self.mean = nn.Linear(WIDTH, DIMENSIONS, bias=False)
        self.mean.weight.data = torch.randn(DIMENSIONS, WIDTH, generator=keyed_generator("mean")) / WIDTH**0.5
        self.register_buffer("alphas", alphas)
        self.prediction_type = prediction_type

    def forward(self, state: Tensor, times: Tensor, vectors: Tensor) -> Tensor:
        alpha, mean = self.alphas[times].to(state.dtype).reshape(-1, 1, 1, 1), self.mean(vectors).reshape(state.shape)
        clean, epsilon = denoised(state, alpha, mean)
        return epsilon if self.prediction_type == "epsilon" else alpha.sqrt() * epsilon - (1 - alpha).sqrt() * clean


def denoised(state: Tensor, alpha: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    """x̂_0 and ε of x_t `state` at ᾱ = `alpha`."""
    h, g = scales(alpha)
    centred = state - alpha.sqrt() * mean
    return mean + h * centred, g * centred


class LinearFamily(Family):
    """The model as a family.

    Args:
        device: the device of the denoiser.
        dtype: the precision of the denoiser's weights.
        prediction_type: what the denoiser predicts, `epsilon` or `v_prediction`.
        zero_snr: whether ᾱ begins at 0 and ends at 1, which a model that predicts v allows. The mean of the samples of
            a prompt is then exactly μ_c; the last step has no noise, so that it has no log-probability.
    """

    name = "linear"
    state_shape = (DIMENSIONS, 1, 1)
    pixels = 1

    def __init__(
        self,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        prediction_type: str = "epsilon",
        zero_snr: bool = False,
    ):
        scheduler = DDIMScheduler(
            num_train_timesteps=20,
            beta_schedule="linear",
            beta_start=0.05,
            beta_end=0.35,
            clip_sample=False,
            prediction_type=prediction_type,
            rescale_betas_zero_snr=zero_snr,
            set_alpha_to_one=zero_snr,
            timestep_spacing="trailing" if zero_snr else "leading",
            steps_offset=0 if zero_snr else 1,
        )
        denoiser = LinearDenoiser(scheduler.alphas_cumprod.double(), prediction_type).to(dtype)
        super().__init__({"denoiser": denoiser}, DDIM(scheduler), device)

    def encode(self, prompt: str) -> Conditioning:
        vector = torch.randn(1, WIDTH, generator=keyed_generator("prompt", prompt)).to(self.device)
        return Conditioning((vector,), vector)

    def output(self, denoiser: Callable[..., Any], state: Tensor, times: Tensor, *conditioning: Tensor) -> Tensor:
        return denoiser(state, times, *conditioning)

    def decode(self, final: Tensor) -> Tensor:
        return final / RANGE + 0.5


class BlockSeeds(SeedStream):
    """Draws keyed noise for all samples of a key at once, which takes a hundredth of the time."""

    BLOCK = 2048

    def noise(self, purpose: str, step: int, timestep: int, samples: Sequence[int], shape: Sequence[int]) -> Tensor:
        generator = keyed_generator(self.seed, purpose, step, timestep)
        return torch.randn(self.BLOCK, *shape, generator=generator)[list(samples)]

    def integers(self, purpose: str, step: int, samples: Sequence[int], low: int, high: int) -> Tensor:
        generator = keyed_generator(self.seed, purpose, step, "integers")
        return torch.randint(low, high, (self.BLOCK,), generator=generator)[list(samples)]


# -- rewards ----------------------------------------------------------------------------------------------------


def closeness(images: Tensor, prompts: list[str]) -> Tensor:
    """r = −½ ‖x − y‖² of the states x that `images` show, with y = `TARGET`: `[B]`."""
    return -0.5 * ((RANGE * (images - 0.5)).flatten(1) - TARGET).square().sum(1)


def linear(images: Tensor, prompts: list[str]) -> Tensor:
    """r = y·x of the states x that `images` show: `[B]`."""
    return (RANGE * (images - 0.5)).flatten(1) @ TARGET


# -- closed forms -----------------------------------------------------------------------------------------------


def means(policy: Policy, prompts: Sequence[str], guidance: float = 1.0, base: bool = False) -> Tensor:
    """μ_c `[B, 3, 1, 1]`, with gradient, or the base model's; guidance scale w makes it μ_∅ + w (μ_c − μ_∅)."""
    mean = policy.parts["denoiser"].mean
    mean = mean.base_layer if base else mean
    conditional, empty = mean(policy.encode(prompts).pooled), mean(policy.encode([""]).pooled)
    return (empty + guidance * (conditional - empty)).reshape(-1, DIMENSIONS, 1, 1)


@dataclass(frozen=True)
class Step:
    """One step of a sampler, d' = k d + σ z.

    Attributes:
        signal, following: √ᾱ before and after it.
        slope: k.
        std: σ.
    """

    signal: float
    following: float
    slope: float
    std: float

    @property
    def offset(self) -> float:
        """By how much x' grows with μ_c, at the same x."""
        return self.following - self.slope * self.signal

    def mean(self, state: Tensor, mean: Tensor) -> Tensor:
        """The mean of x' given x."""
        return self.following * mean + self.slope * (state - self.signal * mean)

    def log_prob(self, action: Tensor, state: Tensor, mean: Tensor) -> Tensor:
        """The log-probability `[B]` of x' given x but for a constant, a **mean** over dimensions."""
        return (-((action - self.mean(state, mean)) ** 2) / (2 * self.std**2)).flatten(1).mean(1)


def steps_of(path: DDIM, sampler: SamplerSettings, stochastic: Sequence[bool] = ()) -> list[Step]:
    """The steps of a sampler, from noisy to clean; those that are not `stochastic` are those of eta 0."""
    alphas = [*path.alphas_cumprod[path.timesteps(sampler)], torch.tensor(path.final_alpha).double()]
    drawn = stochastic or [True] * sampler.steps
    steps = []
    for alpha, following, noisy in zip(alphas[:-1], alphas[1:], drawn, strict=True):
        h, g = scales(alpha)
        std = noisy * sampler.eta * ((1 - following) / (1 - alpha) * (1 - alpha / following)).sqrt()
        slope = following.sqrt() * h + (1 - following - std**2).clamp(min=0).sqrt() * g
        steps.append(Step(*map(float, (alpha.sqrt(), following.sqrt(), slope, std))))
    return steps


def states_of(steps: Sequence[Step], mean: Tensor, start: Tensor, noises: Sequence[Tensor]) -> list[Tensor]:
    """The T + 1 states `[B, 3, 1, 1]` from x_T `start` to x_0, under the noise of each step."""
    states = [start]
    for step, noise in zip(steps, noises, strict=True):
        states.append(step.mean(states[-1], mean) + step.std * noise)
    return states


def moments(steps: Sequence[Step]) -> tuple[float, float]:
    """A and V of the samples x_0 ~ N(A μ_c, V)."""
    mean, variance = 0.0, 1.0
    for step in steps:
        mean, variance = step.offset + step.slope * mean, step.slope**2 * variance + step.std**2
    return mean, variance


def influence(steps: Sequence[Step], keep: Sequence[bool]) -> float:
    """dx_0 / dμ_c if only the steps in `keep` differentiate ε; after the first one all keep the gradient of x."""
    through = 0.0
    for step, kept in zip(steps, keep, strict=True):
        through = step.offset + step.slope * through if kept else step.following / step.signal * through
    return through


def expected_closeness(mean: Tensor, steps: Sequence[Step]) -> Tensor:
    """E[r(x_0)] of `closeness`, a mean over the rows of μ_c `[B, 3, 1, 1]`."""
    share, variance = moments(steps)
    return -0.5 * ((share * mean.double().flatten(1) - TARGET) ** 2 + variance).sum(1).mean()


def spread_of_closeness(mean: Tensor, steps: Sequence[Step]) -> float:
    """The standard deviation of `closeness` over the samples of one μ_c `[1, 3, 1, 1]`."""
    share, variance = moments(steps)
    distance = share * mean.detach().double().flatten() - TARGET
    return float((variance**2 / 2 + variance * distance**2).sum().sqrt())


def gradient(value: Tensor, policy: Policy) -> list[Tensor]:
    """The gradient of a closed form with respect to the adapter's weights."""
    return list(torch.autograd.grad(value, policy.trainable_parameters()))
