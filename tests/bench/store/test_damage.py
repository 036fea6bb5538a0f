"""Files of a run that are not what was written: named, what is whole used, what is lost recovered or run again."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest

from bench.store.run_folder import RunFolder
from bench.store.trial_folder import TrialFolder


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def nothing(path):
    path.write_bytes(b"")


def gone(path):
    path.unlink()


def folder_instead(path):
    path.unlink()
    path.mkdir()


def invalid_utf8(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] = 0xFF
    path.write_bytes(bytes(content))


def a_list(path):
    path.write_text("[1, 2]\n")


WHOLE_FILE = (half, nothing, gone, folder_instead, invalid_utf8, a_list)


def lines(change):
    """A damage to the lines of a curve."""

    def damage(path):
        found = path.read_text().splitlines(keepends=True)
        change(found)
        path.write_text("".join(found))

    return damage


def points(change):
    """A damage to the points of a curve, whose lines stay JSON."""

    def damage(path):
        found = [json.loads(line) for line in path.read_text().splitlines()]
        change(found)
        path.write_text("".join(f"{json.dumps(point)}\n" for point in found))

    return damage


def torn(found):
    found[-1] = found[-1][:20]


CURVES = {
    "torn last line": (lines(torn), "curve.jsonl:3 is torn"),
    "lost last line": (lines(lambda found: found.pop()), "curve.jsonl lacks point 2"),
    "lost lines": (lines(lambda found: found.__delitem__(slice(1, 3))), "curve.jsonl lacks points 1, 2"),
    "half a line in the middle": (
        lines(lambda found: found.__setitem__(1, found[1][:30] + "\n")),
        "curve.jsonl:2 is damaged",
    ),
    "a list": (lines(lambda found: found.__setitem__(1, "[1]\n")), "curve.jsonl:2 is no point"),
    "no axes": (points(lambda found: found[1].pop("axes")), "curve.jsonl:2 has no axes"),
    "no budget": (points(lambda found: found[1]["axes"].pop("reward_queries")), "curve.jsonl:2 lacks reward_queries"),
    "a word for a value": (
        points(lambda found: found[1]["values"]["train"].update(reward="high")),
        "curve.jsonl:2 says 'high' for reward",
    ),
    "NaN spent": (
        points(lambda found: found[1]["axes"].update(steps=float("nan"))),
        "curve.jsonl:2 says nan for steps",
    ),
    "a ledger that shrinks": (
        points(lambda found: found[2]["axes"].update(reward_queries=1)),
        "curve.jsonl:3 has spent less reward_queries than the point before it",
    ),
    "two points of one number": (
        points(lambda found: found.append({**found[1], "extra": {"loss": 9.0}})),
        "curve.jsonl:4 is another point 1 than line 2",
    ),
    "unknown metric": (
        points(lambda found: found[1]["values"]["train"].update(rewrad=1.0)),
        "curve.jsonl:2 has values of an unknown metric 'rewrad'",
    ),
}

HARMLESS = {
    "a repeated point": (points(lambda found: found.append(found[1])), "curve.jsonl:4 repeats point 1"),
    "another order": (points(lambda found: found.reverse()), "curve.jsonl has its points out of order"),
}


@pytest.fixture
def done(tmp_path) -> TrialFolder:
    """A trial that is done, with three points."""
    folder = TrialFolder(tmp_path / "ddpo-s0-x")
    folder.write_status("running", spec={"budget": {"axis": "reward_queries", "limit": 8}}, started=1.0)
    for point in range(3):
        rows = {"point": point, "split": "train", "metric": "reward", "prompt": ["a cat"], "sample": 0, "value": 0.1}
        folder.write_evaluation(pd.DataFrame(rows))
        axes = {"steps": point, "reward_queries": 4 * point}
        folder.append_point(point, axes, {"train": {"reward": 0.1 + 0.2 * point}}, {"loss": 1 / 3})
    folder.write_status("done")
    return folder


@pytest.mark.parametrize(("damage", "named"), [*CURVES.values(), *HARMLESS.values()], ids=[*CURVES, *HARMLESS])
def test_a_finished_curve_is_recovered_bit_for_bit(done, damage, named):
    before = done.read_curve()
    damage(done.curve_path)
    found = TrialFolder(done.path)
    assert found.read_curve() == before
    assert found.read().status == "done"
    assert any(text.startswith(named) for text in found.problems()), found.problems()
    assert not any(each.lost for each in found.damage())


@pytest.mark.parametrize("damage", WHOLE_FILE)
def test_a_finished_curve_is_recovered_from_whatever_has_become_of_its_file(done, damage):
    before = done.read_curve()
    damage(done.curve_path)
    found = TrialFolder(done.path)
    assert found.read_curve() == before
    assert [text.partition(";")[2] for text in found.problems()] == [" recovered from settled.json"]
    with found.lock():
        told = found.mend()
    assert done.curve_path.read_text().splitlines() == [json.dumps(point.stored()) for point in before], (
        "it is written back"
    )
    assert TrialFolder(done.path).problems() == told, "and the trial's record goes on saying so"
    assert TrialFolder(done.path).damage() == []


@pytest.mark.parametrize(("damage", "named"), CURVES.values(), ids=CURVES)
def test_a_curve_that_cannot_be_recovered_is_not_done(done, damage, named):
    """As of a version that kept no `settled.json`: the evaluation's points say what a whole curve is."""
    (done.path / "settled.json").unlink()
    record = json.loads((done.path / "trial.json").read_text())
    (done.path / "trial.json").write_text(json.dumps({name: record[name] for name in record if name != "whole"}))
    assert TrialFolder(done.path).read().status == "done"
    damage(done.curve_path)
    found = TrialFolder(done.path)
    assert (found.read().status, found.read().cause) == ("interrupted", f"{named}; run the sweep again")
    assert [str(each) for each in found.damage() if each.lost] == [f"{named}; `bench run` trains the trial again"]


@pytest.mark.parametrize("damage", WHOLE_FILE)
def test_a_finished_record_is_recovered(done, damage):
    before = done.read()
    damage(done.path / "trial.json")
    found = TrialFolder(done.path)
    assert found.read() == before
    assert [text.partition(";")[2] for text in found.problems()] == [" recovered from settled.json"]
    with found.lock():
        found.mend()
    assert json.loads((done.path / "trial.json").read_text())["status"] == "done"


def test_a_field_that_is_none_of_a_record_is_left_out(done):
    (done.path / "settled.json").unlink()
    record = json.loads((done.path / "trial.json").read_text())
    (done.path / "trial.json").write_text(json.dumps({**record, "updated": "yesterday", "provenance": [1]}))
    found = TrialFolder(done.path)
    assert (found.read().status, found.read().updated) == ("done", None)
    [text] = found.problems()
    assert text == "trial.json has an invalid 'updated' and 'provenance'; the rest of it is used"


@pytest.mark.parametrize(("adapter", "status"), [(True, "done"), (False, "interrupted")])
def test_other_files_show_that_a_trial_without_record_was_done(done, adapter, status):
    (done.path / "settled.json").unlink()
    half(done.path / "trial.json")
    if adapter:
        done.adapter.mkdir()
    found = TrialFolder(done.path)
    assert found.read().status == status
    assert found.problems()[0].startswith("trial.json is damaged; ")


def test_an_unfinished_curve_with_a_gap_goes_on_from_before_it(tmp_path):
    folder = TrialFolder(tmp_path / "ddpo-s0-x")
    folder.write_status("running")
    for point in range(4):
        rows = {"point": point, "split": "train", "metric": "reward", "prompt": ["a cat"], "sample": 0, "value": 0.1}
        folder.write_evaluation(pd.DataFrame(rows))
        folder.append_point(point, {"steps": point}, {"train": {"reward": 0.1}})
        folder.save_checkpoint({"point": point})
    folder.write_status("interrupted", "stopped")
    CURVES["half a line in the middle"][0](folder.curve_path)
    assert [row.point for row in folder.read_curve()] == [0, 2, 3]
    with pytest.warns(UserWarning, match="is of a point that curve or evaluation lacks"):
        assert folder.load_checkpoint() is None, "going on from point 3 would leave the gap for good"
    assert folder.problems()[0].startswith("checkpoint/point-0003.pt is of a point"), "whoever reads the trial is told"


EVALUATIONS = {
    "half": (half, "is damaged"),
    "nothing": (nothing, "is empty"),
    "gone": (gone, "is missing"),
    "a folder": (folder_instead, "is a folder"),
    "no value": (lambda path: pd.read_parquet(path).drop(columns="value").to_parquet(path), "lacks the column value"),
    "no prompt": (
        lambda path: pd.read_parquet(path).drop(columns="prompt").to_parquet(path),
        "lacks the column prompt",
    ),
    "words": (lambda path: pd.read_parquet(path).assign(value="x").to_parquet(path), "for value"),
    "fewer": (lambda path: pd.read_parquet(path).iloc[:2].to_parquet(path), "has 2 of 3 rows"),
    "twice": (lambda path: pd.concat([pd.read_parquet(path)] * 2).to_parquet(path), "has 6 of 3 rows"),
}


@pytest.mark.parametrize(("damage", "named"), EVALUATIONS.values(), ids=EVALUATIONS)
def test_a_damaged_evaluation_is_named_and_the_curve_stays(done, damage, named):
    damage(done.evaluation_path)
    found = TrialFolder(done.path)
    [lost] = found.damage()
    assert lost.file == "evaluation.parquet"
    assert named in lost.what
    assert lost.lost
    assert (found.read().status, len(found.read_curve())) == ("done", 3)


def test_a_flipped_byte_of_an_evaluation_is_noticed(tmp_path):
    folder = TrialFolder(tmp_path / "ddpo-s0-x")
    values = np.random.default_rng(0).normal(size=500)
    rows = {"point": 0, "split": "train", "metric": "reward", "prompt": "a cat", "sample": range(500), "value": values}
    folder.write_evaluation(pd.DataFrame(rows))
    folder.write_status("done")
    content = bytearray(folder.evaluation_path.read_bytes())
    place = bytes(content).find(values[250].tobytes())
    assert place > 0, "values of no pattern are stored as they are"
    content[place] ^= 1
    folder.evaluation_path.write_bytes(bytes(content))
    [lost] = TrialFolder(folder.path).damage()
    assert "is damaged" in lost.what


@pytest.mark.parametrize("damage", [half, nothing, a_list])
def test_a_damaged_adapter_is_named(done, damage):
    from safetensors.numpy import save_file

    done.adapter.mkdir()
    save_file({"down": np.ones((4, 4), np.float32)}, done.adapter / "pytorch_lora_weights.safetensors")
    done.write_status("done")
    assert done.damage() == []
    damage(done.adapter / "pytorch_lora_weights.safetensors")
    [lost] = TrialFolder(done.path).damage()
    assert lost.file == "adapter/pytorch_lora_weights.safetensors"
    assert lost.lost
    shutil.rmtree(done.adapter)
    assert TrialFolder(done.path).damage() == [], "a user may make room"


@pytest.mark.parametrize("text", ["[1]", "{}", '{"time": "now"}', '{"time": 1.0, "pid": "x"}', '{"time": NaN}', "{"])
def test_a_damaged_heartbeat_is_none(done, text):
    done.write_status("running")
    (done.path / "heartbeat.json").write_text(text)
    assert done.pulse() is None
    assert done.read().status == "running"
    done.heartbeat(0.5)
    assert done.pulse().progress == 0.5


# -- the verbs ---------------------------------------------------------------------------------------------------


@pytest.fixture
def run(cli, sweep_file, tmp_path, body):
    """A finished run, and the command that runs it again."""

    def again():
        return cli("run", sweep_file, "--executor", "inline", "--out", tmp_path / "run", "--json")

    assert again().code == 0
    body.calls.clear()
    found = RunFolder(tmp_path / "run")
    found.again = again
    return found


def first_ddpo(run):
    return next(run.trial(row.trial) for row in run.planned() if row.method == "ddpo")


def test_a_report_and_a_run_name_what_they_recover(run, cli, body):
    before = json.loads(cli("report", run.path, "--json").out)
    folder = first_ddpo(run)
    CURVES["torn last line"][0](folder.curve_path)
    answer = cli("report", run.path, "--json")
    text = f"{folder.key}: curve.jsonl:3 is torn; recovered from settled.json"
    assert answer.code == 0
    assert answer.err == f"warning: {text}\n"
    after = json.loads(answer.out)
    assert after["damage"] == [text]
    assert {**after, "damage": []} == before
    assert (
        "ddpo (seed 0): curve.jsonl:3 is torn; recovered from settled.json." in (run.report / "report.md").read_text()
    ), "the page says so"
    assert text in cli("status", run.path).out
    answer = run.again()
    assert (answer.code, body.calls) == (0, [])
    assert json.loads(answer.out)["damage"] == [text]
    assert folder.curve_path.read_bytes().count(b"\n") == 3


def test_what_is_lost_is_run_again_and_the_rest_is_reported(run, cli, body):
    folder = first_ddpo(run)
    before = folder.read_curve()
    half(folder.evaluation_path)
    answer = cli("report", run.path, "--json")
    assert answer.code == 0
    assert [row["method"] for row in json.loads(answer.out)["ranking"]] == ["alignprop", "ddpo", "base"]
    assert json.loads(answer.out)["damage"][0].startswith(f"{folder.key}: evaluation.parquet is damaged (")
    answer = run.again()
    assert (answer.code, body.calls) == (0, [("ddpo", 0)])
    assert "`bench run` trains the trial again" in answer.err
    assert folder.read_curve() == before
    assert TrialFolder(folder.path).damage() == []
    assert cli("report", run.path).err == f"warning: {folder.key}: {folder.problems()[0]}\n", "the report still knows"


@pytest.mark.parametrize("damage", [half, gone, a_list])
def test_a_damaged_plan_is_made_again(run, cli, body, damage):
    before = json.loads(cli("report", run.path, "--json").out)["ranking"]
    damage(run.path / "plan.json")
    answer = cli("report", run.path, "--json")
    assert answer.code == 0
    assert json.loads(answer.out)["ranking"] == before
    assert answer.err.startswith("warning: plan.json is ")
    for verb in (("status", run.path), ("compare", run.path, run.path)):
        assert cli(*verb).code == 0
    answer = run.again()
    assert (answer.code, body.calls) == (0, [])
    assert "warning: plan.json is " in answer.err
    assert json.loads((run.path / "plan.json").read_text())["warnings"], "what comes later knows of it"


def test_of_two_copies_the_whole_one_is_merged(run, cli, tmp_path):
    shutil.copytree(run.path, tmp_path / "copy")
    folder = first_ddpo(run)
    half(folder.evaluation_path)
    assert cli("merge", run.path, tmp_path / "copy", "--out", tmp_path / "both").code == 0
    assert RunFolder(tmp_path / "both").trial(folder.key).damage() == []


def test_a_sweep_that_is_damaged_is_bad_input_to_whoever_needs_it(run, cli):
    half(run.sweep_path)
    run.sweep_path.write_text(run.sweep_path.read_text() + "\n\t- ]")
    assert cli("report", run.path).code == 0, "a report does without"
    answer = cli("compare", run.path, run.path)
    assert answer.code == 2
    assert "the `bench run` that wrote it writes it again" in answer.err
    assert run.again().code == 0
    assert cli("compare", run.path, run.path).code == 0
