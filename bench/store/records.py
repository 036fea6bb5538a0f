"""Pydantic models of the JSON records that the store reads and writes.

Every file is validated once, when it is read, with strict types. Unknown fields are kept and written back, and a field
that was not in the file is not written. Times and amounts are finite; values of metrics may be NaN.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from bench.errors import BenchError, one_line
from bench.store.files import read_json
from bench.store.status import Status
from reports.names import SPLITS, is_metric

VERSION = 1
"""The version of the files that are written now. A file without a version is of version 1; older files have the same
fields, or some of them.
"""

Number = int | float
"""A JSON number, with NaN and infinity; integers stay integers."""

Finite = int | Annotated[float, Field(allow_inf_nan=False)]
"""A finite JSON number; integers stay integers."""


StoredStatus = Annotated[Status, Field(strict=False)]
"""A status, which JSON holds as a string."""


class Part(BaseModel):
    """A model of a part of a record: types are strict, and unknown fields are kept."""

    model_config = ConfigDict(extra="allow", strict=True)

    def stored(self) -> dict[str, Any]:
        """The fields to write: those that were read or set, unknown ones last."""
        return self.model_dump(exclude_unset=True)


class Record(Part):
    """A model of a whole file, with the version of the file's format."""

    version: int = VERSION

    def stored(self) -> dict[str, Any]:
        return {"version": VERSION, **self.model_dump(exclude_unset=True, exclude={"version"})}

    def without(self, *names: str) -> Self:
        """A copy without the named fields.

        Raises:
            ValidationError: a named field is required.
        """
        return type(self).model_validate(self.model_dump(exclude_unset=True, exclude=set(names)))

    def changed(self, **fields: Any) -> Self:
        """A validated copy with new values of some fields.

        Raises:
            ValidationError: a value does not fit its field.
        """
        return type(self).model_validate({**self.model_dump(exclude_unset=True), **fields})


def read_record(path: Path) -> Any:
    """The JSON value of a record's file, of which only the version is checked; None if there is no file or no JSON.

    Raises:
        BenchError: a later version of the package wrote the file. (If it were taken for damaged, its trial would be
            trained again.)
    """
    value = read_json(path)
    version = value.get("version", VERSION) if isinstance(value, dict) else VERSION
    if isinstance(version, int) and version > VERSION:
        what = f"is of version {version}, and this package reads versions up to {VERSION}"
        raise BenchError(what, str(path), "read it with the alignprop-bench that wrote it, or a later one")
    return value


def wrong_fields(error: ValidationError) -> list[str]:
    """Names of the top-level fields that are missing or invalid, in the order of the model."""
    return list(dict.fromkeys(str(detail["loc"][0]) for detail in error.errors() if detail["loc"]))


# -- a trial ------------------------------------------------------------------------------------------------------


class TrialWarning(Part):
    """A warning to readers of a trial's numbers, and the number of the curve's point at which it arose."""

    point: int
    text: str


class Contents(Part):
    """The expected contents of a settled trial: counts of points and evaluation rows, and names of adapter files."""

    points: int | None = None
    rows: int | None = None
    adapter: list[str] = []


class Provenance(Part):
    """The versions, commit, hardware and command that a trial ran with; see `bench.store.provenance`."""

    versions: dict[str, Any] | None = None
    commit: str | None = None
    dirty: bool | None = None
    hardware: dict[str, Any] | None = None
    threads: int | None = None
    command: str | None = None


class TrialRecord(Record):
    """The model of `trial.json`.

    Attributes:
        trial: the name of the trial's folder.
        status: the status that was last written; `TrialFolder.read` may find that the trial has been interrupted since.
        cause: why the trial stopped, for a person to act on.
        updated: when the status was written, in seconds since 1970, like `started` and `finished`.
        seconds: the duration of the last attempt.
        attempts: the number of attempts in the `bench run` whose identifier is `call`.
        spec: the `bench.build.trial_spec.Trial`, as JSON.
        search: the fingerprint of the search that pruned the trial.
        whole: the expected contents of a settled trial.
        warnings: topic -> warning.
        mended: sentences about damage to the trial's files, and what was done.
    """

    trial: str | None = None
    status: StoredStatus
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
    whole: Contents | None = None
    warnings: dict[str, TrialWarning] | None = None
    mended: list[str] = []

    @property
    def axis(self) -> str | None:
        """The budget's axis; None if the record does not hold it."""
        budget = (self.spec or {}).get("budget")
        axis = budget.get("axis") if isinstance(budget, dict) else None
        return axis if isinstance(axis, str) else None


class ProgressMark(Part):
    """The spent fraction of a budget at a time, in seconds since 1970."""

    time: Finite
    progress: Finite


class Pulse(Record):
    """The model of `heartbeat.json`, by which a running trial shows that it is alive.

    Attributes:
        time: the time of the heartbeat, in seconds since 1970.
        pid: the process that wrote it, on `host`.
        progress: the spent fraction of the budget, 0 to 1.
        latest: the latest training reward.
        moved: when `progress` was last written, in seconds since 1970.
        since: the first progress of this attempt.
    """

    time: Finite
    pid: int = 0
    host: str | None = None
    progress: Finite = 0.0
    latest: Number | None = None
    moved: Finite | None = None
    since: ProgressMark | None = None


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
    """The model of a line of `curve.jsonl`; `trial.json` holds the version of the format.

    Attributes:
        point: the point's number, from 0.
        axes: axis of the meter -> amount spent.
        values: split -> metric -> mean.
        extra: means over the steps since the last point.
    """

    point: Annotated[int, Field(ge=0)]
    axes: dict[str, Finite]
    values: Values
    extra: dict[str, Any] | None = None


def wrong_point(error: ValidationError) -> str:
    """Why a JSON value is no point, as a predicate to the line's place: "has no axes"."""
    first = error.errors()[0]
    place, value = first["loc"], one_line(repr(first["input"]), 40)
    if not place:
        return "is no point"
    if first["type"] == "missing":
        return f"has no {place[0]}"
    if len(place) == 1 or place[0] not in ("axes", "values"):
        return f"has an invalid {place[0]!r}"
    if place[0] == "axes":
        return f"says {value} for {place[1]}"
    if len(place) == 2 or place[2] == "[key]":
        return f"has values of an unknown split {one_line(repr(place[1]), 40)}"
    return f"has values of an unknown metric {value}" if place[-1] == "[key]" else f"says {value} for {place[2]}"


class SettledCopy(Record):
    """The model of `settled.json`: a second copy of a settled trial's record and curve."""

    record: TrialRecord
    curve: list[Point]

    def stored(self) -> dict[str, Any]:
        points = [point.stored() for point in self.curve]
        return {"version": VERSION, "record": self.record.stored(), "curve": points}


# -- a tuning -----------------------------------------------------------------------------------------------------


class StageResult(Part):
    """What one configuration gave in one stage; `statuses` and `trials` have an entry for each of the stage's seeds.

    Attributes:
        score: the mean over seeds of the trials' last value; None if a trial is not done or a value is not finite.
        statuses: the status of each trial.
        trials: the name of each trial.
        gold: the mean over seeds of the last gold, where gold is a criterion; None like `score`.
        gold_at_start: the mean over seeds of the gold of the first point, which is the base model's.
    """

    score: Finite | None
    statuses: list[StoredStatus]
    trials: list[str]
    gold: Finite | None = None
    gold_at_start: Finite | None = None


class TriedConfiguration(StageResult):
    """One configuration that a tuning tried, with its result in the first stage.

    Attributes:
        values: searched setting -> value.
        final: its result in the finals; None if it was not among the best.
        same_as: the number of the earlier configuration whose curves it repeats; None if it counts.
        inert: the settings that differ between the two, and changed nothing.
        modified: the settings by which it is another method than its plain name says. Where gold chooses too, reward
            chooses among configurations without any.
    """

    values: dict[str, Any]
    final: StageResult | None = None
    same_as: int | None = None
    inert: list[str] = []
    modified: list[str] = []

    @property
    def stages(self) -> list[StageResult]:
        """The results of the stages in which the configuration ran."""
        return [self, self.final] if self.final else [self]


Edges = dict[str, Literal["smallest", "largest"]]
"""Setting -> which of the values that were tried the chosen one is; settings that were chosen in between are absent."""


class GoldChoice(Part):
    """The choice of a method's configuration by gold.

    Attributes:
        variant: the name of its row in the comparison.
        chosen: the values of the configuration with the best gold; None if no configuration raised gold.
        gold: that gold, or the best there was.
        gold_at_start: the gold of the base model.
        cause: why the comparison does not train the row; None if it does.
    """

    variant: str
    chosen: dict[str, Any] | None
    gold: Finite | None
    gold_at_start: Finite | None
    edges: Edges = {}
    cause: str | None = None


class TunedMethod(Part):
    """The tuning of one variant.

    Attributes:
        chosen: the values of the configuration with the best score.
        score: that score, in the last stage.
        statuses: status -> number of trials, in all stages.
        cost: axis -> sum over all trials, pruned and failed ones included.
        counted: the number of configurations that repeat no other; None in records of earlier versions.
        by_gold: the choice by gold; None if gold is no criterion.
    """

    variant: str
    chosen: dict[str, Any]
    score: Finite
    configurations: list[TriedConfiguration]
    statuses: dict[StoredStatus, int]
    cost: dict[str, Finite]
    counted: int | None = None
    edges: Edges = {}
    by_gold: GoldChoice | None = None

    @property
    def copies(self) -> str | None:
        """A sentence on the configurations that are not counted, as "3 as 1"; None if there are none."""
        groups: dict[str, list[str]] = {}
        for number, row in enumerate(self.configurations):
            if row.same_as is not None:
                why = f"{' and '.join(row.inert)} changed nothing" if row.inert else "drawn again"
                groups.setdefault(why, []).append(f"{number} as {row.same_as}")
        if not groups:
            return None
        every = len(self.configurations)
        why = "; ".join(f"{why}, {', '.join(pairs)}" for why, pairs in groups.items())
        return f"{every - sum(map(len, groups.values()))} of {every} configurations of {self.variant} count ({why})"


class TuningRecord(Record):
    """The model of `tuning/search.json`: what a tuning tried, what it chose, and what it cost.

    Attributes:
        fingerprint: a hash of the search and of all that its trials share.
        search: the sweep's `search` (`bench.sweep.schema.Search`), as JSON.
    """

    fingerprint: str
    search: dict[str, Any]
    methods: list[TunedMethod]

    @property
    def copies(self) -> list[str]:
        """A sentence for each method of which not all configurations are counted."""
        return [method.copies for method in self.methods if method.copies]

    @property
    def unfinished(self) -> int:
        """The number of configurations that failed or were interrupted."""
        rows = (row.stages for method in self.methods for row in method.configurations)
        left = [[status for stage in stages for status in stage.statuses] for stages in rows]
        return sum(any(not status.settled and status != Status.SKIPPED for status in own) for own in left)


# -- a run --------------------------------------------------------------------------------------------------------


class PlannedTrial(Part):
    """A row of the plan; `trial` is the name of the trial and of its folder."""

    sweep: str
    trial: str
    method: str
    variant: str
    seed: int
    identity: str


class PlannedBudget(Part):
    """The budget that all trials share: an axis, and the amount of it that a trial may spend."""

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
    """The parts of `bench.plan.protocol.protocol_of` that a report puts into words."""

    reward: _Reward
    model: str
    prompts: _Splits
    every: Annotated[Finite, Field(alias="evaluated every")]
    budget: _Axis
    precision: str


def _valid_protocol(protocol: dict[str, Any]) -> dict[str, Any]:
    Protocol.model_validate(protocol)
    return protocol


class PlanRecord(Record):
    """The model of `plan.json`: the planned trials, and what a report says about the run.

    Attributes:
        parallel: the number of trials that run at a time.
        evaluation: a sentence that says how the numbers are measured.
        protocol: everything that the optimised reward's curve depends on; None in plans of older versions.
        measures: metric other than the optimised reward -> a hash of the code and weights that compute it.
        tuning: the record of the tuning that chose the methods' settings.
        methods: method -> its presentation in reports (`bench.build.presentation`).
        written: when the plan was written, in seconds since 1970.
        damage: sentences about damage to the file, if the plan was rebuilt; never written.
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
    protocol: Annotated[dict[str, Any], AfterValidator(_valid_protocol)] | None = None
    measures: dict[str, Any] | None = None
    tuning: TuningRecord | None = None
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
    """A plan with every field that a report needs."""

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


def wrong_plan(value: Any, error: ValidationError) -> str:
    """Why a JSON value is no plan, as a predicate to the file's name: "lists no trials"."""
    if not isinstance(value, dict):
        return "is damaged" if value is None else "is no plan"
    if "trials" not in value:
        return "lists no trials"
    lacking = [str(d["loc"][0]) for d in error.errors() if d["type"] == "missing" and len(d["loc"]) == 1]
    return f"lacks {', '.join(lacking)}" if lacking else f"has an invalid {wrong_fields(error)[0]!r}"
