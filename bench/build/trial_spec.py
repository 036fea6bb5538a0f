"""`Trial`: everything a worker needs to run one trial, fully resolved and picklable."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from bench.sweep.prompts import spread
from bench.sweep.schema import Lora, Precision, RewardSpec, Sampler, Track

IDENTITY_SHOWN = 8

SETTINGS = ("settings", "sampler", "lora", "precision", "workers", "zero")
"""Of a trial's specification, what a variant may be told by."""


class Resolved(BaseModel):
    """Frozen, and complete: nothing in it is looked up again."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RewardRef(Resolved):
    """A reward with what identifies it.

    Attributes:
        spec: as `bench.build.plugins.build_reward` takes it, with absolute files.
        label: what tables call it; the metric is `reward/LABEL` unless it is the optimised one or gold.
        weights: label -> SHA-256 of what it and its parts load.
        fingerprint: hash of its version, weights and, where it is not ours, source.
        embeds: whether diversity can be measured by its image features.
    """

    spec: RewardSpec
    label: str
    differentiable: bool
    weights: dict[str, str] = {}
    fingerprint: str
    embeds: bool = False


class Budget(Resolved):
    """The limit that all methods share, and the safety stops. Axes are the meter's, and `seconds`."""

    axis: str
    limit: float
    stops: dict[str, float] = {}


class EvaluationPlan(Resolved):
    """When and how a trial is measured. `every` is in units of the budget's axis; `prompts` None means all."""

    every: float
    prompts: int | None = None
    images: int
    seed: int
    sampler: Sampler


class Trial(Resolved):
    """One method, one variant, one seed.

    Attributes:
        method: the method's own name.
        reference: what `bench.build.plugins.load_method` loads it by.
        settings: complete, for `Method.Settings(**settings)`.
        model: a local folder (absolute) or a hub id.
        sampler: the training sampler.
        sampler_version: of the code that samples this model (see `models.schedulers`).
        reward, rewards, gold: the optimised one, those reported beside it, and what it stands for.
        threads: of arithmetic; the same in process and under Ray.
        weights: name -> SHA-256, for the provenance.
        identity: SHA-256 of what decides the numbers, except the seed (see `bench.plan.identity`).
    """

    sweep: str
    variant: str
    method: str
    reference: str
    settings: dict[str, Any]
    seed: int
    model: str
    model_name: str
    sampler: Sampler
    sampler_version: str = "1"
    lora: Lora
    reward: RewardRef
    rewards: tuple[RewardRef, ...] = ()
    gold: RewardRef | None = None
    prompts_train: tuple[str, ...]
    prompts_heldout: tuple[str, ...] = ()
    budget: Budget
    evaluate: EvaluationPlan
    target: float | None = None
    precision: Precision = "fp32"
    threads: int = 1
    gpus: float = 0.0
    workers: int = 1
    zero: int = 0
    offload: bool = False
    retries: int = 0
    track: Track = Track()
    weights: dict[str, str] = {}
    identity: str

    @property
    def key(self) -> str:
        """Its folder's name, and its name in tables: `ddpo-s0-1a2b3c4d`."""
        return f"{self.variant}-s{self.seed}-{self.identity[:IDENTITY_SHOWN]}"

    @property
    def evaluated(self) -> dict[str, tuple[str, ...]]:
        """Split -> the prompts that evaluation looks at; a split without prompts is left out."""
        splits = {"train": self.prompts_train, "heldout": self.prompts_heldout}
        return {split: spread(prompts, self.evaluate.prompts) for split, prompts in splits.items() if prompts}


def reward_metrics(trial: Trial) -> dict[str, RewardRef]:
    """Metric -> reward: the optimised one, its gold, and those reported beside it."""
    others = {f"reward/{ref.label}": ref for ref in trial.rewards}
    return {"reward": trial.reward, **({"gold": trial.gold} if trial.gold else {}), **others}


def flat_settings(spec: object) -> dict[str, Any] | None:
    """A trial's settings by dotted name; None where it has not begun."""
    if not isinstance(spec, Mapping):
        return None
    found: dict[str, Any] = {}
    for name in SETTINGS:
        value = spec.get(name)
        found |= {f"{name}.{key}": each for key, each in value.items()} if isinstance(value, Mapping) else {name: value}
    return found
