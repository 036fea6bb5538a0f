"""`Trial`: the specification of a trial, which holds everything a worker needs to run it and can be pickled."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from bench.sweep.prompts import spread
from bench.sweep.schema import Lora, Precision, RewardSpec, Sampler, Track

IDENTITY_SHOWN = 8
"""Hexadecimal digits of the identity in a trial's name."""

SETTINGS = ("settings", "sampler", "lora", "precision", "workers", "zero")
"""Fields of `Trial` in which variants may differ, and which the report shows."""


class Resolved(BaseModel):
    """Base of the specification's classes: frozen, with names and paths resolved by the planner."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RewardRef(Resolved):
    """A reward of a trial, with the hashes that identify it.

    Attributes:
        spec: the description for `bench.build.plugins.build_reward`, with absolute paths.
        label: the name in tables; the metric is `reward/LABEL` unless it is the optimised or the gold reward.
        differentiable: whether the reward has a gradient.
        weights: label -> SHA-256 of the weights, for the reward and its parts.
        fingerprint: hash of what decides its scores (see `bench.plan.identity.reward_fingerprint`).
        embeds: whether the reward has image features, by which diversity can be measured.
    """

    spec: RewardSpec
    label: str
    differentiable: bool
    weights: dict[str, str] = {}
    fingerprint: str
    embeds: bool = False


class Budget(Resolved):
    """The limit of a trial, which all methods share, and further limits as safety stops.

    Attributes:
        axis, limit: the axis of the budget (`models.ledger.BudgetAxis`) and its limit.
        stops: axis -> limit of each safety stop.
    """

    axis: str
    limit: float
    stops: dict[str, float] = {}


class EvaluationPlan(Resolved):
    """When and how a trial is evaluated.

    Attributes:
        every: the distance between evaluations, in units of the budget's axis.
        prompts: the number of prompts of each split, evenly spread; None for all.
        images: images of each prompt.
        seed: the seed of the evaluation noise.
        sampler: the sampler of evaluation.
        average: the decay at each update of the moving average of the adapter that is evaluated; None for the adapter.
        scale: the share of the adapter's change of the base model that is evaluated.
    """

    every: float
    prompts: int | None = None
    images: int
    seed: int
    sampler: Sampler
    average: float | None = None
    scale: float = 1.0

    @property
    def adapter(self) -> dict[str, Any]:
        """How the evaluated adapter differs from the trained one: `average` and `scale`, each where it is set."""
        return self.model_dump(include={"average", "scale"}, exclude_defaults=True)


class Trial(Resolved):
    """The specification of a trial: one variant of one method with one seed.

    Attributes:
        method: the method's own name.
        reference: the method's name or reference for `bench.build.plugins.load_method`.
        settings: all settings of the method, for `Method.Settings(**settings)`.
        model: a local folder (absolute), a hub id, or the reference of a model family.
        model_name: the model as the sweep names it.
        sampler: the training sampler.
        sampler_version: version of the code that samples this model (see `models.schedulers`).
        reward, rewards, gold: the optimised reward, those that are only reported, and the gold reward.
        threads: threads of arithmetic, the same in process and under Ray.
        gpus: GPUs of each worker, or a share of one.
        weights: name -> SHA-256 of model and rewards, for the provenance.
        keep: which adapters along the curve are kept: the last, also the best point's, or all.
        skip: why the trial is not to run, though a table has its row; None if it is.
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
    keep: Literal["last", "best", "all"] = "last"
    precision: Precision = "fp32"
    threads: int = 1
    gpus: float = 0.0
    workers: int = 1
    zero: int = 0
    offload: bool = False
    retries: int = 0
    track: Track = Track()
    weights: dict[str, str] = {}
    skip: str | None = None
    identity: str

    @property
    def key(self) -> str:
        """The trial's name in tables, and its folder's: `ddpo-s0-1a2b3c4d`."""
        return f"{self.variant}-s{self.seed}-{self.identity[:IDENTITY_SHOWN]}"

    @property
    def evaluated(self) -> dict[str, tuple[str, ...]]:
        """Split -> the prompts that are evaluated; a split without prompts is left out."""
        splits = {"train": self.prompts_train, "heldout": self.prompts_heldout}
        return {split: spread(prompts, self.evaluate.prompts) for split, prompts in splits.items() if prompts}


def reward_metrics(trial: Trial) -> dict[str, RewardRef]:
    """Metric -> reward of a trial: the optimised one, the gold reward, and those that are only reported."""
    others = {f"reward/{ref.label}": ref for ref in trial.rewards}
    return {"reward": trial.reward, **({"gold": trial.gold} if trial.gold else {}), **others}


def flat_settings(spec: object) -> dict[str, Any] | None:
    """A stored specification's settings by dotted name, `lora.rank`; None for a trial that has not begun."""
    if not isinstance(spec, Mapping):
        return None
    flat: dict[str, Any] = {}
    for name in SETTINGS:
        value = spec.get(name)
        flat |= {f"{name}.{key}": item for key, item in value.items()} if isinstance(value, Mapping) else {name: value}
    return flat
