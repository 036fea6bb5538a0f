"""The method under test, built on a random tiny model as the harness builds a method on a real model."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.conformance.compare import global_generators
from bench.conformance.expectations import expectations_of
from methods.base import EvaluatedRows, Method, SamplingMethod, StepMetrics, TrainingSettings
from methods.optimiser import LocalOptimiser
from models.adapter import AdapterSettings
from models.families.stable_diffusion import StableDiffusion
from models.loading import load_components
from models.meter import Meter
from models.noise import SeedStream
from models.policy import Policy
from models.sampler import SamplerSettings

PROMPTS = ("a cat", "a dog", "a fox", "two dogs")
STEPS, GUIDANCE = 3, 2.0
GLOBAL_SEED = 12345
PERTURBATION = 0.3
"""Standard deviation of the noise that `Rig.perturb_adapter` adds to the adapter."""


class Subject:
    """A method's class with the settings of its test.

    Args:
        cls: the method.
        settings: replace those of its expectations' `small`.
        model: folder of a tiny pipeline.

    Raises:
        pydantic.ValidationError: the method refuses the settings.
    """

    def __init__(self, cls: type[Method], settings: Mapping[str, Any], model: Path):
        self.cls = cls
        self.expectations = expectations_of(cls)
        self.changes = {**self.expectations.small, **settings}
        self.settings = cls.Settings(**self.changes)
        self.components = load_components(str(model), torch.float32)

    @property
    def steps(self) -> bool:
        """Whether the method takes steps that spend a budget: it trains, or it chooses among images."""
        return self.cls.trains or (issubclass(self.cls, SamplingMethod) and self.cls.selects)

    def sampler(self, guidance: float = GUIDANCE) -> SamplerSettings:
        """Settings for three denoising steps at the eta of the method's own sampler, or else the first it accepts."""
        own = self.cls.default_sampler
        wanted = [own.eta if own else 1.0, 1.0, 0.0]
        for eta in wanted:
            try:
                self.cls.check(self.settings, SamplerSettings(STEPS, guidance, eta))
            except ValueError:
                continue
            return SamplerSettings(STEPS, guidance, eta)
        return SamplerSettings(STEPS, guidance, wanted[0])

    def prompts(self, images: int = 1) -> list[str]:
        """The prompts of a whole step, or of as many prompts as give `images` images if that is more."""
        wanted = self.cls.prompts_per_step(self.settings) if self.cls.trains else len(PROMPTS)
        each = self.cls.cost(self.settings, 1, self.sampler()).get("images", 1)
        return [PROMPTS[index % len(PROMPTS)] for index in range(max(wanted, -(-images // max(1, each))))]

    def build(
        self, seed: int = 0, guidance: float = GUIDANCE, reward: "RecordingReward | None" = None, **changes: Any
    ) -> "Rig":
        """Builds the method anew; the adapter starts from the same weights at every seed.

        Args:
            seed: of the method's seed stream.
            guidance: guidance scale of the training sampler.
            reward: `WeightedColour` by default.
            changes: settings that replace the subject's.
        """
        settings = self.cls.Settings(**{**self.changes, **changes})
        meter = RowMeter()
        policy = Policy(
            StableDiffusion(copy.deepcopy(self.components)), self.sampler(guidance), meter, AdapterSettings(rank=2)
        )
        optimiser = (
            RecordingOptimiser(policy.trainable_parameters(), settings)
            if isinstance(settings, TrainingSettings)
            else None
        )
        reward = reward or WeightedColour()
        method = self.cls(settings, policy, reward.metered(meter), optimiser, SeedStream(seed))  # type: ignore[arg-type]
        return Rig(method, policy, meter, optimiser, reward, self.prompts())

    @cached_property
    def two_steps(self) -> "TwoSteps":
        """Two whole steps from seed 0, computed once. Several checks read them, and none may change them."""
        rig = self.build()
        begun = {name: weight.detach().clone() for name, weight in rig.weights().items()}
        rig.step()
        rig.step()
        return TwoSteps(begun, rig)


class RowMeter(Meter):
    """A meter that counts rows and reports 0 FLOPs: counting those takes a second pass of every kind of call."""

    def _flops_per_row(self, *args: Any, **kwargs: Any) -> int:
        return 0


# -- rewards ---------------------------------------------------------------------------------------------------


class RecordingReward(nn.Module):
    """A reward that records every score it gives. Its parameters are frozen, as those of a real predictor are."""

    differentiable = True

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, 0.3, 0.2]), requires_grad=False)
        self.scores: list[float] = []

    def forward(self, images: Tensor) -> Tensor:
        raise NotImplementedError

    def metered(self, meter: Meter) -> Callable[[Tensor, list[str]], Tensor]:
        """The function by which a method calls the reward: it counts queries and records scores."""

        def score(images: Tensor, prompts: list[str]) -> Tensor:
            if len(prompts) != len(images):
                raise ValueError(f"the reward was given {len(images)} images and {len(prompts)} prompts")
            with torch.set_grad_enabled(self.differentiable and torch.is_grad_enabled()):
                values = meter.count_reward(images, self, "kit")
            self.scores += values.detach().tolist()
            return values

        return score


class WeightedColour(RecordingReward):
    """A weighted mean of the colour channels: smooth, with a gradient that is nowhere zero."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) @ self.weight


class Constant(RecordingReward):
    """The same score for every image, with a gradient of zero."""

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.value = value

    def forward(self, images: Tensor) -> Tensor:
        return self.value + 0 * images.mean((1, 2, 3))


class WithoutGradient(WeightedColour):
    """`WeightedColour` without a gradient."""

    differentiable = False


# -- the method ready to run -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Update:
    """One optimiser update: the calls of `backward` before it, and the gradient they left, before clipping."""

    backwards: int
    gradient: list[Tensor]


class RecordingOptimiser(LocalOptimiser):
    """The harness's optimiser, with a record of every update."""

    def __init__(self, parameters: list[nn.Parameter], settings: TrainingSettings):
        super().__init__(parameters, settings)
        self.recorded: list[Update] = []
        self._backwards = 0

    def backward(self, loss: Tensor) -> None:
        self._backwards += 1
        super().backward(loss)

    def step(self) -> float:
        gradient = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in self.parameters]
        self.recorded.append(Update(self._backwards, gradient))
        self._backwards = 0
        return super().step()


@dataclass(frozen=True)
class StepRecord:
    """One step that a method took.

    Attributes:
        reported: the metrics that the step returned.
        scores: the scores that the reward gave during the step.
        updates: the updates that the harness's optimiser did during the step; None for a method without it.
        spent: the meter's axes after the step, in total.
    """

    reported: StepMetrics
    scores: list[float]
    updates: int | None
    spent: dict[str, int | float]


@dataclass
class Rig:
    """A method with everything it was built from, ready to run, and the steps it has taken."""

    method: Method
    policy: Policy
    meter: Meter
    optimiser: RecordingOptimiser | None
    reward: RecordingReward
    prompts: list[str]
    records: list[StepRecord] = field(default_factory=list)

    def weights(self) -> dict[str, nn.Parameter]:
        """Every weight of denoiser, decoder, encoder and reward, by part and name."""
        return {
            f"{part} {name}": parameter
            for part, module in {**self.policy.parts, "reward": self.reward}.items()
            for name, parameter in module.named_parameters()
        }

    @torch.no_grad()
    def perturb_adapter(self) -> None:
        """Adds the same noise to every adapter: a fresh adapter is the base model, and half of its gradient is 0."""
        generator = torch.Generator().manual_seed(0)
        for parameter in self.policy.trainable_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=PERTURBATION)

    def to_double(self) -> None:
        """Converts every weight to fp64, where rounding is 1e-16 instead of 1e-7."""
        for module in (*self.policy.parts.values(), self.reward):
            module.double()

    def step(self, prompts: list[str] | None = None) -> StepMetrics:
        """One step, or one round of choosing, after the global generators were seeded with the same value.

        So a method that draws from them fails `random-state` alone, and no other check.
        """
        with global_generators(GLOBAL_SEED):
            return self.bare_step(prompts)

    def bare_step(self, prompts: list[str] | None = None) -> StepMetrics:
        """One step, or one round of choosing, that leaves the state of the global generators to the caller."""
        prompts = self.prompts if prompts is None else prompts
        scored, updated = len(self.reward.scores), self.optimiser.updates if self.optimiser else 0
        with self.meter.phase("train"):
            if isinstance(self.method, SamplingMethod):
                metrics = self.method.select(self.rows(prompts))
            else:
                metrics = self.method.step(prompts)
        updates = self.optimiser.updates - updated if self.optimiser else None
        self.records.append(StepRecord(metrics, self.reward.scores[scored:], updates, self.meter.ledger.as_axes()))
        return metrics

    def rows(self, prompts: list[str] | None = None, split: str = "train") -> EvaluatedRows:
        """The rows of prompts and noise that evaluation would give the method."""
        prompts = list(PROMPTS) if prompts is None else prompts

        def noise_of(key: int, samples: Any) -> Tensor:
            return SeedStream(9).noise(f"evaluation/{split}", 0, key, samples, self.policy.state_shape)

        return EvaluatedRows(split, prompts, range(len(prompts)), noise_of)

    def state(self) -> dict[str, Any]:
        """The state that the harness would write to a checkpoint."""
        return {
            "policy": self.policy.state_dict(),
            "method": self.method.state_dict(),
            "optimiser": self.optimiser.state_dict() if self.optimiser else {},
        }

    def load(self, state: dict[str, Any]) -> None:
        self.policy.load_state_dict(state["policy"])
        self.method.load_state_dict(state["method"])
        if self.optimiser:
            self.optimiser.load_state_dict(state["optimiser"])


@dataclass(frozen=True)
class TwoSteps:
    """Two whole steps of a method.

    Attributes:
        begun: the weights before the first step, by part and name (see `Rig.weights`).
        rig: the method after the second step.
    """

    begun: dict[str, Tensor]
    rig: Rig
