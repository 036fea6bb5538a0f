"""Files of the store as models: those of version 1, of a later version, with fields that nobody knows.

`version_1/` holds files that a run of the package wrote before its records had a version.
"""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from bench.build.trial_spec import Trial
from bench.errors import BenchError
from bench.store.files import read_json
from bench.store.plan_file import describe_run
from bench.store.records import (
    VERSION,
    PlanRecord,
    Point,
    Pulse,
    SettledCopy,
    TrialRecord,
    TuningRecord,
    WholePlan,
    wrong_point,
)
from bench.store.run_folder import RunFolder
from bench.store.status import Status
from bench.store.trial_folder import TrialFolder

FIRST_VERSION = Path(__file__).parent / "version_1"


@pytest.fixture
def old(tmp_path) -> TrialFolder:
    """A trial that was done under version 1."""
    shutil.copytree(FIRST_VERSION, tmp_path / "ddpo-s0-2829394c", ignore=shutil.ignore_patterns("heartbeat.json"))
    return TrialFolder(tmp_path / "ddpo-s0-2829394c")


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("trial.json", TrialRecord),
        ("settled.json", SettledCopy),
        ("heartbeat.json", Pulse),
        ("plan.json", PlanRecord),
        ("plan.json", WholePlan),
        ("search.json", TuningRecord),
    ],
)
def test_a_record_without_a_version_is_of_the_first_and_loses_nothing(name, model):
    written = read_json(FIRST_VERSION / name)
    record = model.model_validate(written)
    assert record.version == 1
    stored = json.loads(json.dumps(record.stored()))
    assert stored.pop("version") == VERSION
    if name == "settled.json":
        assert stored["record"].pop("version") == VERSION
    assert stored == written


def test_a_trial_of_the_first_version_is_read_whole_and_goes_on(old):
    lines = old.curve_path.read_text()
    record = old.read()
    assert (record.status, record.method, record.seed, record.axis) == (Status.DONE, "ddpo", 0, "reward_queries")
    assert record.provenance.hardware["cores"] == 2
    assert record.whole.points == len(old.read_curve()) == 3
    assert old.problems() == []
    old.cut_curve(2)
    assert old.curve_path.read_text() == lines, "points are written back as they were"
    old.write_status(Status.INTERRUPTED, "stopped")
    again = TrialFolder(old.path).read()
    assert read_json(old.path / "trial.json")["version"] == VERSION
    assert (again.provenance, again.spec, again.started) == (record.provenance, record.spec, record.started)


def test_a_settled_trial_of_the_first_version_mends_its_record(old):
    before = old.read()
    (old.path / "trial.json").unlink()
    assert TrialFolder(old.path).read() == before


def test_fields_that_this_version_does_not_know_are_kept(old):
    found = read_json(old.path / "trial.json")
    (old.path / "trial.json").write_text(json.dumps({**found, "mood": {"of": ["the", "day"]}}))
    old.write_status(Status.DONE)
    for name, place in (("trial.json", []), ("settled.json", ["record"])):
        found = read_json(old.path / name)
        for key in place:
            found = found[key]
        assert found["mood"] == {"of": ["the", "day"]}


def test_a_plan_keeps_the_record_of_its_tuning_as_a_part_without_a_version(old_run):
    search = read_json(FIRST_VERSION / "search.json")
    record = TuningRecord.model_validate({"version": VERSION, **search})
    trial = Trial.model_validate(old_run.trial("ddpo-s0-2829394c").read().spec)
    about = describe_run([trial], SimpleNamespace(name="x", description=""), "", "", 1, record)
    old_run.write_plan({}, [trial], **about)
    assert read_json(old_run.path / "plan.json")["tuning"] == search
    assert old_run.whole_plan().tuning == record.without("version")


def test_unfinished_configurations_are_those_with_a_trial_to_run_again():
    search = read_json(FIRST_VERSION / "search.json")
    rows = [row for method in search["methods"] for row in method["configurations"]]
    ends = (["failed"], ["interrupted"], ["done", "running"], ["skipped", "pruned", "diverged"])
    for row, statuses in zip(rows, ends, strict=True):
        row["statuses"] = statuses
    assert TuningRecord.model_validate(search).unfinished == 3


def test_a_configuration_that_failed_in_the_finals_is_unfinished():
    search = read_json(FIRST_VERSION / "search.json")
    record = TuningRecord.model_validate(search)
    assert (record.unfinished, record.copies) == (0, [])
    row = search["methods"][0]["configurations"][0]
    row["final"] = {"score": None, "statuses": ["done", "failed"], "trials": ["a", "b"]}
    assert TuningRecord.model_validate(search).unfinished == 1


@pytest.mark.parametrize("name", ["trial.json", "settled.json"])
def test_a_later_version_is_an_error_and_nothing_is_taken_for_damaged(old, name):
    if name == "settled.json":
        (old.path / "trial.json").unlink()
    content = json.dumps({**read_json(FIRST_VERSION / name), "version": VERSION + 1})
    (old.path / name).write_text(content)
    with pytest.raises(
        BenchError, match=f"is of version {VERSION + 1}, and this package reads versions up to"
    ) as found:
        TrialFolder(old.path).read()
    assert found.value.where == str(old.path / name)
    with pytest.raises(BenchError), old.lock():
        old.mend()
    assert (old.path / name).read_text() == content


def test_a_version_that_is_no_number_is_damage(old):
    (old.path / "settled.json").unlink()
    (old.path / "trial.json").write_text(json.dumps({**read_json(old.path / "trial.json"), "version": "new"}))
    [text] = TrialFolder(old.path).problems()
    assert text == "trial.json has an invalid 'version'; the rest of it is used"
    assert TrialFolder(old.path).read().status == Status.DONE


POINT = {"point": 0, "axes": {"steps": 0}, "values": {"train": {"reward": 1.0}}}
WRONG = {
    "no dictionary": ([1], "is no point"),
    "no axes": ({"point": 0, "values": {}}, "has no axes"),
    "a truth for a number": ({**POINT, "point": True}, "has an invalid 'point'"),
    "before the first": ({**POINT, "point": -1}, "has an invalid 'point'"),
    "a list for axes": ({**POINT, "axes": []}, "has an invalid 'axes'"),
    "infinite cost": ({**POINT, "axes": {"steps": float("inf")}}, "says inf for steps"),
    "a truth for a cost": ({**POINT, "axes": {"steps": True}}, "says True for steps"),
    "a word for a value": ({**POINT, "values": {"train": {"reward": "high"}}}, "says 'high' for reward"),
    "a split": ({**POINT, "values": {"test": {"reward": 1.0}}}, "has values of an unknown split 'test'"),
    "no metrics": ({**POINT, "values": {"train": 1.0}}, "has values of an unknown split 'train'"),
    "a metric": ({**POINT, "values": {"train": {"rewrad": 1.0}}}, "has values of an unknown metric 'rewrad'"),
    "a list beside": ({**POINT, "extra": []}, "has an invalid 'extra'"),
}


@pytest.mark.parametrize(("found", "words"), WRONG.values(), ids=WRONG)
def test_what_is_no_point_is_told_in_words(found, words):
    with pytest.raises(ValidationError) as error:
        Point.model_validate(found)
    assert wrong_point(error.value) == words


def test_a_point_keeps_counts_whole_and_values_that_are_no_number():
    found = json.loads(
        '{"point": 3, "axes": {"flops": 18446744073709551617, "s": 1.0}, "values": {"train": {"gold": NaN}}}'
    )
    assert json.dumps(Point.model_validate(found).stored()) == json.dumps(found)


# -- plan.json ---------------------------------------------------------------------------------------------------


@pytest.fixture
def old_run(tmp_path) -> RunFolder:
    """A run of one trial, planned and done under version 1."""
    run = RunFolder(tmp_path / "run")
    trial = run.trial("ddpo-s0-2829394c").path
    shutil.copytree(FIRST_VERSION, trial, ignore=shutil.ignore_patterns("plan.json", "heartbeat.json"))
    shutil.copy(FIRST_VERSION / "plan.json", run.path)
    return run


def change_plan(run, **fields):
    found = read_json(run.path / "plan.json")
    kept = {name: value for name, value in {**found, **fields}.items() if value != "left out"}
    (run.path / "plan.json").write_text(json.dumps(kept))


def test_a_run_of_the_first_version_is_read(old_run):
    [trial] = old_run.trials()
    assert (trial.key, trial.planned.method, trial.record.status) == ("ddpo-s0-2829394c", "ddpo", Status.DONE)
    plan = old_run.whole_plan()
    assert (plan.budget.axis, plan.budget.limit, plan.parallel) == ("reward_queries", 8.0, 1)
    assert (plan.damage, old_run.plan_record().damage) == ([], [])
    old_run.write_planned({}, plan.trials, **plan.model_dump(exclude_unset=True, exclude={"version", "trials"}))
    rewritten, first = read_json(old_run.path / "plan.json"), read_json(FIRST_VERSION / "plan.json")
    assert rewritten.pop("written") > first.pop("written")
    assert rewritten == {**first, "version": VERSION}


WRONG_PLANS = {
    "a word for trials at a time": ({"parallel": "two"}, "has an invalid 'parallel'"),
    "an infinite budget": ({"budget": {"axis": "nfe", "limit": float("inf")}}, "has an invalid 'budget'"),
    "a trial without a seed": ({"trials": [{"trial": "x"}]}, "has an invalid 'trials'"),
    "half a protocol": ({"protocol": {"model": "0"}}, "has an invalid 'protocol'"),
    "no trials": ({"trials": "left out"}, "lists no trials"),
}


@pytest.mark.parametrize(("fields", "words"), WRONG_PLANS.values(), ids=WRONG_PLANS)
def test_a_plan_that_is_none_is_made_again_from_its_trials(old_run, fields, words):
    change_plan(old_run, **fields)
    [damage] = old_run.plan_record().damage
    assert damage.startswith(f"plan.json {words}; it is rebuilt from the trials' records")
    assert [row.trial for row in old_run.planned()] == ["ddpo-s0-2829394c"]


def test_a_plan_that_lacks_what_a_report_takes_is_enough_for_the_rest(old_run):
    change_plan(old_run, name="left out", gold="left out")
    assert old_run.plan_record().damage == []
    assert old_run.whole_plan().damage[0].startswith("plan.json lacks name, gold; ")
    assert old_run.whole_plan().name == "tiny"


def test_a_plan_of_a_later_version_is_an_error(old_run):
    change_plan(old_run, version=VERSION + 1)
    with pytest.raises(BenchError, match=f"is of version {VERSION + 1}"):
        old_run.planned()
