"""The contract of an alignment method: the classes that its author subclasses and the objects that it is given.

A method turns prompts and a reward into updates of the policy's adapter. It is given a `Policy`, a reward, an
`Optimiser` and a `SeedStream`, and has no access to the clock, the store, the evaluator or the scheduler. The harness
draws the prompts, meters, evaluates and writes checkpoints.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from methods.settings import OURS, Settings, setting
from models.noise import SeedStream
from models.policy import Policy
from models.sampler import Noise, SamplerSettings

RewardFunction = Callable[[Tensor, list[str]], Tensor]
"""A function of images `[B, 3, H, W]` in [0, 1] and B prompts that returns scores `[B]`; higher is better. The harness
meters its calls."""


class Optimiser(Protocol):
    """The optimiser of the policy's adapter, the same for one worker or many, plain AdamW or DeepSpeed."""

    def backward(self, loss: Tensor) -> None:
        """Adds the gradient of `loss`, which is a sum over some rows divided by the size of the **whole** batch."""

    def step(self) -> float:
        """Clips the gradients, updates the weights and clears the gradients; returns the norm before clipping."""


class TrainingSettings(Settings, source="torch.optim.AdamW's default"):
    """Settings of all methods that train: AdamW (Loshchilov & Hutter 2019), the drift penalty and the micro-batch."""

    learning_rate: float = setting(..., "AdamW's learning rate, constant", scales=True, gt=0)
    weight_decay: float = setting(1e-4, "AdamW's decoupled weight decay", scales=True, ge=0)
    max_grad_norm: float = setting(1.0, "gradients are clipped to this norm", scales=True, gt=0)
    adam_betas: tuple[float, float] = setting((0.9, 0.999), "AdamW's β", published=(0.9, 0.999), scales=True)
    adam_epsilon: float = setting(1e-8, "AdamW's ε", published=1e-8, scales=True, gt=0)
    drift_weight: float = setting(
        0.0,
        "weight of mean ‖ε_θ − ε_base‖² where the method trains, pulling it towards the base model; off",
        source=OURS,
        ge=0,
    )
    micro_batch: int = setting(32, "images, or denoiser rows, differentiated at once", source=OURS, scales=True, ge=1)


@dataclass(frozen=True)
class StepMetrics:
    """The numbers that a step reports. The harness ends the trial if one of them is NaN or infinite.

    Attributes:
        loss: mean loss of the step's updates.
        reward: mean reward of the images that the step scored.
        gradient_norm: mean norm of the gradients before clipping.
        updates: number of optimiser updates; 0 if the step was skipped.
        extra: further numbers by name; a point of the curve logs their mean over its steps.
        latest: further numbers by name; a point of the curve logs the values of its last step.
        warnings: sentences for readers of the trial's numbers, by topic; the report shows the first of each topic.
    """

    loss: float
    reward: float
    gradient_norm: float
    updates: int
    extra: dict[str, float] = field(default_factory=dict)
    latest: dict[str, float] = field(default_factory=dict)
    warnings: dict[str, str] = field(default_factory=dict)


class Method(ABC):
    """A way of aligning a policy with a reward.

    Class attributes that an author sets:
        name: the name of the method in a sweep.
        summary: one line for `bench list methods`.
        reward_access: `gradient` if the reward must be differentiable, `value` if scores are enough.
        Settings: the pydantic model of the method's settings.
        default_sampler: the training sampler if the sweep names none for the method; None takes the sweep's.
        cuts_last_step: whether a step may run on fewer prompts, so that the budget is met exactly.
        trains: False for a method that only samples (see `SamplingMethod`).
        requires: distributions that the method needs besides those of the core; if one is not installed, the method's
            trials are `skipped`, with the reason.
        own_trainer: True for a peer with its own optimiser that draws from the global random state: it runs on one
            worker, and its memory is not predicted.
        needs_log_probabilities: whether the method uses the log-probability of each step of the training sampler; a
            noise schedule with a step that adds no noise is then an error.
        needs_gaussian_steps: whether the method uses the mean and the deviation of a step; models whose steps are not
            Gaussian are then refused.
        families: names of the model families that the method works on (`models.families.base.Family.name`); empty for
            any.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    reward_access: ClassVar[Literal["gradient", "value"]]
    Settings: ClassVar[type[Settings]]
    default_sampler: ClassVar[SamplerSettings | None] = None
    cuts_last_step: ClassVar[bool] = False
    trains: ClassVar[bool] = True
    requires: ClassVar[tuple[str, ...]] = ()
    own_trainer: ClassVar[bool] = False
    needs_log_probabilities: ClassVar[bool] = False
    needs_gaussian_steps: ClassVar[bool] = False
    families: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        settings: Any,
        policy: Policy,
        reward: RewardFunction,
        optimiser: Optimiser,
        seeds: SeedStream,
    ):
        self.check(settings, policy.sampler)
        self.settings = settings
        self.policy = policy
        self.reward = reward
        self.optimiser = optimiser
        self.seeds = seeds
        self.iteration = 0

    @classmethod  # noqa: B027  (most methods fit any sampler and write none)
    def check(cls, settings: Any, sampler: SamplerSettings) -> None:
        """Refuses settings that do not fit the training sampler. The planner calls it before any trial runs.

        Raises:
            ValueError: the settings do not fit; the message is one sentence.
        """

    @classmethod
    def futile(cls, settings: Any, prompts: int, training: int, drawn: float = math.inf) -> str | None:
        """Says why a step has no gradient for any reward, and which settings to write instead; None if it has one.

        The planner refuses settings whose full steps are futile, and the harness does not cut a last step so far that
        it becomes futile.

        Args:
            settings: the settings of the method.
            prompts: number of prompts of the step; the harness draws each training prompt once before it repeats one.
            training: number of training prompts.
            drawn: number of prompts of all steps of the trial up to and including this one.
        """
        return None

    @classmethod
    @abstractmethod
    def prompts_per_step(cls, settings: Any) -> int:
        """The number of prompts that the harness draws for a full step."""

    @classmethod
    @abstractmethod
    def cost(cls, settings: Any, prompts: int, sampler: SamplerSettings) -> dict[str, int]:
        """The cost of a step on `prompts` prompts, by axis: updates, reward_queries, images, nfe.

        The harness stays within the budget by it, so the budget's axis must be among them. Others make the plan exact.
        The cost is an upper bound if it depends on a random draw.
        """

    @abstractmethod
    def step(self, prompts: Sequence[str]) -> StepMetrics:
        """Runs one iteration as the paper counts it: an update for AlignProp, a rollout with its updates for DDPO."""

    def rollout_noise(self, samples: Sequence[int]) -> Noise:
        """The noise of this iteration for the images numbered `samples`: x_T under key −1, then each step's noise."""

        def noise(key: int) -> Tensor:
            return self.seeds.noise("rollout", self.iteration, key, samples, self.policy.state_shape)

        return noise

    def state_dict(self) -> dict[str, Any]:
        """The method's own state, as plain values and tensors. The harness saves policy, optimiser and meter."""
        return {"iteration": self.iteration}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues from a state; its tensors are on the CPU, whatever the policy's device (see `on_device`)."""
        self.iteration = state["iteration"]


@dataclass(frozen=True)
class EvaluatedRows:
    """The prompts and noise of B images of one split that are evaluated, the same at every point, method and seed.

    Attributes:
        split: `train` or `heldout`.
        prompts: B prompts, one for each image.
        samples: the numbers of the images within the split.
        noise_of: function of (key, samples) that returns the noise `[len(samples), *state_shape]` of the step with
            that key; key −1 is for x_T.
    """

    split: str
    prompts: list[str]
    samples: Sequence[int]
    noise_of: Callable[[int, Sequence[int]], Tensor]

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, rows: slice) -> "EvaluatedRows":
        return EvaluatedRows(self.split, self.prompts[rows], self.samples[rows], self.noise_of)

    def noise(self, key: int) -> Tensor:
        """The noise `[B, *state_shape]` of these rows under `key` (see `models.sampler.Noise`)."""
        return self.noise_of(key, self.samples)


class SamplingMethod(Method):
    """A method that trains nothing and samples from the base model.

    Its policy has evaluation's sampler. A method with `selects` spends the budget on rounds instead of steps: in each
    round the harness calls `select` with all evaluated images of the training prompts, until the budget is spent.

    Class attributes that an author sets, besides those of `Method`:
        selects: whether the method has rounds; `cost` is then the cost of a round over `prompts` images.
        shown: the numbers of rounds after which the harness evaluates besides where the sweep has it due.
    """

    trains = False
    selects: ClassVar[bool] = False
    shown: ClassVar[tuple[int, ...]] = ()

    @classmethod
    def prompts_per_step(cls, settings: Any) -> int:
        return 0

    @classmethod
    def cost(cls, settings: Any, prompts: int, sampler: SamplerSettings) -> dict[str, int]:
        return {}

    def step(self, prompts: Sequence[str]) -> StepMetrics:
        raise TypeError(f"{self.name} trains nothing; call sample")

    def select(self, rows: EvaluatedRows) -> StepMetrics:
        """Runs one round of selection for all evaluated images of the training prompts; its cost counts as training."""
        raise TypeError(f"{self.name} selects nothing; call sample")

    @abstractmethod
    def sample(self, rows: EvaluatedRows) -> Tensor:
        """x_0 `[B, C, h, w]` of some evaluated images, after the rounds so far; its cost counts as evaluation."""


def micro_batches(rows: int, size: int) -> Iterator[slice]:
    """Yields slices that cut `rows` rows into pieces of at most `size`."""
    for begin in range(0, rows, size):
        yield slice(begin, min(begin + size, rows))


def on_device(state: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    """A copy of a part of a method's state with its tensors on `device`; a checkpoint is read to the CPU."""
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in state.items()}


def mean(values: Sequence[float]) -> float:
    """The arithmetic mean of `values`; 0 for no values, as in a skipped step."""
    return sum(values) / len(values) if values else 0.0
