"""A trial's memory, predicted before it runs: bytes a worker of weights, gradients, optimiser state and activations.

Weights, gradients and AdamW's state are arithmetic, as the optimisers of this harness really hold them
(`methods/optimiser.py`, `bench/build/zero.py`): LoRA's weights and moments are fp32, the frozen base has the
trial's precision. Activations come from a dry pass (`models/dry.py`) of the largest micro-batch.
`bench/plan/memory/weighing.py` measures the same.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

from bench.build.objects import dtype_of, sampler_settings
from bench.build.plugins import build_reward, load_method
from bench.build.trial_spec import Trial, reward_metrics

if TYPE_CHECKING:
    from torch import Tensor

    from methods.base import Method
    from models.checkpointing import Checkpointing
    from models.dry import Score
    from models.policy import Policy
    from rewards.base import Reward

FP32 = 4
LEVELS: "tuple[Checkpointing, ...]" = ("none", "block", "step")
LIVE_ONE_KEPT = ("draft-lv", "refl")
"""Methods whose graph holds one differentiated prediction, whatever the sampler's steps."""


@dataclass(frozen=True)
class Memory:
    """One worker's bytes.

    Attributes:
        parameters: of the denoiser, the adapter, the decoder (the whole VAE), the text encoder and the rewards.
        gradients, optimiser: of the adapter; under ZeRO this worker's share.
        stored: the most that lives at once in a step beside all of the above, but for the next.
        gathered: weights that a worker has whole for a while under stage 3.
        kept_steps: denoising steps that keep their gradient, at most; None where the reward is not differentiated.
        further_step: bytes of `stored` for each of these after the first.
        checkpointing: of a kept step; None likewise.
        scored: False where a reward of the user's own is not in `stored`.
    """

    parameters: dict[str, int]
    gradients: int
    optimiser: int
    stored: int
    gathered: int = 0
    kept_steps: int | None = None
    further_step: int = 0
    checkpointing: str | None = None
    scored: bool = True

    @property
    def activations(self) -> int:
        """The most that lives at once in a step beside parameters, gradients and state."""
        return with_gathered(self.stored, self.gathered)

    @property
    def total(self) -> int:
        return sum(self.parameters.values()) + self.gradients + self.optimiser + self.activations

    def with_kept(self, steps: int | None) -> "Memory":
        """The same with another number of kept steps, as a method may draw it."""
        if steps is None or self.kept_steps is None or steps < 1:
            return self
        fewer = (self.kept_steps - steps) * self.further_step
        return replace(self, kept_steps=steps, stored=self.stored - fewer)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self) | {"activations": self.activations, "total": self.total}

    @classmethod
    def from_dict(cls, found: dict[str, Any]) -> "Memory":
        """From what `as_dict` gave."""
        return cls(**{field.name: found[field.name] for field in fields(cls)})


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
        """Stage 1 still holds all of them until its update."""
        return FP32 * (sum(self.elements) if stage <= 1 else self.share(stage, workers))

    def optimiser(self, stage: int, workers: int) -> int:
        """AdamW's two moments and its count of steps; stages 1 and 2 add a copy of the part's weights."""
        if stage == 0:
            return FP32 * (2 * sum(self.elements) + len(self.elements))
        return FP32 * ((3 if stage < 3 else 2) * self.share(stage, workers) + 1)

    def _padded(self, workers: int) -> int:
        unit = 2 * workers  # DeepSpeed's alignment
        return -(-sum(self.elements) // unit) * unit


def predict(trials: Sequence[Trial]) -> dict[str, Memory | None]:
    """Variant -> its memory; None where it cannot be told: a peer's own trainer, a model that is not here."""
    return {trial.variant: _predict(_of_any_seed(trial)) for trial in reversed(trials)}


def _of_any_seed(trial: Trial) -> str:
    return trial.model_copy(update={"seed": 0, "sweep": "", "variant": "", "identity": ""}).model_dump_json()


@lru_cache(maxsize=256)
def _predict(spec: str) -> Memory | None:
    trial = Trial.model_validate_json(spec)
    return predict_trial(trial, build_rewards(trial))


def build_rewards(trial: Trial) -> "list[Reward]":
    """All that the trial builds, the optimised one first."""
    return [build_reward(ref.spec) for ref in reward_metrics(trial).values()]


def predict_trial(trial: Trial, rewards: "Sequence[Reward]") -> Memory | None:
    """One trial's memory.

    Args:
        rewards: all that it builds, the optimised one first.
    """
    from models.loading import MissingModelError

    cls = load_method(trial.reference)
    if not cls.exact:
        return None
    try:
        with dry(trial) as policy:
            return _predicted(trial, cls, policy, rewards)
    except MissingModelError:
        return None


def _predicted(trial: Trial, cls: "type[Method]", policy: "Policy", rewards: "Sequence[Reward]") -> Memory:
    score, scored = dry_score(rewards[0])
    step = largest_step(trial, cls, policy, score)
    held = held_by(trial, cls, policy, rewards)
    return replace(
        step,
        parameters=held.parameters,
        gradients=held.gradients,
        optimiser=held.optimiser,
        gathered=gathered_bytes(trial, cls, policy),
        scored=scored,
    )


def held_by(trial: Trial, cls: "type[Method]", policy: "Policy", rewards: "Sequence[Reward]") -> Memory:
    """What is there all the time; no activations.

    Args:
        trial: its stage of ZeRO counts; its `policy` is dry.
    """
    from models.memory import weight_bytes

    adapter = Adapter(tuple(p.numel() for p in policy.trainable_parameters()))
    stage, workers = (trial.zero, trial.workers) if cls.trains else (0, 1)
    frozen = [p for p in policy.unet.parameters() if not p.requires_grad]
    parts = sum(-(-p.numel() // workers) * p.element_size() for p in frozen)
    parameters = {
        "denoiser": parts if stage == 3 else weight_bytes([policy.unet], trained=False),
        "adapter": adapter.parameters(stage, workers),
        "decoder": weight_bytes([policy.vae]),
        "text_encoder": weight_bytes([policy.text_encoder]),
        "rewards": weight_bytes(module for reward in rewards for module in reward.modules()),
    }
    if not cls.trains:
        return Memory(parameters, 0, 0, 0)
    return Memory(parameters, adapter.gradients(stage, workers), adapter.optimiser(stage, workers), 0)


def gathered_bytes(trial: Trial, cls: "type[Method]", policy: "Policy") -> int:
    """Weights that a worker has whole for a while under stage 3."""
    if trial.zero < 3 or trial.workers == 1 or not cls.trains:
        return 0
    elements = sum(p.numel() for p in policy.unet.parameters())
    return live_bytes(elements, next(policy.unet.parameters()).element_size())


def live_bytes(elements: int, size: int) -> int:
    """The same of a denoiser with so many weights of `size` bytes."""
    from bench.build.zero import LIVE_ELEMENTS

    return size * min(elements, LIVE_ELEMENTS)


def with_gathered(stored: int, gathered: int) -> int:
    """A step's peak. Gathered weights arrive in a bucket and are copied out of it, at a time when little is stored."""
    return gathered + max(gathered, stored)


def largest_step(trial: Trial, cls: "type[Method]", policy: "Policy", score: "Score") -> Memory:
    """Activations alone, of the largest micro-batch of a step."""
    from models import dry

    settings = cls.Settings(**trial.settings)
    sampler = policy.sampler
    nothing = Memory({}, 0, 0, 0)
    if not cls.trains:
        return replace(nothing, stored=evaluation_bytes(trial, policy, score))
    together = getattr(settings, "micro_batch", 32) * trial.workers
    if cls.reward_access == "gradient":
        images = min(together, rows_of_step(trial, cls))
        return _chain(settings, policy, images, kept_at_once(cls, settings, sampler.steps), score)
    rows, guidance = _predicted_rows(cls, settings, sampler)
    learning = dry.prediction_bytes(policy, min(together, rows), guidance)
    images = cls.prompts_per_step(settings) * getattr(settings, "images_per_prompt", 1)
    sampling = dry.sampling_bytes(policy, min(together, images), sampler, score)
    return replace(nothing, stored=rollout_bytes(trial, cls, policy) + max(learning, sampling))


def rollout_bytes(trial: Trial, cls: "type[Method]", policy: "Policy") -> int:
    """What a rollout keeps on every worker while it is learned from, whatever the micro-batch: latents, of a trajectory
    at every step; 0 for a method that learns from none.
    """
    from methods.common.trajectories import TrajectorySettings

    if not cls.trains or cls.reward_access == "gradient":
        return 0
    settings = cls.Settings(**trial.settings)
    images = cls.prompts_per_step(settings) * getattr(settings, "images_per_prompt", 1)
    latents = FP32 * math.prod(policy.latent_shape)
    if not isinstance(settings, TrajectorySettings):
        return images * latents
    # Every step's state and action, and each image's embedding.
    return images * (2 * policy.sampler.steps * latents + policy.embed([""]).nbytes)


def _chain(settings: Any, policy: "Policy", images: int, kept: int, score: "Score") -> Memory:
    """At the level of checkpointing that is set, or for `auto` the first that fits, as methods choose it."""
    from methods.common.backprop import MEMORY_SHARE
    from models.checkpointing import memory_bytes
    from models.dry import chain_bytes

    chosen: Checkpointing | Literal["auto"] = getattr(settings, "checkpointing", "none")
    for level in LEVELS if chosen == "auto" else (chosen,):
        most, further = chain_bytes(policy, images, kept, level, score)
        if most <= MEMORY_SHARE * memory_bytes(policy.device) or level == LEVELS[-1]:
            break
    return Memory({}, 0, 0, most, 0, kept, further, level)


def evaluation_bytes(trial: Trial, policy: "Policy", score: "Score") -> int:
    """Bytes of the largest batch of an evaluation."""
    from bench.run.evaluation import batch_of
    from models.dry import sampling_bytes

    images = max(len(prompts) * trial.evaluate.images for prompts in trial.evaluated.values())
    sampler = sampler_settings(trial.evaluate.sampler)
    return sampling_bytes(policy, min(batch_of(policy) * trial.workers, images), sampler, score)


def rows_of_step(trial: Trial, cls: "type[Method]") -> int:
    """What a micro-batch is cut from, images or predictions, all workers' together; 1 where nothing is trained."""
    settings = cls.Settings(**trial.settings)
    if not cls.trains:
        return 1
    if cls.reward_access == "gradient":
        return cls.prompts_per_step(settings)
    images = cls.prompts_per_step(settings) * getattr(settings, "images_per_prompt", 1)
    return max(images, _predicted_rows(cls, settings, sampler_settings(trial.sampler))[0])


def kept_at_once(cls: "type[Method]", settings: Any, steps: int) -> int:
    """Denoising steps whose gradient is kept at the same time, at most."""
    if cls.name in LIVE_ONE_KEPT:
        return 1
    return getattr(settings, "keep_steps", None) or steps


def _predicted_rows(cls: "type[Method]", settings: Any, sampler: Any) -> tuple[int, float]:
    """Rows of an update that learns from predictions, and their guidance; as many as asked where it does not say."""
    from methods.common.trajectories import TrajectorySettings, trained_steps

    images = cls.prompts_per_step(settings) * getattr(settings, "images_per_prompt", 1)
    if isinstance(settings, TrajectorySettings):
        return -(-images * trained_steps(settings, sampler) // settings.updates_per_rollout), sampler.guidance
    if hasattr(settings, "timesteps_per_image"):
        return -(-images * settings.timesteps_per_image // settings.updates_per_rollout), 1.0
    pairs = 2 if cls.name == "dpo" else 1
    rows = pairs * settings.batch_size if hasattr(settings, "batch_size") else 1 << 30
    return rows, getattr(settings, "loss_guidance", 1.0)


def dry_score(reward: "Reward") -> "tuple[Score, bool]":
    """The reward as a dry pass calls it, and whether it is really in it.

    A reward of the user's own is not called before a trial runs, and one that leaves torch cannot be: images then count
    for its score.
    """
    import torch

    parts = list(_leaves(reward))
    inside = all(type(part).__module__.startswith("rewards.") and _plain(part) for part in parts)

    def score(images: "Tensor") -> "Tensor":
        if not inside:
            return images.mean((1, 2, 3))
        try:
            return torch.stack([part.score(images, ["a cat"] * len(images)) for part in parts]).sum(0)
        except Exception:
            return images.mean((1, 2, 3))

    return score, inside


def _leaves(reward: "Reward") -> "Iterator[Reward]":
    for part in reward.parts.values():
        yield from _leaves(part)
    if not reward.parts:
        yield reward


def _plain(reward: "Reward") -> bool:
    from rewards.base import CallableReward

    return not isinstance(reward, CallableReward) and type(reward).__module__ != "rewards.remote"


@contextmanager
def dry(trial: Trial) -> "Iterator[Policy]":
    """The trial's policy without numbers, as one of its workers has it (see `models.dry.dry_policy`)."""
    from models.dry import dry_policy

    with dry_policy(
        _configurations(trial.model),
        sampler_settings(trial.sampler),
        rank=trial.lora.rank,
        alpha=trial.lora.alpha,
        targets=trial.lora.targets,
        dtype=dtype_of(trial),
        workers=trial.workers,
    ) as policy:
        yield policy


@lru_cache(maxsize=8)
def _configurations(model: str) -> dict[str, dict[str, Any]]:
    from models.dry import configurations

    return configurations(model)
