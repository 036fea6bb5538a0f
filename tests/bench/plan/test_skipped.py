"""A method whose requirement is not installed: its trials are skipped, with the reason, and the rest goes on."""

import json
from importlib.metadata import PackageNotFoundError

import pytest

from bench.plan import preflight
from bench.plan.preflight import missing_requirement
from bench.store.run_folder import RunFolder

NEEDY = """
from methods.no_training import NoTraining


class Needy(NoTraining):
    name = "needy"
    summary = "needs what is not there"
    requires = ("{requirement}",)
"""
METHODS = "methods=[{name: base}, {name: 'needy.py:Needy'}]"
REASON = "needs no-such-distribution==1.2: pip install 'no-such-distribution==1.2'"


@pytest.fixture
def needy(sweep_file, tmp_path):
    (tmp_path / "needy.py").write_text(NEEDY.format(requirement="no-such-distribution==1.2"))
    return sweep_file


def test_it_is_skipped_in_plan_run_status_and_report(cli, needy, tmp_path):
    out = tmp_path / "run"
    options = (needy, "--set", METHODS, "--set", "seeds=[0]", "--out", out)
    plan = cli("plan", *options)
    assert plan.code == 0
    assert f"needy: skipped: {REASON}" in plan.out
    assert not out.exists(), "a plan writes nothing"
    rows = json.loads(cli("plan", *options, "--json").out)
    assert [(row["variant"], row["status"], row["cause"]) for row in rows] == [
        ("base", "planned", None),
        ("needy", "skipped", REASON),
    ]
    run = cli("run", *options, "--executor", "inline")
    assert run.code == 0, run.err
    assert "2 trials, 1 skipped" in run.err
    assert f"skipped: {REASON}" in run.out
    found = {trial.planned.variant: trial.row() for trial in RunFolder.open(out).trials()}
    assert (found["base"]["status"], found["needy"]["status"]) == ("done", "skipped")
    assert found["needy"]["cause"] == REASON
    assert found["needy"]["method"] == "needy"
    assert found["needy"]["points"] == 0
    assert REASON in cli("status", out).out
    report = (out / "report" / "report.md").read_text()
    assert "1 trial skipped" in report
    assert "no-such-distribution" in report
    again = cli("run", *options, "--executor", "inline")
    assert again.code == 0
    assert "1 done already, 1 skipped" in again.err


def test_it_runs_once_the_requirement_is_there(cli, needy, tmp_path, monkeypatch):
    options = (needy, "--set", METHODS, "--set", "seeds=[0]", "--out", tmp_path / "run", "--executor", "inline")
    cli("run", *options)
    monkeypatch.setattr(preflight, "version", lambda name: "1.2")
    assert cli("run", *options).code == 0
    assert [row.record.status for row in RunFolder.open(tmp_path / "run").trials()] == ["done", "done"]


def test_only_skipped_trials_are_a_run_too(cli, needy, tmp_path):
    answer = cli(
        "run", needy, "--set", "methods=[{name: 'needy.py:Needy'}]", "--out", tmp_path / "run", "--executor", "inline"
    )
    assert answer.code == 0, answer.err
    assert "2 trials, 2 skipped" in answer.err


def test_bench_test_says_what_is_missing(cli, needy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = cli("test", "needy.py:Needy")
    assert answer.code == 2
    assert answer.err == f"error: needy {REASON}\n"


def test_versions_count(monkeypatch):
    monkeypatch.setattr(preflight, "version", lambda name: "0.24.0")
    assert missing_requirement(["thing>=0.23"]) is None
    text = missing_requirement(["other", "thing==0.23.1"])
    assert text == "needs thing==0.23.1 (0.24.0 is installed): pip install 'thing==0.23.1'"


def test_an_extra_of_ours_is_what_to_install(monkeypatch):
    declared = ["torch>=2.6", 'no-such-thing==0.23.1; extra == "peers"']
    monkeypatch.setattr(preflight, "requires", lambda name: declared)
    text = missing_requirement(["no-such-thing==0.23.1"])
    assert text == "needs no-such-thing==0.23.1: pip install 'alignprop-bench[peers]'"


@pytest.mark.parametrize("name", ["trl-alignprop", "trl-ddpo"])
def test_the_peers_without_their_library(name, cli, sweep_file, monkeypatch):
    def version(distribution):
        raise PackageNotFoundError(distribution)

    monkeypatch.setattr(preflight, "version", version)
    one = ("--set", f"methods=[{{name: {name}}}]", "--set", "budget.reward_queries=64")
    answer = cli("plan", sweep_file, *one, "--json")
    assert answer.code == 0, answer.err
    rows = json.loads(answer.out)
    assert {row["status"] for row in rows} == {"skipped"}
    assert {row["cause"] for row in rows} == {"needs trl==0.23.1: pip install 'alignprop-bench[peers]'"}
