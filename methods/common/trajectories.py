"""Trajectories as steps of a Markov decision process: what the methods that need log-probabilities share.

Which of a trajectory's steps to learn from, and from where its images start, decides on short chains whether the
gradient is signal or noise: see `TrajectorySettings`.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from methods.base import Method, TrainingSettings, micro_batches
from models.policy import Policy
from models.sampler import Prediction, SamplerSettings, log_probability

SD15_DIMENSIONS = 4 * 64 * 64
"""Dimensions of Stable Diffusion 1.5's latent at 512 pixels, on which published clip ranges and β stand."""


class TrajectorySettings(TrainingSettings):
    """What a method on trajectories has. A trained row is a (sample, timestep) pair.

    The last three's defaults are for the embedded scale. With T = 5 and eta 1 on emoji-v1, |dμ/d output| / σ is 12 at
    the step at t = 201 and 0.4 to 1.2 at the others, so that step's noise drowns the rest; and half of the variance of
    a prompt's rewards comes from x_T, which no step's action explains.
    """

    prompts_per_rollout: int = Field(default=8, ge=1, description="distinct draws of a prompt in a rollout")
    images_per_prompt: int = Field(default=8, ge=1, description="images for each")
    updates_per_rollout: int = Field(default=4, ge=1, description="optimiser updates on a rollout")
    timestep_fraction: float = Field(
        default=0.6, gt=0, le=1, description="share of a trajectory's steps that is trained on; 1 in the papers' code"
    )
    timestep_choice: Literal["random", "earliest"] = Field(
        default="earliest",
        description="which steps those are: a random choice for each sample (the papers' code), or the noisiest",
    )
    initial_noise: Literal["independent", "per-prompt"] = Field(
        default="per-prompt",
        description="x_T of a prompt's images in a rollout: their own (DDPO's and DPOK's code), or one for all "
        "(DanceGRPO, arXiv 2505.07818; D3PO's code)",
    )


def relative_dimensions(policy: Policy) -> float:
    """Dimensions of the policy's latent over Stable Diffusion 1.5's."""
    return torch.Size(policy.latent_shape).numel() / SD15_DIMENSIONS


@dataclass(frozen=True)
class Steps:
    """Some steps of some trajectories, a row each.

    Attributes:
        states: x_t, `[N, C, h, w]`.
        timesteps: int64 `[N]`.
        embeddings: of the prompts, `[N, L, D]`.
        actions: the x_{t−1} that was drawn, `[N, C, h, w]`.
        log_probabilities: log p of the action under the policy that drew it, `[N]` (mean over dimensions).
    """

    states: Tensor
    timesteps: Tensor
    embeddings: Tensor
    actions: Tensor
    log_probabilities: Tensor

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        """What the denoiser sees."""
        return self.states, self.timesteps, self.embeddings

    def log_probability(self, policy: Policy, prediction: Prediction) -> Tensor:
        """log p(x_{t−1} | x_t, c) `[N]` (mean over dimensions) where this is predicted of the N states."""
        sampler = policy.sampler
        mean, sigma = policy.schedule.step(prediction, self.states, self.timesteps, sampler.steps, sampler.eta)
        return log_probability(self.actions, mean, sigma)


@dataclass(frozen=True)
class Rollout:
    """Trajectories a method drew.

    Attributes:
        prompts: B prompts.
        embeddings: of the prompts, `[B, L, D]`.
        states: x_t of each step, `[T, B, C, h, w]`, noisy to clean.
        actions: the x_{t−1} that was drawn, `[T, B, C, h, w]`.
        timesteps: int64 `[T]`.
        log_probabilities: log p of each action under the policy that drew it, `[T, B]` (mean over dimensions).
        rewards: of the final images, `[B]`.
    """

    prompts: list[str]
    embeddings: Tensor
    states: Tensor
    actions: Tensor
    timesteps: Tensor
    log_probabilities: Tensor
    rewards: Tensor

    def at(self, step: Tensor, sample: Tensor) -> Steps:
        """The steps numbered `step` of the samples numbered `sample`, int64 `[N]` both."""
        return Steps(
            self.states[step, sample],
            self.timesteps[step],
            self.embeddings[sample],
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
    """How many of a trajectory's steps are trained on."""
    return max(1, int(sampler.steps * settings.timestep_fraction))


@torch.no_grad()
def roll_out(method: Method, prompts: list[str]) -> Rollout:
    """A trajectory for each of B prompts by the method's training sampler, and its reward.

    Consecutive images of a prompt begin at the same x_T where the settings say so; what the steps add is each image's
    own.
    """
    policy, settings = method.policy, method.settings
    shared = settings.images_per_prompt if settings.initial_noise == "per-prompt" else 1
    embeddings = policy.embed(prompts)
    states, actions, log_probabilities, rewards = [], [], [], []
    timesteps: list[int] = []
    for rows in micro_batches(len(prompts), settings.micro_batch):
        samples = range(rows.start, rows.stop)
        noise = method.rollout_noise(samples)
        first = method.rollout_noise([index // shared * shared for index in samples])(-1)
        trajectory = policy.rollout(policy.initial_latents(first), embeddings[rows], noise)
        rewards.append(method.reward(policy.decode(trajectory.latents[-1]), prompts[rows]))
        timesteps = trajectory.timesteps
        states.append(trajectory.latents[:-1])
        actions.append(trajectory.latents[1:])
        log_probabilities.append(trajectory.log_probabilities)
    return Rollout(
        prompts,
        embeddings,
        torch.cat(states, 1),
        torch.cat(actions, 1),
        torch.tensor(timesteps, device=policy.device),
        torch.cat(log_probabilities, 1),
        torch.cat(rewards),
    )


def shuffled_rows(method: Method, samples: int) -> Tensor:
    """(step, sample) pairs to train on `[samples × trained steps, 2]`, in random order.

    Args:
        method: its settings say how many steps of each sample, and which.
        samples: trajectories, or anything else that has the trajectories' steps (pairs of them).
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
