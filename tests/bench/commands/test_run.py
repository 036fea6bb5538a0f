"""`bench run` end to end in this process, with trial bodies that succeed, fail, diverge or are stopped."""

import json
import math
from functools import partial

import pytest

from bench.errors import Diverged
from bench.run.worker import run_and_record
from bench.store.run_folder import RunFolder
from tests.bench.bodies import fake_points


@pytest.fixture
def run(cli, sweep_file, tmp_path):
    """Runs the sweep inline into `tmp_path / "run"`."""

    def call(*options):
        return cli("run", sweep_file, "--executor", "inline", "--out", tmp_path / "run", *options)

    return call


def statuses(tmp_path):
    trials = RunFolder.open(tmp_path / "run").trials()
    return {(trial.planned.variant, trial.planned.seed): trial.record.status for trial in trials}


def test_a_run_writes_everything_and_a_second_one_has_nothing_to_do(run, body, tmp_path):
    answer = run()
    assert answer.code == 0, answer.err
    assert len(body.calls) == 6
    assert "report: " in answer.out
    assert "alignprop" in answer.out
    assert "trial=ddpo-s1-" in answer.err
    for name in ("sweep.yaml", "plan.json", "results.parquet", "report/report.html", "report/report.md"):
        assert (tmp_path / "run" / name).is_file(), name
    assert not list((tmp_path / "run").glob("trials/*/checkpoint")), "a finished trial needs none"
    record = json.loads(next((tmp_path / "run").glob("trials/ddpo-s0-*/trial.json")).read_text())
    assert record["provenance"]["threads"] == 1
    assert {"versions", "commit", "dirty", "hardware", "precision", "weights", "command"} <= set(record["provenance"])
    again = run()
    assert again.code == 0
    assert len(body.calls) == 6
    assert "6 done already" in again.err


def test_a_changed_trial_runs_again_and_the_others_do_not(run, body, tmp_path):
    run()
    body.calls.clear()
    run("--set", "methods.ddpo.settings.learning_rate=5e-3")
    assert body.calls == [("ddpo", 0), ("ddpo", 1)]
    assert len(RunFolder.open(tmp_path / "run").trials()) == 6, "the old variant's trials leave the results"


def test_a_failure_is_a_row_with_a_cause_and_the_rest_goes_on(run, body, tmp_path):
    def fail(trial, folder):
        raise RuntimeError("no such luck\nand more")

    def diverge(trial, folder):
        fake_points(trial, folder, 2)
        raise Diverged("the loss is nan at step 7")

    body.special = {"ddpo": fail, "alignprop": diverge}
    answer = run()
    assert answer.code == 3
    assert len(body.calls) == 6
    assert "failed: RuntimeError: no such luck and more" in answer.out
    assert "diverged: the loss is nan at step 7" in answer.out
    assert "Traceback" not in answer.out + answer.err
    assert "no such luck" in next((tmp_path / "run").glob("trials/ddpo-s0-*/error.txt")).read_text()
    found = statuses(tmp_path)
    assert found["ddpo", 0] == "failed"
    assert found["alignprop", 1] == "diverged"
    assert found["base", 0] == "done"
    # What failed is tried again; what diverged would only diverge again.
    body.calls.clear()
    body.special = {}
    assert run().code == 3
    assert body.calls == [("ddpo", 0), ("ddpo", 1)]


def test_every_trial_failing_at_once_is_still_reported(run, body, tmp_path):
    def fail(trial, folder):
        raise OSError(28, "No space left on device")

    body.special = dict.fromkeys(("base", "alignprop", "ddpo"), fail)
    answer = run()
    assert answer.code == 3
    assert answer.out.count("No space left on device") == 6
    assert (tmp_path / "run" / "report" / "report.html").exists()


def test_nan_in_a_curve_is_stored_and_reported(run, body, tmp_path):
    def nan(trial, folder):
        folder.append_point(0, {trial.budget.axis: 0.0}, {"train": {"reward": math.nan}})
        raise Diverged("the reward is nan at point 0")

    body.special = {"ddpo": nan}
    assert run().code == 3
    assert "NaN" in (tmp_path / "run" / "report" / "report.md").read_text()


def test_retries_continue_from_the_checkpoint(run, body, tmp_path):
    attempts = []

    def flaky(trial, folder):
        attempts.append(trial.seed)
        fake_points(trial, folder, 2)
        if attempts.count(trial.seed) < 3:
            raise ConnectionError("a blip")
        fake_points(trial, folder, 3)

    body.special = {"ddpo": flaky}
    assert run("--set", "retries=2").code == 0
    assert attempts == [0, 0, 0, 1, 1, 1]
    curve = RunFolder.open(tmp_path / "run")
    key = next(row.key for row in curve.trials() if row.planned.variant == "ddpo")
    assert [row.point for row in curve.trial(key).read_curve()] == [0, 1, 2]


def test_ctrl_c_and_the_same_command_continue(run, body, cli, tmp_path):
    def stop(trial, folder):
        fake_points(trial, folder, 2)
        raise KeyboardInterrupt

    body.special = {"alignprop": stop}
    answer = run()
    assert answer.code == 130
    assert "run the same command again to continue" in answer.out
    assert statuses(tmp_path) == {
        ("base", 0): "done",
        ("alignprop", 0): "interrupted",
        ("ddpo", 0): "planned",
        ("base", 1): "planned",
        ("alignprop", 1): "planned",
        ("ddpo", 1): "planned",
    }
    rows = json.loads(cli("status", tmp_path / "run", "--json").out)
    assert [row["progress"] for row in rows] == [1.0, 0.5, 0.0, 0.0, 0.0, 0.0]
    body.special = {}
    body.calls.clear()
    assert run().code == 0
    assert body.calls == [("alignprop", 0), ("ddpo", 0), ("base", 1), ("alignprop", 1), ("ddpo", 1)]
    assert set(statuses(tmp_path).values()) == {"done"}


def test_json_and_the_other_verbs(run, body, cli, tmp_path, monkeypatch):
    found = json.loads(run("--json").out)
    assert found["exit_code"] == 0
    assert {row["status"] for row in found["trials"]} == {"done"}
    assert [row["method"] for row in found["ranking"]]
    folder = tmp_path / "run"
    rows = json.loads(cli("status", folder, "--json").out)
    assert [row["progress"] for row in rows] == [1.0] * 6
    assert "ddpo-s1-" in cli("status", folder).out
    answer = cli("report", folder, "--out", tmp_path / "elsewhere", "--format", "md")
    assert answer.code == 0
    assert (tmp_path / "elsewhere" / "report.md").exists()
    assert not (tmp_path / "elsewhere" / "report.html").exists()
    monkeypatch.chdir(tmp_path)
    assert "no runs in runs/" in cli("status").out


def test_an_error_of_ours_is_exit_code_5_and_debug_shows_it(run, body, monkeypatch):
    monkeypatch.setattr("bench.plan.planner.Planner.trials", partial(int, []))  # no line of anybody else's fails
    answer = run()
    assert answer.code == 5
    assert "internal error: TypeError: int() argument must be" in answer.err
    assert "Traceback" not in answer.err
    assert "Traceback" in run("--debug").err


def test_a_settled_trial_is_left_alone(run, body, tmp_path):
    run()
    body.calls.clear()
    folder = RunFolder.open(tmp_path / "run")
    from bench.build.trial_spec import Trial

    record = folder.trial(folder.trials()[0].key).read()
    trial = Trial.model_validate(record.spec)
    assert run_and_record(trial, folder.trial(trial.key)) == "done"
    assert body.calls == []


@pytest.mark.parametrize("kind", ["methods", "rewards", "models", "prompts", "sweeps"])
def test_list(cli, kind):
    rows = json.loads(cli("list", kind, "--json").out)
    assert all(row["name"] and isinstance(row["summary"], str) for row in rows)
    assert rows or kind == "models"
    answer = cli("list", kind)
    assert answer.code == 0
    assert all(row["name"] in answer.out for row in rows)


def test_help_is_fast_and_names_every_verb():
    import subprocess
    import sys

    code = (
        "import sys; from bench.cli import run_command; run_command(['--help']); "
        "print([m for m in ('torch', 'ray', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for verb in ("run", "plan", "status", "report", "list", "weights", "doctor"):
        assert f"  {verb} " in done.stdout
