"""A prediction made by a process beside the run: what it says, what it leaves out, and that it holds nobody up."""

import os
import time

import pytest

from bench.plan.memory import beside
from bench.plan.memory.beside import Prediction, known_memory
from bench.plan.memory.prediction import predict
from bench.plan.planner import plan
from bench.store.run_folder import RunFolder
from bench.sweep.load import load_sweep


@pytest.fixture(autouse=True)
def unpredicted():
    """Here a run is predicted beside."""


@pytest.fixture
def trials(sweep_file):
    return plan(load_sweep(sweep_file))


def test_it_says_what_the_dry_pass_says_of_what_trains(trials, monkeypatch, tmp_path):
    (tmp_path / "models").mkdir()
    (tmp_path / "models/__init__.py").write_text("raise ImportError('a package of the user')")
    monkeypatch.chdir(tmp_path)
    assert (beside.patience(3.0), beside.patience(300.0)) == (3.0, beside.LONGEST_WAIT_SECONDS)
    monkeypatch.setattr(beside, "patience", lambda taken: 300.0)
    trials = [trial for trial in trials if trial.variant != "ddpo" and trial.seed == 0]
    with Prediction(trials, {}) as prediction:
        found = prediction.found(wait=True)
    assert set(found) == {"alignprop"}, "base trains nothing"
    assert found["alignprop"] == predict(trials)["alignprop"].as_dict()


def test_what_is_known_is_not_predicted_again_and_nobody_waits_for_a_stopped_run(trials):
    known = {"alignprop": None, "ddpo": {"total": 1}}
    with Prediction(trials, known) as prediction:
        assert prediction._process is None
        assert prediction.found(wait=True) == known
    begun = time.monotonic()
    with Prediction(trials, {}) as prediction:
        pid = prediction._process.pid
        assert prediction.found(wait=False) == {}
    assert time.monotonic() - begun < 2.0
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_only_variants_that_are_trained_as_before_are_known(trials, tmp_path):
    run = RunFolder(tmp_path / "run")
    assert known_memory(trials, run) == {}
    before = [t.model_copy(update={"identity": "0" * 64}) if t.variant == "ddpo" else t for t in trials]
    run.write_plan({}, before, memory={"alignprop": {"total": 1}, "ddpo": {"total": 2}})
    assert known_memory(trials, run) == {"alignprop": {"total": 1}}
    run.tell(memory={})
    assert known_memory(trials, run) == {}
    assert len(run.planned()) == len(trials)


def test_a_run_that_is_asked_not_to_predicts_nothing(cli, sweep_file, tmp_path, body, monkeypatch):
    asked = []
    monkeypatch.setattr(Prediction, "__enter__", lambda prediction: asked.append(set(prediction._specs)) or prediction)
    arguments = ("run", sweep_file, "--executor", "inline", "--out", tmp_path / "run")
    assert cli(*arguments, "--no-predict").code == 0
    assert cli(*arguments).code == 0
    assert asked == [set(), {"alignprop", "ddpo"}]
