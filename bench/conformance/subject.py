"""The method under test, built on a random tiny model as the harness builds it on a real one."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bench.conformance.compare import global_generators
from methods.base import EvaluatedRows, Method, SamplingMethod, StepMetrics, TrainingSettings
from methods.optimiser import LocalOptimiser
from models.loading import load_components
from models.meter import Meter
from models.noise import SeedStream
from models.policy import Policy
from models.sampler import SamplerSettings

PROMPTS = ("a cat", "a dog", "a fox", "two dogs")
STEPS, GUIDANCE = 3, 2.0
GLOBAL_SEED = 12345
SHAKE = 0.3
"""Standard deviation of the noise by which an adapter is moved."""


class Subject:
    """A method's class with the settings it is tested with.

    Args:
        cls: the method.
        settings: laid over the class's `small`.
        model: folder of a tiny pipeline.

    Raises:
        pydantic.ValidationError: the method refuses the settings.
    """

    def __init__(self, cls: type[Method], settings: Mapping[str, Any], model: Path):
        self.cls = cls
        self.changes = {**cls.small, **settings}
        self.settings = cls.Settings(**self.changes)
        self.components = load_components(str(model), torch.float32)

    @property
    def steps(self) -> bool:
        """Whether the method spends a budget: by training, or by choosing."""
        return self.cls.trains or (issubclass(self.cls, SamplingMethod) and self.cls.selects)

    def sampler(self, guidance: float = GUIDANCE) -> SamplerSettings:
        """Three steps with the eta that the method trains with, or the first that it accepts."""
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
        """A whole step's, or as many as `images` images take where those are more."""
        wanted = self.cls.prompts_per_step(self.settings) if self.cls.trains else len(PROMPTS)
        each = self.cls.cost(self.settings, 1, self.sampler()).get("images", 1)
        return [PROMPTS[index % len(PROMPTS)] for index in range(max(wanted, -(-images // max(1, each))))]

    def build(
        self, seed: int = 0, guidance: float = GUIDANCE, reward: "KitReward | None" = None, **changes: Any
    ) -> "Rig":
        """A fresh method; `seed` is its seed stream's, the adapter begins the same at every seed.

        Args:
            guidance: of the training sampler.
            reward: `Weighted` by default.
            changes: settings, laid over the subject's.
        """
        settings = self.cls.Settings(**{**self.changes, **changes})
        meter = RowMeter()
        policy = Policy(copy.deepcopy(self.components), self.sampler(guidance), meter, rank=2, seed=0)
        optimiser = (
            WatchedOptimiser(policy.trainable_parameters(), settings)
            if isinstance(settings, TrainingSettings)
            else None
        )
        reward = reward or Weighted()
        method = self.cls(settings, policy, reward.metered(meter), optimiser, SeedStream(seed))  # type: ignore[arg-type]
        return Rig(method, policy, meter, optimiser, reward, self.prompts())


class RowMeter(Meter):
    """Counts rows and leaves FLOPs at 0, which would cost a second pass of every kind of call."""

    def _flops_per_row(self, *args: Any, **kwargs: Any) -> int:
        return 0


# -- rewards ---------------------------------------------------------------------------------------------------


class KitReward(nn.Module):
    """A reward that remembers what it gave. Its parameters are frozen, as those of a real predictor are."""

    differentiable = True

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.5, 0.3, 0.2]), requires_grad=False)
        self.scores: list[float] = []

    def forward(self, images: Tensor) -> Tensor:
        raise NotImplementedError

    def metered(self, meter: Meter) -> Callable[[Tensor, list[str]], Tensor]:
        """The reward as a method sees it."""

        def score(images: Tensor, prompts: list[str]) -> Tensor:
            if len(prompts) != len(images):
                raise ValueError(f"the reward was given {len(images)} images and {len(prompts)} prompts")
            with torch.set_grad_enabled(self.differentiable and torch.is_grad_enabled()):
                values = meter.count_reward(images, self, "kit")
            self.scores += values.detach().tolist()
            return values

        return score


class Weighted(KitReward):
    """A weighted mean of the colours: smooth, with somewhere to go."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) @ self.weight


class Constant(KitReward):
    """The same for every image, with a gradient of zero."""

    def __init__(self, value: float = 1.0) -> None:
        super().__init__()
        self.value = value

    def forward(self, images: Tensor) -> Tensor:
        return self.value + 0 * images.mean((1, 2, 3))


class Opaque(Weighted):
    """`Weighted` without a gradient."""

    differentiable = False


# -- the method and what surrounds it ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Update:
    """One optimiser update: the calls of `backward` before it, and the gradient they left, before clipping."""

    backwards: int
    gradient: list[Tensor]


class WatchedOptimiser(LocalOptimiser):
    """The harness's optimiser, remembering every update."""

    def __init__(self, parameters: list[nn.Parameter], settings: TrainingSettings):
        super().__init__(parameters, settings)
        self.seen: list[Update] = []
        self._pending = 0

    def backward(self, loss: Tensor) -> None:
        self._pending += 1
        super().backward(loss)

    def step(self) -> float:
        gradient = [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in self.parameters]
        self.seen.append(Update(self._pending, gradient))
        self._pending = 0
        return super().step()


@dataclass
class Rig:
    """A method ready to run."""

    method: Method
    policy: Policy
    meter: Meter
    optimiser: WatchedOptimiser | None
    reward: KitReward
    prompts: list[str]
    metrics: list[StepMetrics] = field(default_factory=list)

    @torch.no_grad()
    def shake(self) -> None:
        """Moves the adapter by noise, the same for all: a fresh one is the base model, with half of its gradient 0."""
        generator = torch.Generator().manual_seed(0)
        for parameter in self.policy.trainable_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=SHAKE)

    def to_double(self) -> None:
        """Every weight in fp64; what a step then computes rounds by 1e-16 instead of 1e-7."""
        for module in (self.policy.unet, self.policy.vae, self.policy.text_encoder, self.reward):
            module.double()

    def step(self, prompts: list[str] | None = None) -> StepMetrics:
        """One step, or one round of choosing, with the global generators seeded alike before each.

        A method that draws from them fails the check of that, and not every other one besides.
        """
        with global_generators(GLOBAL_SEED):
            return self.bare_step(prompts)

    def bare_step(self, prompts: list[str] | None = None) -> StepMetrics:
        """One step with whatever the global generators hold."""
        prompts = self.prompts if prompts is None else prompts
        with self.meter.phase("train"):
            if isinstance(self.method, SamplingMethod):
                metrics = self.method.select(self.rows(prompts))
            else:
                metrics = self.method.step(prompts)
        self.metrics.append(metrics)
        return metrics

    def rows(self, prompts: list[str] | None = None, split: str = "train") -> EvaluatedRows:
        """What evaluation would look at."""
        prompts = list(PROMPTS) if prompts is None else prompts

        def noise_of(timestep: int, samples: Any) -> Tensor:
            return SeedStream(9).noise(f"evaluation/{split}", 0, timestep, samples, self.policy.latent_shape)

        return EvaluatedRows(split, prompts, range(len(prompts)), noise_of)

    def state(self) -> dict[str, Any]:
        """What the harness checkpoints of it."""
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
