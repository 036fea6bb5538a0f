"""Which points of a trial are reported to Ray Tune, and how a trial ends that Tune stops at one."""

import pytest

from bench.run.search.halving import Halving, Reporter
from bench.run.worker import run_and_record
from bench.store.run_folder import RunFolder
from bench.sweep.schema import Search
from tests.bench.run.test_trial import make_trial


@pytest.fixture
def tune(monkeypatch):
    """Stands for Tune: `heard` is what it was told, and after `limit` points it stops the trial."""

    class Tune:
        heard: list[float]
        limit = 99

        def report(self, metrics):
            self.heard.append(metrics["spent"])
            if len(self.heard) >= self.limit:
                raise SystemExit(0)  # what Tune does in the trial's thread

    found = Tune()
    found.heard = []
    monkeypatch.setattr("ray.tune.report", found.report)
    return found


@pytest.mark.parametrize(("limit", "spent"), [(12.0, [0, 4, 8]), (11.0, [0, 4, 8])])
def test_a_point_that_no_step_can_follow_is_not_reported(tiny_model, tmp_path, tune, limit, spent):
    """Batches of two under a limit of eleven end at ten, where something is left that nothing can be bought for."""
    trial = make_trial(tiny_model, "alignprop", limit=limit)
    folder = RunFolder(tmp_path).trial(trial.key)
    assert run_and_record(trial, folder, observe=Reporter(trial, "reward")) == "done"
    assert [point.axes["reward_queries"] for point in folder.read_curve()] == [*spent, limit // 2 * 2]
    assert tune.heard == spent


def test_a_trial_that_is_stopped_at_a_point_it_had_already_is_pruned(tiny_model, tmp_path, tune):
    trial = make_trial(tiny_model, "alignprop")
    run = RunFolder(tmp_path)
    folder = run.trial(trial.key)
    tune.limit = 2
    with pytest.raises(SystemExit):
        run_and_record(trial, folder, observe=Reporter(trial, "reward"))
    folder.write_status("interrupted", "stopped by the user")
    tune.heard, tune.limit = [], 1
    with pytest.raises(SystemExit):
        run_and_record(trial, folder, observe=Reporter(trial, "reward"))
    assert tune.heard == [0], "first of all, what it has"
    search = Search(algorithm="asha", space={"alignprop": {"learning_rate": [1e-3]}})
    last = {"spent": 0.0, "value": 1.0}
    Halving(search, {}, "this search")._prune(run, trial.key, last, trial.budget, patience=1.0)
    record = folder.read()
    assert record.status == "pruned"
    assert "stopped by ASHA at 0 of 12 reward_queries" in record.cause
    assert record.search == "this search"


def test_a_trial_that_is_tried_again_in_its_process_reports_no_point_twice(tiny_model, tmp_path, tune, monkeypatch):
    trial = make_trial(tiny_model, "alignprop", retries=1)
    folder = RunFolder(tmp_path).trial(trial.key)
    report = tune.report

    def fails_once(metrics):
        report(metrics)
        if tune.heard == [0, 4]:
            raise ConnectionError("a blip")

    monkeypatch.setattr("ray.tune.report", fails_once)
    assert run_and_record(trial, folder, observe=Reporter(trial, "reward")) == "done"
    assert folder.read().attempts == 2
    assert tune.heard == [0, 4, 8]
