"""A trial's memory before it runs: bytes of weights, gradients, optimiser state and activations of one worker.

Weights, gradients and AdamW's state are arithmetic, as the optimisers of this harness hold them
(`methods/optimiser.py`, `bench/build/zero.py`): the adapter, its gradients and moments are fp32, the frozen base
has the trial's precision. Activations are those of the method's own step on a policy without numbers (`models/dry.py`),
up to its first backward pass, in which a micro-batch stores the most. A network of the method's own that learns later,
such as DPOK's value function, is left out: it is small beside a denoiser.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from bench.build.objects import adapter_of, dtype_of, sampler_settings
from bench.build.plugins import build_reward, load_method
from bench.build.trial_spec import Trial, reward_metrics
from bench.build.zero import LIVE_ELEMENTS
from methods.base import Method, RewardFunction, TrainingSettings
from models.dry import DryPolicy, DrySeeds, configurations
from models.memory import weight_bytes
from rewards.base import Reward

FP32 = 4


@dataclass(frozen=True)
class Memory:
    """One worker's bytes.

    Attributes:
        parameters: of the denoiser, the adapter, the decoder (the whole VAE), the text encoder and the rewards.
        gradients, optimiser: of the adapter; under ZeRO this worker's share.
        activations: the most that lives at once in a training step beside all of the above.
        evaluation: the most that lives at once in an evaluation beside parameters and optimiser.
    """

    parameters: dict[str, int]
    gradients: int
    optimiser: int
    activations: int
    evaluation: int

    @property
    def training(self) -> int:
        """The peak of a training step."""
        return sum(self.parameters.values()) + self.optimiser + self.gradients + self.activations

    @property
    def evaluating(self) -> int:
        """The peak of an evaluation."""
        return sum(self.parameters.values()) + self.optimiser + self.evaluation

    @property
    def total(self) -> int:
        """The peak of the trial."""
        return max(self.training, self.evaluating)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self) | {"total": self.total}


@dataclass(frozen=True)
class Adapter:
    """The trained weights' sizes, and what each stage of ZeRO makes of them: bytes a worker.

    Attributes:
        elements: of each trained tensor.
    """

    elements: tuple[int, ...]

    def share(self, stage: int, workers: int) -> int:
        """Elements of a worker's part, with the padding that makes the parts equal."""
        if stage == 0:
            return sum(self.elements)
        if stage == 3:
            return sum(-(-size // workers) for size in self.elements)
        return self._padded(workers) // workers

    def parameters(self, stage: int, workers: int) -> int:
        """Whole, in one flat buffer, or a part of each."""
        if stage == 3:
            return FP32 * self.share(stage, workers)
        return FP32 * (self._padded(workers) if stage else sum(self.elements))

    def gradients(self, stage: int, workers: int) -> int:
        """Stage 1 holds all of them until its update; stage 2 holds one on the border of two parts whole, in both."""
        if stage <= 1:
            return FP32 * sum(self.elements)
        part = self.share(stage, workers)
        if stage == 3:
            return FP32 * part
        ends = list(accumulate(self.elements))
        spans = [(end - size, end) for size, end in zip(self.elements, ends, strict=True)]
        begins = range(0, part * workers, part)
        return FP32 * max(sum(b - a for a, b in spans if a < begin + part and b > begin) for begin in begins)

    def optimiser(self, stage: int, workers: int) -> int:
        """AdamW's two moments and its count of steps; stages 1 and 2 add a copy of the part's weights."""
        if stage == 0:
            return FP32 * (2 * sum(self.elements) + len(self.elements))
        return FP32 * ((3 if stage < 3 else 2) * self.share(stage, workers) + 1)

    def _padded(self, workers: int) -> int:
        unit = 2 * workers  # DeepSpeed's alignment
        return -(-sum(self.elements) // unit) * unit


def build_rewards(trial: Trial) -> list[Reward]:
    """All rewards that the trial builds, the optimised one first."""
    return [build_reward(ref.spec) for ref in reward_metrics(trial).values()]


def predict(trial: Trial, rewards: Sequence[Reward]) -> Memory | None:
    """A worker's memory; None where it cannot be known.

    That is for a peer, whose trainer is its own; where the model's configuration is not here; and where a step cannot
    run without numbers.

    Args:
        rewards: see `build_rewards`.
    """
    cls = load_method(trial.reference)
    if cls.own_trainer:
        return None
    try:
        policy = DryPolicy(
            configurations(trial.model),
            sampler_settings(trial.sampler),
            adapter_of(trial),
            dtype=dtype_of(trial),
            workers=trial.workers,
        )
        score = _score_of(rewards[0], policy)
        step = _step_bytes(trial, cls, policy, score)
        evaluation = _evaluation_bytes(trial, policy, score)
    except Exception:  # no configuration; or one's own method or reward does what tensors without numbers cannot
        return None
    stage, workers = (trial.zero, trial.workers) if cls.trains else (0, 1)
    adapter = Adapter(tuple(weight.numel() for weight in policy.trainable_parameters()))
    return Memory(
        parameters={
            "denoiser": policy.frozen_bytes(workers if stage == 3 else 1),
            "adapter": adapter.parameters(stage, workers),
            "decoder": weight_bytes([policy.parts["decoder"]]),
            "text_encoder": weight_bytes([policy.parts["encoder"]]),
            "rewards": weight_bytes(module for reward in rewards for module in reward.modules()),
        },
        gradients=adapter.gradients(stage, workers) if cls.trains else 0,
        optimiser=adapter.optimiser(stage, workers) if cls.trains else 0,
        activations=_with_gathered(step, policy, stage, workers),
        evaluation=evaluation,
    )


def _with_gathered(stored: int, policy: DryPolicy, stage: int, workers: int) -> int:
    """Activations beside the weights that a worker has whole for a while under stage 3.

    Gathered weights arrive in a bucket and are copied out of it, at a time when little is stored.
    """
    if stage < 3 or workers == 1:
        return stored
    weights = list(policy.parts["denoiser"].parameters())
    gathered = weights[0].element_size() * min(sum(weight.numel() for weight in weights), LIVE_ELEMENTS)
    return gathered + max(gathered, stored)


class _EnoughError(Exception):
    """A step has come to its first backward pass, or to an update without one."""


class _DryOptimiser:
    """Ends the step with its first backward pass."""

    differentiated = False

    def backward(self, loss: Tensor) -> None:
        loss.backward()
        self.differentiated = True
        raise _EnoughError

    def step(self) -> float:
        raise _EnoughError


def _step_bytes(trial: Trial, cls: type[Method], policy: DryPolicy, score: RewardFunction) -> int:
    """The most bytes of a step, all prompts' rollouts included."""
    settings: Any = cls.Settings(**trial.settings)
    if not isinstance(settings, TrainingSettings):
        return 0
    settings = settings.model_copy(update={"micro_batch": settings.micro_batch * trial.workers})
    wanted = cls.prompts_per_step(settings)
    few = min(wanted, settings.micro_batch)
    peak = _peak_on(few, trial, cls, settings, policy, score)
    if cls.reward_access == "gradient" or few == wanted:
        return peak  # a micro-batch is gone before the next one is drawn
    more = min(wanted, 2 * few)
    each = (_peak_on(more, trial, cls, settings, policy, score) - peak) / (more - few)
    return peak + round((wanted - few) * each)


def _peak_on(
    prompts: int, trial: Trial, cls: type[Method], settings: Any, policy: DryPolicy, score: RewardFunction
) -> int:
    """The most bytes of a step on so many prompts."""
    drawn = [trial.prompts_train[index % len(trial.prompts_train)] for index in range(prompts)]
    peak = 0
    for highest in (True, False):  # where the highest draws leave nothing to learn from, the lowest leave the most
        optimiser = _DryOptimiser()
        method = cls(settings, policy, score, optimiser, DrySeeds(highest))

        def step(method: Method = method) -> None:
            with suppress(_EnoughError):
                method.step(drawn)

        peak = max(peak, policy.peak_bytes(step))
        if optimiser.differentiated:
            break
    return peak


def _evaluation_bytes(trial: Trial, policy: DryPolicy, score: RewardFunction) -> int:
    """The most bytes of the largest batch of an evaluation, which samples and scores without gradients."""
    images = max(len(prompts) * trial.evaluate.images for prompts in trial.evaluated.values())
    prompts = [""] * min(policy.sampled_at_once * trial.workers, images)
    sampler = sampler_settings(trial.evaluate.sampler)

    @torch.no_grad()
    def evaluate() -> None:
        noise = torch.zeros(len(prompts), *policy.state_shape)
        latents = policy.sample(noise, policy.encode(prompts), lambda key: noise, sampler)
        score(policy.decode(latents), prompts)

    return policy.peak_bytes(evaluate)


def _score_of(reward: Reward, policy: DryPolicy) -> RewardFunction:
    """The reward as a dry pass calls it: its own scores where it is differentiable, so that it is torch throughout."""
    group = policy.workers

    def score(images: Tensor, prompts: list[str]) -> Tensor:
        own, texts = group.share(images), group.share_list(prompts)
        return group.gather(reward(own, texts) if reward.differentiable else own.mean((1, 2, 3)), len(images))

    return score
