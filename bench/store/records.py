"""The records that the store writes as JSON, as models: what each field is, and what a file must hold to be one.

Every file is checked once, when it is read. Types are strict. Fields that a version does not know are kept and written
back, and a field that was not in the file is not written. Numbers that are calculated with are finite; values of
metrics may be NaN.
"""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from bench.errors import BenchError, one_line
from bench.store.files import read_json
from bench.store.status import Status
from reports.names import SPLITS, is_metric

VERSION = 1
"""Of the files that are written now. A file without a version is of the first one; those before it have the same fields
as far as they have them.
"""

Number = int | float
"""A number of JSON, NaN and infinity included; counts stay integers."""

Finite = int | Annotated[float, Field(allow_inf_nan=False)]


class Part(BaseModel):
    """A part of a record: strict, with unknown fields kept."""

    model_config = ConfigDict(extra="allow", strict=True)

    def stored(self) -> dict[str, Any]:
        """The fields as they are written: those that were read or set, unknown ones last."""
        return self.model_dump(exclude_unset=True)


class Record(Part):
    """A file of its own, with the version of its format."""

    version: int = VERSION

    def stored(self) -> dict[str, Any]:
        return {"version": VERSION, **self.model_dump(exclude_unset=True, exclude={"version"})}

    def without(self, *names: str) -> Self:
        """A copy that lacks some fields; those that a record must have cannot be named."""
        return type(self).model_validate(self.model_dump(exclude_unset=True, exclude=set(names)))

    def changed(self, **fields: Any) -> Self:
        """A checked copy with other values of some fields.

        Raises:
            ValidationError: a value is none of its field.
        """
        return type(self).model_validate({**self.model_dump(exclude_unset=True), **fields})


def read_record(path: Path) -> Any:
    """The JSON of a record's file, unchecked but for its version; None where there is no file or no JSON in it.

    Raises:
        BenchError: a later version of the package wrote the file. To take it for damaged would train its trial again.
    """
    found = read_json(path)
    version = found.get("version", VERSION) if isinstance(found, dict) else VERSION
    if isinstance(version, int) and version > VERSION:
        what = f"is of version {version}, and this package reads versions up to {VERSION}"
        raise BenchError(what, str(path), "read it with the alignprop-bench that wrote it, or a later one")
    return found


def wrong_fields(error: ValidationError) -> list[str]:
    """Names of the top-level fields that are missing or not what they should be, in the order of the model."""
    return list(dict.fromkeys(str(each["loc"][0]) for each in error.errors() if each["loc"]))


# -- a trial ------------------------------------------------------------------------------------------------------


class TrialWarning(Part):
    """What a reader of a trial's numbers must know, and the point of the curve at which it was found."""

    point: int
    text: str


class Whole(Part):
    """What a settled trial has when nothing of it is lost: counts of points and of rows, and names of adapter files."""

    points: int | None = None
    rows: int | None = None
    adapter: list[str] = []


class Provenance(Part):
    """Where a trial ran; see `bench.store.provenance`."""

    versions: dict[str, Any] | None = None
    commit: str | None = None
    dirty: bool | None = None
    hardware: dict[str, Any] | None = None
    threads: int | None = None
    command: str | None = None


class TrialRecord(Record):
    """`trial.json`.

    Attributes:
        trial: the folder's name.
        status: as it was last written; a reader may find that the trial is interrupted since.
        cause: why the trial stopped, for a person to act on.
        updated: when the status was written, in seconds since 1970, like `started` and `finished`.
        seconds: that the last attempt took.
        attempts: how often the trial was tried in the `bench run` whose identifier is `call`.
        spec: the `bench.build.trial_spec.Trial`, as JSON.
        search: the search that pruned the trial, by its fingerprint.
        whole: what a settled trial has.
        warnings: matter -> what a reader must know.
        mended: what was the matter with the trial's files, and what was done.
    """

    trial: str | None = None
    status: Annotated[Status, Field(strict=False)]
    cause: str | None = None
    updated: Finite | None = None
    started: Finite | None = None
    finished: Finite | None = None
    seconds: Finite | None = None
    attempts: int = 1
    call: str | None = None
    sweep: str | None = None
    method: str | None = None
    variant: str | None = None
    seed: int | None = None
    identity: str | None = None
    spec: dict[str, Any] | None = None
    search: str | None = None
    provenance: Provenance | None = None
    whole: Whole | None = None
    warnings: dict[str, TrialWarning] | None = None
    mended: list[str] = []

    @property
    def axis(self) -> str | None:
        """The budget's axis, where the record knows it."""
        budget = (self.spec or {}).get("budget")
        axis = budget.get("axis") if isinstance(budget, dict) else None
        return axis if isinstance(axis, str) else None


class Step(Part):
    """When how much of a budget was spent: seconds since 1970, and a fraction of it."""

    time: Finite
    progress: Finite


class Pulse(Record):
    """`heartbeat.json`: a running trial is alive.

    Attributes:
        time: of the heartbeat, in seconds since 1970.
        pid: of the process that wrote it, on `host`.
        progress: fraction of the budget spent.
        latest: the latest training reward.
        moved: when `progress` was last written.
        since: the first step of this attempt.
    """

    time: Finite
    pid: int = 0
    host: str | None = None
    progress: Finite = 0.0
    latest: Number | None = None
    moved: Finite | None = None
    since: Step | None = None


# -- a curve ------------------------------------------------------------------------------------------------------


def _known_split(name: str) -> str:
    if name not in SPLITS:
        raise ValueError("unknown split")
    return name


def _known_metric(name: str) -> str:
    if not is_metric(name):
        raise ValueError("unknown metric")
    return name


Values = dict[Annotated[str, AfterValidator(_known_split)], dict[Annotated[str, AfterValidator(_known_metric)], Number]]


class Point(Part):
    """A line of `curve.jsonl`; its trial's record has the version.

    Attributes:
        point: its number, from 0.
        axes: what had been spent, by the meter's axes.
        values: split -> metric -> mean.
        extra: means over the steps since the last point.
    """

    point: Annotated[int, Field(ge=0)]
    axes: dict[str, Finite]
    values: Values
    extra: dict[str, Any] | None = None


def wrong_point(error: ValidationError) -> str:
    """What keeps a JSON value from being a point, as a sentence that goes on from its line's place."""
    first = error.errors()[0]
    place, value = first["loc"], one_line(repr(first["input"]), 40)
    if not place:
        return "is no point"
    if first["type"] == "missing":
        return f"has no {place[0]}"
    if len(place) == 1 or place[0] not in ("axes", "values"):
        return f"has a {place[0]!r} that is none"
    if place[0] == "axes":
        return f"says {value} for {place[1]}"
    if len(place) == 2 or place[2] == "[key]":
        return f"has values of an unknown split {one_line(repr(place[1]), 40)}"
    return f"has values of an unknown metric {value}" if place[-1] == "[key]" else f"says {value} for {place[2]}"


class Settled(Record):
    """`settled.json`: the record and the curve of a trial that has come to its end, once more."""

    record: TrialRecord
    curve: list[Point]

    def stored(self) -> dict[str, Any]:
        points = [point.stored() for point in self.curve]
        return {"version": VERSION, "record": self.record.stored(), "curve": points}


# -- a run --------------------------------------------------------------------------------------------------------


class PlannedTrial(Part):
    """A trial as the plan lists it; `trial` is its name, and its folder's."""

    sweep: str
    trial: str
    method: str
    variant: str
    seed: int
    identity: str


class PlannedBudget(Part):
    """The limit that all trials share."""

    axis: str
    limit: Finite


class _Reward(Part):
    name: str
    version: str


class _Prompts(Part):
    count: int
    digest: str


class _Splits(Part):
    train: _Prompts
    heldout: _Prompts


class _Axis(Part):
    axis: str


class Protocol(Part):
    """What `bench.plan.protocol.protocol_of` gives, as far as it is put into words."""

    reward: _Reward
    model: str
    prompts: _Splits
    every: Annotated[Finite, Field(alias="evaluated every")]
    budget: _Axis
    precision: str


def _sound_protocol(found: dict[str, Any]) -> dict[str, Any]:
    Protocol.model_validate(found)
    return found


class PlanRecord(Record):
    """`plan.json`: the planned trials, and what a report needs to know of the run beside them.

    Attributes:
        parallel: trials at a time.
        evaluation: how the numbers are measured, in words.
        protocol: what the optimised reward's curve depends on; None in plans of older versions.
        measures: metric beside the optimised reward -> the hash of what gives it.
        tuning: the record of `bench.run.search`.
        methods: method -> its presentation in reports (`bench.build.presentation`).
        written: when, in seconds since 1970.
        damage: what was the matter with the file, where the plan was made again; never written.
    """

    name: str = ""
    description: str = ""
    command: str = ""
    executor: str = ""
    parallel: int = 1
    budget: PlannedBudget | None = None
    target: Finite | None = None
    reward: str = ""
    gold: str | None = None
    diversity: str = ""
    prompts: dict[str, list[Any]] = {}
    evaluation: str = ""
    protocol: Annotated[dict[str, Any], AfterValidator(_sound_protocol)] | None = None
    measures: dict[str, Any] | None = None
    tuning: dict[str, Any] | None = None
    warnings: list[Any] = []
    methods: dict[str, dict[str, Any]] = {}
    written: Finite = 0.0
    trials: list[PlannedTrial]
    damage: list[str] = []

    @property
    def method_names(self) -> list[str]:
        """The methods of the planned trials, each once, in the order of the plan."""
        return list(dict.fromkeys(row.method for row in self.trials))


class WholePlan(PlanRecord):
    """A plan with all that a report takes."""

    name: str
    description: str
    command: str
    parallel: int
    budget: PlannedBudget
    target: Finite | None
    reward: str
    gold: str | None
    prompts: dict[str, list[Any]]
    evaluation: str


def wrong_plan(found: Any, error: ValidationError) -> str:
    """What keeps a JSON value from being a plan, as a sentence that goes on from the file's name."""
    if not isinstance(found, dict):
        return "is damaged" if found is None else "is no plan"
    if "trials" not in found:
        return "lists no trials"
    lacking = [str(each["loc"][0]) for each in error.errors() if each["type"] == "missing" and len(each["loc"]) == 1]
    return f"lacks {', '.join(lacking)}" if lacking else f"has a {wrong_fields(error)[0]!r} that is none"
