"""Runs of several machines as one, and what must not be merged."""

import json
import shutil

import pytest

from bench.store import RunFolder

pytestmark = pytest.mark.integration


@pytest.fixture
def run(cli, sweep_file, tmp_path):
    def call(name, *overrides):
        arguments = [argument for value in overrides for argument in ("--set", value)]
        answer = cli("run", sweep_file, "--executor", "inline", "--out", tmp_path / name, *arguments)
        assert answer.code == 0, answer.err
        return tmp_path / name

    return call


def of_ddpo(path):
    found = RunFolder(path)
    return next(found.trial(row["trial"]) for row in found.planned() if row["method"] == "ddpo")


def test_seeds_of_two_machines_make_one_run_that_has_nothing_left_to_do(cli, sweep_file, tmp_path, run):
    first, second = run("a", "seeds=[0]"), run("b", "seeds=[1]")
    answer = cli("merge", first, second, "--out", tmp_path / "both", "--json")
    assert answer.code == 0, answer.err
    said = json.loads(answer.out)
    assert (said["trials"], said["shared"]) == (6, 0)
    merged = RunFolder.open(tmp_path / "both")
    assert {row["status"] for row in merged.trials()} == {"done"}
    assert set(merged.results()["seed"]) == {0, 1}
    assert (merged.report / "report.html").exists()
    again = cli("run", sweep_file, "--executor", "inline", "--out", merged.path)
    assert again.code == 0
    assert "6 done already" in again.err
    assert cli("plan", merged.sweep_path, "--json").code == 0
    assert cli("merge", first, second, "--out", merged.path).err.startswith("error: ")


def test_a_trial_of_both_is_taken_where_it_got_furthest(cli, tmp_path, run):
    whole = run("a", "seeds=[0]")
    half = tmp_path / "b"
    shutil.copytree(whole, half)
    folder = of_ddpo(half)
    folder.cut(0)
    folder.write_status("interrupted", "stopped")
    assert cli("merge", half, whole).code == 0
    merged = RunFolder.open(tmp_path / "b-merged")
    assert {row["status"] for row in merged.trials()} == {"done"}
    assert len(merged.trial(folder.key).read_curve()) == 3


def test_a_trial_with_two_curves_is_a_conflict(cli, tmp_path, run):
    whole = run("a", "seeds=[0]")
    other = tmp_path / "b"
    shutil.copytree(whole, other)
    folder = of_ddpo(other)
    text = folder.curve_path.read_text()
    seconds = text.replace('"train_seconds": ', '"train_seconds": 1')
    folder.curve_path.write_text(seconds)
    assert cli("merge", whole, other, "--out", tmp_path / "same").code == 0, "seconds are the machine's own"
    folder.curve_path.write_text(text.replace('"reward": 0.', '"reward": 0.9', 1))
    answer = cli("merge", whole, other, "--out", tmp_path / "both")
    assert answer.code == 4
    assert f"{folder.key} ended with different curves" in answer.err
    assert not (tmp_path / "both").exists()


def test_another_comparison_is_refused(cli, tmp_path, run):
    first, second = run("a", "seeds=[0]"), run("b", "seeds=[1]", "budget.reward_queries=12")
    answer = cli("merge", first, second, "--out", tmp_path / "both")
    assert answer.code == 4
    assert f"is another comparison than {first}: protocol.budget.limit" in answer.err
    third = tmp_path / "c"
    shutil.copytree(first, third)
    plan = json.loads((third / "plan.json").read_text())
    plan["protocol"]["reward"]["version"] = "another source under the same name"
    (third / "plan.json").write_text(json.dumps(plan))
    assert "protocol.reward.version" in cli("merge", first, third, "--out", tmp_path / "both").err
    assert cli("merge", first, "--out", tmp_path / "both").code == 2


def test_a_method_with_other_settings_is_refused(cli, tmp_path, run):
    first, second = run("a", "seeds=[0]"), run("b", "seeds=[1]", "methods.ddpo.settings.clip_range=1e-2")
    answer = cli("merge", first, second, "--out", tmp_path / "both")
    assert answer.code == 4
    assert "ddpo is not trained as in" in answer.err
    assert not (tmp_path / "both").exists()
