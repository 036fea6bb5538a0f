"""The schema of a sweep file: its keys, their types, limits and defaults.

`python -m bench.sweep.schema > sweeps/schema.json` writes the JSON Schema by which editors complete keys.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag, model_validator

from bench.sweep.overlay import suggestion
from models.choices import DEFAULT_TARGETS, Spacing
from models.ledger import BudgetAxis

Precision = Literal["fp32", "tf32", "bf16"]
"""tf32 has the weights of fp32. No fp16: gradients as small as D3PO's would vanish in it without loss scaling."""

REWARD_KINDS = ("name", "sum", "ensemble", "clip", "http")
"""A reward has exactly one of these keys."""

Tracker = Literal["tensorboard", "wandb", "mlflow", "trackio"]
TRACKERS: tuple[str, ...] = get_args(Tracker)

NAME_PATTERN = r"[a-z0-9][a-z0-9._-]{0,63}"
NAME_RULE = "1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit"


def _check_name(value: str) -> str:
    # These names become folders, so a name that could lead out of the run's folder is refused.
    if not re.fullmatch(NAME_PATTERN, value) or value.endswith("."):
        raise ValueError(f"{value!r} cannot name a folder: {NAME_RULE}")
    return value


def _unique(values: tuple[Any, ...]) -> tuple[Any, ...]:
    repeated = next((value for index, value in enumerate(values) if value in values[:index]), None)
    if repeated is not None:
        raise ValueError(f"{repeated!r} appears twice")
    return values


def _reward_mapping(value: Any) -> Any:
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, Mapping | RewardSpec):
        return value
    raise ValueError(f"expected a reward's name, module:function, file.py:function, or a mapping with {_kinds()}")


def _kinds() -> str:
    return f"{', '.join(REWARD_KINDS[:-1])} or {REWARD_KINDS[-1]}"


def _prompt_source(value: Any) -> Any:
    if isinstance(value, str | Mapping | PromptFile):
        return value
    wrong = ""
    if isinstance(value, list | tuple):
        number, entry = next(((n, entry) for n, entry in enumerate(value, 1) if not isinstance(entry, str)), (0, None))
        if not number:
            return value
        nested: dict[type, str] = {dict: "a mapping", list: "a list"}
        shown = nested.get(type(entry)) or json.dumps(entry, default=str)
        wrong = f"; entry {number} is {shown}, which is text only in quotes"
    raise ValueError(f"expected a prompt set's name, a file, a list of prompts in quotes, or {{file: ...}}{wrong}")


Name = Annotated[str, AfterValidator(_check_name)]
WholeNumber = Annotated[int, Field(strict=True)]
Count = Annotated[int, Field(strict=True, ge=1)]
Number = Annotated[float, Field(strict=True)]
Positive = Annotated[float, Field(strict=True, gt=0)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**31)]
Flag = Annotated[bool, Field(strict=True)]
NonEmpty = Annotated[str, Field(min_length=1)]


class SchemaModel(BaseModel):
    """Base of the models of a sweep's mappings; it refuses unknown keys, NaN and infinity."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PromptFile(SchemaModel):
    """Prompts in a file, local or on the hub: a prompt on each line, or a table in JSON, CSV, TSV or Parquet."""

    file: NonEmpty = Field(
        description="a .txt, .json, .jsonl, .csv, .tsv or .parquet file beside the sweep, or in `hub`"
    )
    hub: NonEmpty | None = Field(default=None, description="a dataset repository, owner/name, that holds the file")
    column: NonEmpty | None = Field(
        default=None, description="the column of prompts; one called prompt, prompts, caption or text unless given"
    )
    limit: Count | None = Field(default=None, description="the most prompts to take, evenly spread over the file")


def _prompt_kind(value: Any) -> str:
    return "(file)" if isinstance(value, Mapping | PromptFile) else "(text)" if isinstance(value, str) else "(list)"


PromptSource = Annotated[
    Annotated[str, Tag("(text)")] | Annotated[tuple[str, ...], Tag("(list)")] | Annotated[PromptFile, Tag("(file)")],
    Discriminator(_prompt_kind),
    BeforeValidator(_prompt_source),
]
"""Tags are in brackets, by which messages distinguish them from keys (`bench/sweep/problems.py`)."""


class RewardSpec(BaseModel):
    """A reward: by name or reference, made of other rewards, or on a server. Other keys are options of the reward."""

    model_config = ConfigDict(extra="allow", frozen=True, allow_inf_nan=False)

    name: NonEmpty | None = Field(
        default=None, description="a built-in reward, module:function, or file.py:function beside the sweep"
    )
    sum: "Annotated[tuple[AnyReward, ...], Field(min_length=1)] | None" = Field(
        default=None, description="rewards to add up, each with its `weight`"
    )
    ensemble: "Annotated[tuple[AnyReward, ...], Field(min_length=2)] | None" = Field(
        default=None, description="rewards; the score is their mean minus `k` standard deviations"
    )
    clip: "AnyReward | None" = Field(default=None, description="a reward whose scores are clipped to `min` and `max`")
    http: NonEmpty | None = Field(default=None, description="the URL of a scoring server of your own")
    label: Name | None = Field(default=None, description="the reward's name in tables; made from its name unless given")
    weight: Number | None = Field(default=None, description="the reward's factor in a sum; 1 unless given")

    @model_validator(mode="after")
    def _one_kind(self) -> "RewardSpec":
        kinds = [kind for kind in REWARD_KINDS if getattr(self, kind) is not None]
        if len(kinds) != 1:
            given = f"it has {' and '.join(kinds)}" if kinds else "it has none"
            raise ValueError(f"a reward is a mapping with one of {_kinds()}; {given}")
        if any(part.weight is not None for part in (*(self.ensemble or ()), *([self.clip] if self.clip else []))):
            raise ValueError(f"{kinds[0]}: weights belong to the parts of a sum")
        labels = [part.shown for part in self.inside()]
        repeated = next((label for index, label in enumerate(labels) if label in labels[:index]), None)
        if repeated is not None:
            raise ValueError(f"two parts are called {repeated!r}; give one a `label:` of its own")
        return self

    @property
    def kind(self) -> str:
        """The key of `REWARD_KINDS` that the reward has."""
        return next(kind for kind in REWARD_KINDS if getattr(self, kind) is not None)

    @property
    def parts(self) -> "tuple[RewardSpec, ...]":
        """The rewards that this one is made of; empty for one with a name or on a server."""
        return self.sum or self.ensemble or ((self.clip,) if self.clip else ())

    def inside(self) -> "Iterator[RewardSpec]":
        """The parts of the reward and, recursively, the parts of each part after it."""
        for part in self.parts:
            yield part
            yield from part.inside()

    @property
    def options(self) -> dict[str, Any]:
        """The keys that are options of the reward."""
        return dict(self.model_extra or {})

    @property
    def shown(self) -> str:
        """The name in tables: the label, `score` for `my_reward.py:score`, `a+b` for a sum, the host of a server."""
        if self.label:
            return self.label
        names = [part.shown for part in self.parts]
        if self.name is not None:
            text = self.name.rpartition(":")[2]
        elif self.http is not None:
            place = urlsplit(self.http)  # the URL may hold a password or a token, which must not be shown
            text = f"{place.hostname or ''}{place.path}" if place.netloc else self.http
        else:
            text = f"clipped-{names[0]}" if self.clip else {"sum": "+", "ensemble": "~"}[self.kind].join(names)
        return re.sub(r"[^A-Za-z0-9._+~-]+", "-", text).strip("-")


AnyReward = Annotated[RewardSpec, BeforeValidator(_reward_mapping, json_schema_input_type=str | RewardSpec)]
RewardSpec.model_rebuild()


class Prompts(SchemaModel):
    """The prompts of training and of held-out evaluation."""

    train: PromptSource = Field(description="the training prompts: a prompt set's name, a file, or a list")
    heldout: PromptSource | None = Field(
        default=None, description="prompts that are evaluated and that no method trains on"
    )


class Sampler(SchemaModel):
    """How images are sampled: DDIM with eta and classifier-free guidance."""

    steps: Count = Field(description="denoising steps")
    guidance: Annotated[float, Field(strict=True, ge=0)] = Field(
        default=1.0, description="guidance scale; 1 turns guidance off, any other value doubles the denoiser's rows"
    )
    eta: Annotated[float, Field(strict=True, ge=0, le=1)] = Field(
        default=1.0, description="DDIM's noise: 0 is deterministic; policy gradients need more than 0"
    )
    spacing: Spacing | None = Field(
        default=None, description="how the timesteps are spread; as the checkpoint's scheduler does unless given"
    )


class SamplerChange(SchemaModel):
    """The values of the training sampler that one method changes."""

    steps: Count | None = None
    guidance: Annotated[float, Field(strict=True, ge=0)] | None = None
    eta: Annotated[float, Field(strict=True, ge=0, le=1)] | None = None
    spacing: Spacing | None = None


class Lora(SchemaModel):
    """The adapter that every method trains."""

    rank: Count = Field(default=4, description="LoRA's rank; 4 is AlignProp's and DDPO's")
    alpha: Count | None = Field(
        default=None, description="LoRA scales its updates by alpha / rank; the rank unless given"
    )
    targets: Annotated[tuple[NonEmpty, ...], Field(min_length=1)] = Field(
        default=DEFAULT_TARGETS, description="endings of the names of the denoiser's modules that get an adapter"
    )


class MethodSpec(SchemaModel):
    """One method, or several variants of it (`grid`)."""

    name: NonEmpty = Field(description="a built-in method, module:Class, or file.py:Class beside the sweep")
    variant: Name | None = Field(
        default=None, description="the variant's name in tables and folders; the method's unless given"
    )
    settings: dict[str, Any] = Field(
        default_factory=dict, description="the method's settings; `bench list methods` lists them"
    )
    sampler: SamplerChange = Field(
        default=SamplerChange(), description="changes to the training sampler for this method"
    )
    grid: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = Field(
        default_factory=dict, description="setting -> values; every combination becomes a variant"
    )


class Evaluate(SchemaModel):
    """When and how images are evaluated, the same for every method."""

    every: Positive | None = Field(
        default=None, description="distance between evaluations, in units of the budget; an eighth of it unless given"
    )
    prompts: Count | None = Field(
        default=None, description="the most prompts of each split to evaluate, evenly spread over it; all unless given"
    )
    images: Count = Field(default=2, description="images of each prompt; diversity is measured from 2 on")
    seed: Seed = Field(default=1_000_003, description="seed of the evaluation noise, the same for every trial")
    sampler: Sampler | None = Field(
        default=None, description="the sampler of evaluation; 20 steps, eta 0 and the sweep's guidance unless given"
    )
    average: Annotated[float, Field(strict=True, gt=0, lt=1)] | None = Field(
        default=None,
        description="decay at each update of the moving average of the adapter that is evaluated; none unless given",
    )
    scale: Annotated[float, Field(strict=True, ge=0, le=1)] = Field(
        default=1.0, description="evaluate this share of the adapter's change of the base model"
    )
    keep: Literal["last", "best", "all"] = Field(
        default="last", description="adapters kept along the curve: also that of the best point by reward, or every one"
    )
    rewards: tuple[AnyReward, ...] = Field(
        default=(), description="further rewards to report, which no method optimises"
    )
    gold: AnyReward | None = Field(default=None, description="the gold reward, for which the optimised one is a proxy")


class Resources(SchemaModel):
    """The resources of one trial."""

    cpus: Count = Field(default=1, description="cores, and threads of arithmetic, of each of a trial's workers")
    gpus: Annotated[float, Field(strict=True, ge=0)] = Field(
        default=0.0, description="GPUs of each of a trial's workers, or a share of one"
    )
    workers: Count = Field(default=1, description="processes of a trial, which divide its rows among them")
    zero: Annotated[int, Field(strict=True, ge=0, le=3)] = Field(
        default=0, description="DeepSpeed ZeRO: 1 shards the optimiser's state, 2 gradients too, 3 the weights too"
    )
    offload: Literal["none", "cpu"] = Field(default="none", description="cpu: keep in host memory what ZeRO shards")
    precision: Precision = Field(
        default="fp32",
        description="of the model's frozen weights: fp32, bf16, or tf32, which keeps fp32 weights and lets a GPU "
        "multiply with their leading bits only (NVIDIA's TF32, from Ampere on; the rewards' too)",
    )

    @model_validator(mode="after")
    def _fit_together(self) -> "Resources":
        if self.offload != "none" and not self.zero:
            raise ValueError("offload needs ZeRO; write zero: 1, 2 or 3 too")
        if self.zero and self.precision != "fp32":
            raise ValueError(f"ZeRO runs in fp32 for now, not {self.precision}; leave out zero or precision")
        if self.precision == "tf32" and not self.gpus:
            raise ValueError("tf32 is arithmetic of GPUs, and gpus is 0; write precision: fp32, or gpus: 1")
        return self


class Distribution(SchemaModel):
    """The distribution from which search draws a setting's values; a list of values is short for `choice`."""

    choice: Annotated[tuple[Any, ...], Field(min_length=1)] | None = Field(
        default=None, description="one of these values"
    )
    uniform: tuple[Number, Number] | None = Field(default=None, description="a number between these two")
    loguniform: tuple[Positive, Positive] | None = Field(
        default=None, description="a number between these two, uniform in its logarithm"
    )
    integers: tuple[WholeNumber, WholeNumber] | None = Field(
        default=None, description="a whole number from the first to the second, both included"
    )

    @model_validator(mode="after")
    def _one_kind(self) -> "Distribution":
        kinds = [kind for kind in type(self).model_fields if getattr(self, kind) is not None]
        if len(kinds) != 1:
            raise ValueError(f"a distribution is a list of values or one of {', '.join(type(self).model_fields)}")
        if kinds != ["choice"]:
            low, high = getattr(self, kinds[0])
            if low >= high:
                raise ValueError(f"{kinds[0]}: [{low:g}, {high:g}] is empty; the lower end comes first")
        return self


AnyDistribution = Annotated[
    Distribution,
    BeforeValidator(
        lambda value: {"choice": value} if isinstance(value, list | tuple) else value,
        json_schema_input_type=list[Any] | Distribution,
    ),
]


def _repeatable(algorithm: Any) -> Any:
    if algorithm == "pbt":
        raise ValueError("pbt finds no settings that a trial can begin with on other seeds; use random, optuna or asha")
    return algorithm


class Finals(SchemaModel):
    """The second stage of a tuning: the best configurations of each method, at the comparison's budget."""

    best: Count = Field(default=2, description="configurations of each method that every criterion sends to the finals")
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_unique)] = Field(
        description="seeds of the finals, which neither the first stage nor the comparison has"
    )


Criterion = Literal["reward", "gold"]


class Search(SchemaModel):
    """How the settings of every method are tuned before the comparison."""

    algorithm: Annotated[Literal["random", "optuna", "asha"], BeforeValidator(_repeatable)] = Field(
        default="random", description="Ray Tune's random search, Optuna's TPE, or ASHA"
    )
    space: Annotated[
        dict[Name, Annotated[dict[NonEmpty, AnyDistribution], Field(min_length=1)]], Field(min_length=1)
    ] = Field(description="variant -> setting -> its values or their distribution")
    untuned: tuple[Name, ...] = Field(default=(), description="variants whose settings stay as written in the sweep")
    samples: Count = Field(default=8, description="number of configurations of each method")
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_unique)] = Field(
        default=(100,), description="seeds of the tuning's trials, none of which may be a seed of the comparison"
    )
    prompts: Prompts | None = Field(
        default=None, description="prompts of the tuning; the comparison's training prompts unless given"
    )
    metric: Literal["reward", "heldout_reward"] = Field(
        default="reward", description="the score to maximise: a trial's last reward on training or on held-out prompts"
    )
    criteria: Annotated[tuple[Criterion, ...], AfterValidator(_unique)] = Field(
        default=("reward",),
        description="how the best is chosen; gold chooses a second time, and the comparison has that as VARIANT-gold",
    )
    budget: Annotated[dict[BudgetAxis, Positive], Field(min_length=1)] | None = Field(
        default=None, description="the first stage's budget, on the comparison's axis; the comparison's unless given"
    )
    finals: Finals | None = Field(
        default=None, description="a second stage, among whose configurations the best is chosen; none unless given"
    )
    seed: Seed = Field(default=0, description="seed of the drawn configurations")
    at_once: Count = Field(default=2, description="optuna: configurations in a round")
    grace: Annotated[float, Field(strict=True, gt=0, lt=1)] = Field(
        default=0.25, description="asha: the share of the budget before which no trial is stopped"
    )
    reduction: Annotated[int, Field(strict=True, ge=2)] = Field(
        default=3, description="asha: at each rung the best 1/reduction of the trials continue"
    )

    @model_validator(mode="after")
    def _fit_together(self) -> "Search":
        if self.algorithm == "asha" and len(self.seeds) > 1:
            raise ValueError("asha compares unfinished trials, one a configuration: give one seed")
        if self.algorithm == "asha" and (self.budget or self.finals or "gold" in self.criteria):
            what = "asha has stages of its own, which stop trials by the reward: leave out budget, finals and gold"
            raise ValueError(f"{what}, or take random or optuna")
        if "reward" not in self.criteria:
            raise ValueError("criteria: reward chooses each method's own row, so it is always one: [reward, gold]")
        if self.finals and self.finals.best > self.samples:
            what = f"{self.finals.best} of {self.samples} configurations cannot be in the finals"
            raise ValueError(f"{what}; give a smaller finals.best, or more samples")
        if self.metric == "heldout_reward" and not (self.prompts and self.prompts.heldout):
            raise ValueError("heldout_reward needs prompts that are not the comparison's: search.prompts.heldout")
        both = next((name for name in self.untuned if name in self.space), None)
        if both:
            raise ValueError(f"{both!r} has a space and is in untuned")
        return self

    @property
    def unused(self) -> set[str]:
        """The keys of a second stage and a second criterion that have their defaults.

        Records leave them out, so that they do not change the fingerprint of a search that has neither.
        """
        fields = type(self).model_fields
        return {name for name in ("criteria", "budget", "finals") if getattr(self, name) == fields[name].default}


class Wandb(SchemaModel):
    """Options of Weights & Biases; `wandb login` or WANDB_API_KEY gives the account."""

    project: NonEmpty | None = Field(default=None, description="the project; the sweep's name unless given")
    entity: NonEmpty | None = Field(default=None, description="the user or team that owns the project")
    group: NonEmpty | None = Field(default=None, description="the group of runs; the sweep's name unless given")
    tags: tuple[NonEmpty, ...] | None = Field(default=None, description="tags of every run")
    notes: NonEmpty | None = Field(default=None, description="a note on every run")
    mode: Literal["online", "offline", "shared", "disabled"] | None = Field(
        default=None, description="W&B's mode; WANDB_MODE unless given"
    )


def _without_password(address: str) -> str:
    if urlsplit(address).password:
        do = "give it as MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
        raise ValueError(f"holds a password, which would be kept with the run; {do}")
    return address


class Mlflow(SchemaModel):
    """Options of MLflow."""

    tracking_uri: Annotated[NonEmpty, AfterValidator(_without_password)] | None = Field(
        default=None, description="the server; MLFLOW_TRACKING_URI, or else mlflow.db in the run's folder, unless given"
    )
    experiment_name: NonEmpty | None = Field(default=None, description="the experiment; the sweep's name unless given")
    tags: dict[NonEmpty, NonEmpty] | None = Field(default=None, description="tags of every run")
    description: NonEmpty | None = Field(default=None, description="a description of every run")


class Trackio(SchemaModel):
    """Options of Trackio, which keeps runs on this machine or in a Hugging Face Space."""

    project: NonEmpty | None = Field(default=None, description="the project; the sweep's name unless given")
    group: NonEmpty | None = Field(default=None, description="the group of runs; the sweep's name unless given")
    space_id: NonEmpty | None = Field(default=None, description="the Space, owner/name; this machine unless given")
    private: Flag | None = Field(default=None, description="whether a new Space is private")


class Track(SchemaModel):
    """The trackers that show curves while trials run; no number depends on them."""

    tensorboard: Flag = Field(default=True, description="write event files to every trial's folder")
    wandb: Wandb | None = Field(default=None, description="options of Weights & Biases; {} for defaults")
    mlflow: Mlflow | None = Field(default=None, description="options of MLflow; {} for defaults")
    trackio: Trackio | None = Field(default=None, description="options of Trackio; {} for defaults")

    @property
    def services(self) -> dict[str, SchemaModel]:
        """Service -> its options, for each service that the sweep names."""
        options = {"wandb": self.wandb, "mlflow": self.mlflow, "trackio": self.trackio}
        return {name: own for name, own in options.items() if own is not None}


def _trackers(value: Any) -> Any:
    """The mapping tracker -> options, from a name, a list of names, `none`, or a mapping."""
    if isinstance(value, Track):
        return value
    if isinstance(value, Mapping):
        return {
            name: ({} if name in TRACKERS[1:] else True) if options is None else options
            for name, options in value.items()
        }
    names = [] if value == "none" else [value] if isinstance(value, str) else value
    known = ", ".join(TRACKERS)
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"expected names of trackers ({known}), `none`, or a mapping of them to their options")
    unknown = next((name for name in names if name not in TRACKERS), None)
    if unknown is not None:
        raise ValueError(f"there is no tracker {unknown!r}; {suggestion(unknown, list(TRACKERS)) or f'known: {known}'}")
    return {"tensorboard": bool(names)} | {name: {} for name in _unique(tuple(names)) if name != "tensorboard"}


AnyTrack = Annotated[
    Track,
    BeforeValidator(_trackers, json_schema_input_type=Track | Tracker | Literal["none"] | tuple[Tracker, ...]),
]


class Sweep(SchemaModel):
    """A comparison: methods x seeds on one model, one reward and one budget."""

    model_config = ConfigDict(title="alignprop-bench sweep")

    schema_: Literal[1] = Field(alias="schema", description="the version of this format")
    name: Name = Field(description="the sweep's name, and its run's folder's: runs/NAME")
    description: str = ""
    model: NonEmpty = Field(description="a built-in model, a folder in StableDiffusionPipeline layout, or a hub id")
    reward: AnyReward = Field(description="the reward that methods optimise")
    prompts: Prompts
    sampler: Sampler = Field(description="the training sampler, unless a method has its own")
    lora: Lora = Lora()
    methods: Annotated[tuple[MethodSpec, ...], Field(min_length=1)]
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1), AfterValidator(_unique)]
    budget: Annotated[dict[BudgetAxis, Positive], Field(min_length=1)] = Field(
        description="axis: limit, the same for every method; the first is the budget, the others are safety stops"
    )
    evaluate: Evaluate = Evaluate()
    target: Number | None = Field(
        default=None, description="a value of the reward; the report compares the cost of reaching it"
    )
    search: Search | None = Field(default=None, description="tune the methods first; left out, they run as written")
    resources: Resources = Resources()
    retries: Annotated[int, Field(strict=True, ge=0, le=10)] = Field(
        default=0, description="how often a failed trial is run again from its checkpoint"
    )
    track: AnyTrack = Field(default=Track(), description="TensorBoard's event files, and the services that are named")
    scales: dict[Name, dict[str, Any]] = Field(default_factory=dict, description="NAME: overlay, for --scale NAME")

    @property
    def primary_axis(self) -> BudgetAxis:
        """The axis of the budget: the first one in the file."""
        return next(iter(self.budget))


def json_schema() -> str:
    """The JSON Schema of a sweep file as text, for editors."""
    schema = Sweep.model_json_schema(by_alias=True)
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    print(json_schema(), end="")
