"""Trajectories as steps of a Markov decision process, for the methods that need log-probabilities."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from methods.base import Method, TrainingSettings, micro_batches
from methods.settings import setting
from models.families.conditioning import Conditioning
from models.paths.prediction import Prediction
from models.policy import Policy
from models.sampler import Noise, SamplerSettings

SD15_DIMENSIONS = 4 * 64 * 64
"""Dimensions of Stable Diffusion 1.5's latent at 512 pixels, for which published clip ranges and β are given."""


class TrajectorySettings(TrainingSettings):
    """Settings of all methods on trajectories. A trained row is a (sample, timestep) pair.

    On chains of few steps one step's noise may dominate the gradient; docs/methods.md has the variant of DDPO that
    leaves it out (`ddpo-early-shared-noise`).
    """

    prompts_per_rollout: int = setting(8, "distinct draws of a prompt in a rollout", scales=True, ge=1)
    images_per_prompt: int = setting(8, "images of each prompt", scales=True, ge=1)
    updates_per_rollout: int = setting(4, "optimiser updates on a rollout", scales=True, ge=1)
    timestep_fraction: float = setting(1.0, "share of a trajectory's steps that is trained on", gt=0, le=1)
    timestep_choice: Literal["random", "earliest"] = setting(
        "random", "which steps are trained on: a random choice for each sample, or the noisiest"
    )
    initial_noise: Literal["independent", "per-prompt"] = setting(
        "independent",
        "x_T of a prompt's images in a rollout. independent: one for each image; per-prompt: one for all "
        "images of the prompt (DanceGRPO, arXiv 2505.07818)",
    )


def relative_dimensions(policy: Policy) -> float:
    """The number of dimensions of the policy's latent, divided by that of Stable Diffusion 1.5's latent."""
    return torch.Size(policy.state_shape).numel() / SD15_DIMENSIONS


@dataclass(frozen=True)
class Steps:
    """N steps of trajectories, one for each row.

    Attributes:
        numbers: numbers of the steps in their trajectories, from 0, int64 `[N]`.
        states: x_t, `[N, ...]`.
        times: times of the steps, `[N]`.
        conditioning: conditioning of the rows.
        actions: the drawn x_{t−1}, `[N, ...]`.
        log_probabilities: log p of the actions under the policy that drew them, `[N]` (mean over dimensions).
    """

    numbers: Tensor
    states: Tensor
    times: Tensor
    conditioning: Conditioning
    actions: Tensor
    log_probabilities: Tensor

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Conditioning]:
        """The first arguments of `Policy.predict`."""
        return self.states, self.times, self.conditioning

    def log_probability(self, policy: Policy, prediction: Prediction) -> Tensor:
        """log p(x_{t−1} | x_t, c) `[N]` of the actions (mean over dimensions), from the prediction at the states."""
        return policy.transition(prediction, self.numbers).log_prob(self.actions)


@dataclass(frozen=True)
class Rollout:
    """Trajectories that a method drew.

    Attributes:
        prompts: B prompts.
        conditioning: conditioning of the prompts.
        states: x_t of each step, `[T, B, ...]`, noisy to clean.
        actions: the drawn x_{t−1} of each step, `[T, B, ...]`.
        times: times of the steps, `[T]`.
        log_probabilities: log p of each action under the policy that drew it, `[T, B]` (mean over dimensions).
        rewards: rewards of the final images, `[B]`.
    """

    prompts: list[str]
    conditioning: Conditioning
    states: Tensor
    actions: Tensor
    times: Tensor
    log_probabilities: Tensor
    rewards: Tensor

    def at(self, step: Tensor, sample: Tensor) -> Steps:
        """The steps numbered `step` of the samples numbered `sample`, int64 `[N]` both."""
        return Steps(
            step,
            self.states[step, sample],
            self.times[step],
            self.conditioning[sample],
            self.actions[step, sample],
            self.log_probabilities[step, sample],
        )


def check_log_probabilities(sampler: SamplerSettings) -> None:
    """Refuses a training sampler whose steps are deterministic.

    Raises:
        ValueError: its eta is 0.
    """
    if sampler.eta <= 0:
        raise ValueError("the training sampler's eta must be above 0, or no step has a probability")


def trained_steps(settings: TrajectorySettings, sampler: SamplerSettings) -> int:
    """The number of steps of a trajectory that are trained on, at least 1."""
    return max(1, int(sampler.steps * settings.timestep_fraction))


@torch.no_grad()
def roll_out(method: Method, prompts: list[str]) -> Rollout:
    """Draws a trajectory for each of B prompts with the method's training sampler, and scores its final image.

    With `initial_noise: per-prompt`, `images_per_prompt` consecutive images begin at the same x_T; the noise of the
    steps differs between all images.
    """
    policy, settings = method.policy, method.settings
    shared = settings.images_per_prompt if settings.initial_noise == "per-prompt" else 1
    conditioning = policy.encode(prompts)
    parts = []
    for rows in micro_batches(len(prompts), settings.micro_batch):
        samples = range(rows.start, rows.stop)
        start = policy.start(method.rollout_noise([index // shared * shared for index in samples])(-1))
        states, log_probabilities = trajectory(policy, start, conditioning[rows], method.rollout_noise(samples))
        rewards = method.reward(policy.decode(states[-1]), prompts[rows])
        parts.append((torch.stack(states), torch.stack(log_probabilities), rewards))
    trajectories, log_probability, scores = zip(*parts, strict=True)
    chains = torch.cat(trajectories, 1)
    return Rollout(
        prompts,
        conditioning,
        chains[:-1],
        chains[1:],
        policy.times(),
        torch.cat(log_probability, 1),
        torch.cat(scores),
    )


def trajectory(
    policy: Policy, start: Tensor, conditioning: Conditioning, noise: Noise
) -> tuple[list[Tensor], list[Tensor]]:
    """The T + 1 states `[B, ...]` of the training sampler's chain, x_T first, and log p `[B]` of each drawn state.

    Args:
        policy: the policy that draws.
        start: x_T `[B, ...]`.
        conditioning: conditioning of the rows.
        noise: gives the noise of each step.
    """
    keys, states, log_probabilities = policy.noise_keys(), [start], []
    for step, time in enumerate(policy.times()):
        inputs = states[-1], time.expand(len(start)), conditioning
        transition = policy.transition(policy.predict(*inputs, policy.sampler.guidance), step)
        states.append(transition.draw(noise(keys[step]).to(policy.device, non_blocking=True)))
        log_probabilities.append(transition.log_prob(states[-1]))
    return states, log_probabilities


def shuffled_rows(method: Method, samples: int) -> Tensor:
    """The (step, sample) pairs to train on, int64 `[samples × trained steps, 2]`, in random order.

    Args:
        method: the method whose settings give the number and choice of steps.
        samples: number of trajectories, or of pairs of trajectories.
    """
    settings, steps = method.settings, method.policy.sampler.steps
    trained = trained_steps(settings, method.policy.sampler)

    def chosen(sample: int) -> Any:
        if settings.timestep_choice == "earliest":
            return range(trained)
        return method.seeds.permutation(f"timesteps/{sample}", method.iteration, steps)[:trained]

    pairs = [(step, sample) for sample in range(samples) for step in chosen(sample)]
    order = method.seeds.permutation("rows", method.iteration, len(pairs))
    return torch.tensor([pairs[index] for index in order], device=method.policy.device).reshape(-1, 2)
