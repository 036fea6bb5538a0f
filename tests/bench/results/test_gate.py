"""The verbs of the gate on stored runs: baseline, check, compare, history."""

import json
import shutil
import subprocess

import pandas as pd
import pytest

import bench.commands.run
import bench.run.worker
from bench.results.baselines import layout, read_baseline
from bench.results.history import collect
from bench.store.run_folder import RunFolder

PROMPTS = ("a cat", "a dog", "a fox")


def points(level):
    """A trial body that writes three points of a curve that rises by `level`, a little apart for each seed."""

    def body(trial, folder):
        folder.cut(-1)
        for point in range(3):
            gain = 0.0 if trial.method == "base" else level * point / 2 + 0.01 * ((trial.seed * 7) % 5) * (point > 0)
            rows = [
                {
                    "point": point,
                    "split": split,
                    "metric": "reward",
                    "prompt": prompt,
                    "sample": sample,
                    "value": 1 + gain,
                }
                for split, prompts in (("train", PROMPTS), ("heldout", ("two dogs",)))
                for prompt in prompts
                for sample in range(2)
            ]
            folder.write_evaluation(pd.DataFrame(rows))
            spent = 0 if trial.method == "base" else trial.budget.limit * point / 2
            axes = {trial.budget.axis: spent, "steps": point * (trial.method != "base"), "nfe": spent, "flops": spent}
            folder.append_point(point, axes, {split: {"reward": 1 + gain} for split in ("train", "heldout")})
            if trial.method == "base":
                break

    return body


@pytest.fixture
def run(cli, sweep_file, tmp_path, monkeypatch):
    """Runs the sweep with a fake trial body into `tmp_path / name`."""

    def call(name, level=1.0, *overrides, code=0, body=None):
        monkeypatch.setattr(bench.run.worker, "run_trial", body or points(level))
        monkeypatch.setattr(bench.commands.run, "_report", lambda run: None)  # figures take seconds
        arguments = [word for value in ("seeds=[0,1,2,3,4]", *overrides) for word in ("--set", value)]
        answer = cli("run", sweep_file, "--executor", "inline", "--out", tmp_path / name, *arguments)
        assert answer.code == code, answer.err
        return tmp_path / name

    return call


@pytest.fixture
def saved(cli, run, tmp_path):
    file = tmp_path / "baselines" / "tiny.json"
    answer = cli("baseline", "save", run("first"), "--out", file)
    assert answer.code == 0, answer.err
    return file


def test_save_says_what_the_gate_can_see_and_the_file_reads_well(cli, saved, tmp_path):
    text = saved.read_text()
    assert str(tmp_path) not in text.replace(json.loads(text)["provenance"]["command"], ""), "no path of a machine"
    assert max(map(len, text.splitlines())) < 400
    baseline = read_baseline(saved)
    assert set(baseline.methods) == {"base", "alignprop", "ddpo"}
    assert baseline.methods["ddpo"].statistics["area"].prompts.keys() == set(PROMPTS)
    shown = cli("baseline", "show", saved)
    assert "ddpo: with 5 seeds this gate can see a loss of area under the reward of" in shown.out
    assert "with 80 % power" in shown.out
    again = cli("baseline", "save", tmp_path / "first", "--out", saved)
    assert (again.code, "exists already" in again.err) == (2, True)


def test_check_passes_what_is_equal_and_fails_what_is_worse(cli, run, saved, tmp_path):
    assert cli("check", run("second"), "--baseline", saved).code == 0
    assert cli("check", tmp_path / "second", "--baseline", saved, "--mode", "exact").code == 0
    worse = run("worse", 0.5)
    files = [tmp_path / "out" / name for name in ("check.md", "check.xml")]
    answer = cli("check", worse, "--baseline", saved, "--markdown", files[0], "--junit", files[1])
    assert answer.code == 1
    assert "regression: alignprop: Area under the reward 1.52 → 1.27" in answer.out
    assert "Likewise ddpo." in answer.out
    assert "regression" in files[0].read_text()
    assert "<failure" in files[1].read_text()
    said = json.loads(cli("check", worse, "--baseline", saved, "--json").out)
    assert (said["verdict"], said["exit_code"], said["passed"]) == ("regression", 1, False)
    assert cli("check", run("better", 1.5), "--baseline", saved).code == 0


def test_check_of_failed_missing_and_other_runs(cli, run, saved, tmp_path):
    def broken(trial, folder):
        if (trial.method, trial.seed) == ("ddpo", 3):
            raise RuntimeError("out of luck")
        points(1.0)(trial, folder)

    answer = cli("check", run("broken", code=3, body=broken), "--baseline", saved)
    assert answer.code == 3
    assert "out of luck" in answer.out
    told = cli("check", tmp_path / "broken", "--baseline", saved, "--json").out
    assert json.loads(told, parse_constant=pytest.fail)["verdict"] == "failed"
    assert cli("check", run("few", 1.0, "seeds=[0,1]"), "--baseline", saved).code == 3
    assert cli("check", tmp_path / "few", "--baseline", saved, "--fewer-seeds").code == 0, "identical where it ran"
    other = cli("check", run("other", 1.0, "budget.reward_queries=16"), "--baseline", saved)
    assert other.code == 4
    assert "budget.limit: 8.0, now 16.0" in other.out
    assert cli("baseline", "save", tmp_path / "broken", "--out", tmp_path / "no.json").code == 3
    assert not (tmp_path / "no.json").exists()


def test_check_of_a_run_on_another_machine_or_still_going(cli, run, saved, tmp_path):
    second = run("second")
    for record in second.glob("trials/*/trial.json"):
        value = json.loads(record.read_text())
        value["provenance"]["hardware"]["cpu"] = "another"
        record.write_text(json.dumps(value))
    answer = cli("check", second, "--baseline", saved)
    assert answer.code == 0
    assert "Not compared point by point" in answer.out
    assert cli("check", second, "--baseline", saved, "--mode", "exact").code == 4
    folder = RunFolder(second)
    going = next(folder.trial(row.trial) for row in folder.planned() if row.method == "ddpo")
    going.write_status("running")
    assert cli("check", second, "--baseline", saved).code == 4


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 9}'])
def test_a_damaged_baseline_is_one_clear_error(cli, tmp_path, text):
    file = tmp_path / "bad.json"
    file.write_text(text)
    answer = cli("baseline", "show", file)
    assert answer.code == 2
    assert answer.err.count("\n") <= 3
    assert "Traceback" not in answer.err
    assert cli("baseline", "show", tmp_path / "none.json").code == 2


def test_update_keeps_what_was_chosen_by_hand(cli, run, saved):
    value = json.loads(saved.read_text())
    value["methods"]["ddpo"]["statistics"]["area"]["tolerance"] = 0.9
    value["methods"]["ddpo"]["statistics"]["nfe"]["gate"] = False
    saved.write_text(json.dumps(value))
    slower = run("slower", 0.5)
    answer = cli("baseline", "update", saved, slower)
    assert answer.code == 0, answer.err
    assert "ddpo: area under the reward 1.52 → 1.27" in answer.out
    after = read_baseline(saved)
    assert after.methods["ddpo"].statistics["area"].tolerance == 0.9
    assert not after.methods["ddpo"].statistics["nfe"].gate
    assert cli("check", slower, "--baseline", saved).code == 0


def test_update_of_another_protocol_is_refused_and_new_tolerances_keep_gates(cli, run, saved):
    before = saved.read_text()
    answer = cli("baseline", "update", saved, run("longer", 1.0, "budget.reward_queries=16"))
    assert answer.code == 4
    assert "is of another protocol: budget.limit: 8.0, now 16.0" in answer.err
    assert saved.read_text() == before
    value = json.loads(before)
    value["methods"]["ddpo"]["statistics"]["nfe"]["gate"] = False
    value["methods"]["ddpo"]["statistics"]["area"]["tolerance"] = 0.9
    saved.write_text(json.dumps(value))
    assert cli("baseline", "update", saved, run("same"), "--tolerances").code == 0
    after = read_baseline(saved).methods["ddpo"].statistics
    assert not after["nfe"].gate
    assert after["area"].tolerance < 0.9


def test_each_method_can_have_a_primary_statistic_of_its_own(cli, run, tmp_path):
    first, file = run("first"), tmp_path / "own.json"
    answer = cli("baseline", "save", first, "--out", file, "--primary", "final", "--primary", "ddpo=heldout")
    assert answer.code == 0, answer.err
    assert "ddpo: with 5 seeds this gate can see a loss of held-out reward of" in answer.out
    assert " % of what training gained" in answer.out.split("ddpo: ")[1]
    assert cli("baseline", "update", file, run("slower", 0.9)).code == 0
    methods = read_baseline(file).methods
    primaries = {name: entry.primary for name, entry in methods.items()}
    assert primaries == {"base": "final", "alignprop": "final", "ddpo": "heldout"}
    assert methods["ddpo"].statistics["heldout"].prompts.keys() == {"two dogs"}
    assert not methods["ddpo"].statistics["area"].prompts
    for word, said in (("ddpo=best", "'best' is none of area"), ("dppo=final", "no method is called dppo")):
        bad = cli("baseline", "save", first, "--out", tmp_path / "bad.json", "--primary", word)
        assert bad.code == 2
        assert said in bad.err


def test_compare_and_its_only_changed(cli, run, tmp_path):
    first, second = run("first"), run("second", 0.5)
    answer = cli("compare", first, second, "--markdown", tmp_path / "compare.md")
    assert answer.code == 0, answer.err
    assert "worse" in answer.out
    assert "worse" in (tmp_path / "compare.md").read_text()
    changed = json.loads(cli("compare", first, second, "--only-changed", "--json").out)
    assert {row["variant"] for row in changed} == {"alignprop", "ddpo"}
    assert {row["verdict"] for row in changed} == {"worse"}
    assert cli("compare", first, run("other", 1.0, "budget.reward_queries=16")).code == 4
    fewer = cli("compare", first, run("fewer", 1.0, "seeds=[0,1,2]"))
    assert "ddpo: only A has seed 3, 4" in fewer.err
    record = next((tmp_path / "second" / "trials").glob("ddpo-s1-*/trial.json"))
    record.write_text(json.dumps({**json.loads(record.read_text()), "status": "failed", "cause": "x"}))
    assert "B: ddpo, seed 1, is failed and in no figure" in cli("compare", first, tmp_path / "second").err


def test_history_over_runs(cli, run, saved, tmp_path):
    runs = tmp_path / "many"
    for place, level in enumerate([1.0] * 6 + [0.6] * 6):
        source = run(f"level-{level}", level)
        shutil.copytree(source, runs / f"run-{place:02d}")
        for record in (runs / f"run-{place:02d}").glob("trials/*/trial.json"):
            value = json.loads(record.read_text())
            record.write_text(json.dumps({**value, "updated": 1e9 + place}))
    steps = json.loads(cli("history", runs, "--json").out)["steps"]
    found = {(step["variant"], step["statistic"]): step for step in steps}
    assert found["ddpo", "final"]["result"].endswith("run-06")
    assert found["ddpo", "final"]["verdict"] == "worse"
    assert not any(variant == "base" for variant, _ in found)
    shutil.copytree(runs / "run-11", runs / "planned-only")
    shutil.rmtree(runs / "planned-only" / "trials")
    assert cli("history", runs, "--json").code == 0
    one = cli("history", saved)
    assert (one.code, "is one result" in one.err) == (2, True)


def test_a_history_mixes_no_targets(run, saved, tmp_path):
    value = json.loads(saved.read_text())
    for place in range(3):
        if place == 1:
            value["methods"]["ddpo"]["target"] = 99.0
        (tmp_path / f"b{place}.json").write_text(json.dumps(value))
    frame, _, _ = collect([tmp_path / f"b{place}.json" for place in range(3)])
    costs = frame[frame["statistic"] == "cost_to_target"]
    assert (costs["variant"] == "ddpo").sum() == 2, "the first one's target was another"
    assert (costs["variant"] == "alignprop").sum() == 3


def test_history_of_one_file_is_its_versions_in_git(cli, saved, tmp_path):
    def git(*arguments):
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *identity, *arguments], cwd=saved.parent, check=True, capture_output=True)

    git("init", "-q")
    text = saved.read_text()
    for version in range(12):
        value = json.loads(text)
        values = value["methods"]["ddpo"]["statistics"]["final"]["values"]
        for seed in values:
            values[seed] += version * 1e-6 - 0.3 * (version >= 6)
        saved.write_text(json.dumps(value))
        git("add", ".")
        git("commit", "-q", "-m", f"version {version}", "--date", f"2026-01-{version + 1:02d}T00:00:00")
    log = subprocess.run(["git", "log", "--format=%H"], cwd=saved.parent, check=True, capture_output=True, text=True)
    (step,) = json.loads(cli("history", saved, "--json").out)["steps"]
    assert (step["variant"], step["statistic"], step["verdict"]) == ("ddpo", "final", "worse")
    assert step["commit"] == log.stdout.split()[-7], "the seventh version"


def test_layout_is_json_and_short():
    value = {"a": [1, 2, {"b": list(range(80))}], "c": {}, "d": None, "e": "ä"}
    assert json.loads(layout(value)) == value
