"""The contract of an alignment method: what an author reads, and all that an author writes.

A method turns prompts and a reward into updates of the policy's adapter. It is given a `Policy`, a reward, an
`Optimiser` and a `SeedStream`, and nothing else: it never sees the clock, the store, the evaluator or the scheduler.
The harness draws the prompts, meters, evaluates and checkpoints.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from models.noise import SeedStream
from models.policy import Policy
from models.sampler import Noise, SamplerSettings

RewardFunction = Callable[[Tensor, list[str]], Tensor]
"""Images `[B, 3, H, W]` in [0, 1] and B prompts in, scores `[B]` out; higher is better. Metered by the harness."""


class Optimiser(Protocol):
    """Where gradients go. One worker or many, plain AdamW or DeepSpeed: a method cannot tell."""

    def backward(self, loss: Tensor) -> None:
        """Accumulates the gradient of `loss`: a sum over some rows, divided by the **whole** batch's size."""

    def step(self) -> float:
        """Clips, updates, clears the gradients; returns the gradient's norm before clipping."""


class Settings(BaseModel):
    """A method's settings. Unknown keys are refused; every field says in its description where its default is from."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainingSettings(Settings):
    """What every trainable method has: AdamW (Loshchilov & Hutter 2019), the drift penalty, the micro-batch's size."""

    learning_rate: float = Field(gt=0, description="AdamW's learning rate, constant")
    weight_decay: float = Field(default=1e-4, ge=0, description="AdamW's decoupled weight decay (DDPO's code)")
    max_grad_norm: float = Field(default=1.0, gt=0, description="gradients are clipped to this norm (DDPO's code)")
    adam_betas: tuple[float, float] = Field(default=(0.9, 0.999), description="AdamW's β (torch's)")
    adam_epsilon: float = Field(default=1e-8, gt=0, description="AdamW's ε (torch's)")
    drift_weight: float = Field(
        default=0.0,
        ge=0,
        description="weight of mean ‖ε_θ − ε_base‖² where the method trains, pulling it towards the base model; off",
    )
    micro_batch: int = Field(default=32, ge=1, description="images, or denoiser rows, differentiated at once")


@dataclass(frozen=True)
class StepMetrics:
    """What a step reports: numbers for people to look at. The harness ends the trial if one is NaN or infinite.

    Attributes:
        loss: mean loss of the step's updates.
        reward: mean reward of the images the step scored.
        gradient_norm: mean norm before clipping.
        updates: optimiser updates done; 0 where the step was skipped.
        extra: anything else worth a curve; a point shows the mean over its steps.
        latest: likewise, where a point shows what its last step said.
    """

    loss: float
    reward: float
    gradient_norm: float
    updates: int
    extra: dict[str, float] = field(default_factory=dict)
    latest: dict[str, float] = field(default_factory=dict)


class Method(ABC):
    """One way of aligning a policy with a reward.

    Class attributes an author sets:
        name: as it is written in a sweep.
        summary: one line for `bench list methods`.
        reward_access: `gradient` if the reward must be differentiable, `value` if scores are enough.
        Settings: the pydantic model of its settings.
        default_sampler: the sampler it trains with where the sweep names none for it; None takes the sweep's.
        cuts_last_step: whether a step may run on fewer prompts, so that the budget is met exactly.
        trains: False for a method that only samples (see `SamplingMethod`).
        small: settings with which four prompts make a whole step, for `bench test` and the tests; a dict of overrides.
        requires: distributions beyond the core's; without one of them its trials are `skipped`, with the reason.
        exact: False for a peer that owns its optimiser and the global random state: neither bitwise resume nor
            independence of the micro-batch and the world size is asked of it.
        needs_log_probabilities: whether it asks how probable every step of the training sampler was, so that a noise
            schedule with a step that adds no noise is refused.
        continuous: False where the loss jumps (a clip, a choice of the best): rounding may then send two runs apart, so
            the same curve for every micro-batch is measured and not asked.
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    reward_access: ClassVar[Literal["gradient", "value"]]
    Settings: ClassVar[type[Settings]]
    default_sampler: ClassVar[SamplerSettings | None] = None
    cuts_last_step: ClassVar[bool] = False
    trains: ClassVar[bool] = True
    small: ClassVar[dict[str, Any]] = {}
    requires: ClassVar[tuple[str, ...]] = ()
    exact: ClassVar[bool] = True
    needs_log_probabilities: ClassVar[bool] = False
    continuous: ClassVar[bool] = True

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
        """Refuses settings that do not fit the training sampler; the plan asks before anything runs.

        Raises:
            ValueError: what does not fit, in one sentence.
        """

    @classmethod
    def futile(cls, settings: Any, prompts: int, training: int, drawn: float = math.inf) -> str | None:
        """Why a step teaches nothing, whatever the reward says, in a sentence that says what to write; None if it may.

        The plan refuses settings whose full steps are futile, and no last step is cut so far that it is.

        Args:
            prompts: of the step; the harness draws every training prompt once before any of them again.
            training: how many training prompts there are.
            drawn: prompts of all the trial's steps so far, this one included.
        """
        return None

    @classmethod
    @abstractmethod
    def prompts_per_step(cls, settings: Any) -> int:
        """How many prompts a full step wants from the harness."""

    @classmethod
    @abstractmethod
    def cost(cls, settings: Any, prompts: int, sampler: SamplerSettings) -> dict[str, int]:
        """What a step on `prompts` prompts spends, by axis: reward_queries, images, updates, nfe, as far as known.

        An upper bound where it depends on a random draw. The harness uses it so as not to cross the budget.
        """

    @abstractmethod
    def step(self, prompts: Sequence[str]) -> StepMetrics:
        """One iteration as its paper counts it: an update for AlignProp, a rollout with its updates for DDPO."""

    def rollout_noise(self, samples: Sequence[int]) -> Noise:
        """This iteration's noise for the images numbered `samples`: of x_T at timestep −1, then of each step."""

        def noise(timestep: int) -> Tensor:
            return self.seeds.noise("rollout", self.iteration, timestep, samples, self.policy.latent_shape)

        return noise

    def state_dict(self) -> dict[str, Any]:
        """The method's own state (the harness keeps policy, optimiser and meter). Plain values and tensors."""
        return {"iteration": self.iteration}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.iteration = state["iteration"]


@dataclass(frozen=True)
class EvaluatedRows:
    """Images of one split that evaluation looks at: the same at every point, for every method and seed.

    Attributes:
        split: `train` or `heldout`.
        prompts: B prompts, one an image.
        samples: the images' numbers within the split.
        noise_of: evaluation's noise `[len(samples), *latent_shape]` for (timestep, samples); of x_T at timestep −1.
    """

    split: str
    prompts: list[str]
    samples: Sequence[int]
    noise_of: Callable[[int, Sequence[int]], Tensor]

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, rows: slice) -> "EvaluatedRows":
        return EvaluatedRows(self.split, self.prompts[rows], self.samples[rows], self.noise_of)

    def noise(self, timestep: int) -> Tensor:
        """These rows' noise (see `models.sampler.Noise`)."""
        return self.noise_of(timestep, self.samples)


class SamplingMethod(Method):
    """A method that trains nothing: it answers with images of the model as it is.

    Its policy's sampler is the evaluation's. One that spends the budget on choosing (`selects`) is given the images of
    the training prompts to choose for, a round at a time, until the budget is spent; a round is its step.

    Class attributes an author sets, beside those of `Method`:
        selects: whether there are rounds; `cost` is then that of a round over `prompts` images.
    """

    trains = False
    selects: ClassVar[bool] = False

    @classmethod
    def prompts_per_step(cls, settings: Any) -> int:
        return 0

    @classmethod
    def cost(cls, settings: Any, prompts: int, sampler: SamplerSettings) -> dict[str, int]:
        return {}

    def step(self, prompts: Sequence[str]) -> StepMetrics:
        raise TypeError(f"{self.name} trains nothing; call sample")

    def select(self, rows: EvaluatedRows) -> StepMetrics:
        """One round of choosing for all of the training prompts' images. What it does is billed as training is."""
        raise TypeError(f"{self.name} selects nothing; call sample")

    @abstractmethod
    def sample(self, rows: EvaluatedRows) -> Tensor:
        """x_0 `[B, C, h, w]` of some of the images, after the rounds so far. What it does is billed to evaluation."""


def micro_batches(rows: int, size: int) -> Iterator[slice]:
    """Slices that cut `rows` rows into pieces of at most `size`."""
    for begin in range(0, rows, size):
        yield slice(begin, min(begin + size, rows))


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean; 0 for no values (a skipped step)."""
    return sum(values) / len(values) if values else 0.0
