"""Two writers on one trial: the lock holds the second off, and a writer that lost the lock stops before it writes."""

import json
import logging
import multiprocessing
import re
import shutil

import pytest

import bench.run.settle
import bench.run.trial
import bench.run.worker
from bench.errors import Diverged, LockedError
from bench.run.trial import TrialLoop, run_trial
from bench.run.worker import run_and_record
from bench.store.run_folder import RunFolder
from bench.store.trial_folder import TrialFolder
from tests.bench.bodies import add_point, fake_points
from tests.bench.run.test_trial import make_trial, points
from tests.bench.store.test_run_folder import hold, keep_point, rows


@pytest.fixture
def trial(tiny_model):
    return make_trial(tiny_model, "alignprop")


def test_an_orphan_that_lost_the_lock_stops_and_its_twin_writes_the_curve(trial, tmp_path):
    straight = TrialFolder(tmp_path / "straight")
    run_trial(trial, straight)
    orphan, twin = TrialFolder(tmp_path / "trial"), TrialFolder(tmp_path / "trial")
    with orphan.lock():
        loop = TrialLoop(trial, orphan)
        loop.resume_or_begin()
        (orphan.path / ".lock").unlink()  # as a network file system may forget one
        with twin.lock():
            TrialLoop(trial, twin).resume_or_begin()
            with pytest.raises(LockedError, match="another process has taken this trial over"):
                loop.step()
            assert len(twin.read_curve()) == 1
            run_trial(trial, twin)
    assert points(twin) == points(straight)


@pytest.mark.parametrize(
    "write",
    [
        lambda folder: add_point(folder, 1),
        lambda folder: folder.write_evaluation(rows(1, 1.0)),
        lambda folder: folder.save_checkpoint({"point": 1}),
        lambda folder: folder.write_status("failed", "its lock is gone"),
        lambda folder: folder.heartbeat(0.5),
        lambda folder: folder.cut(-1),
    ],
    ids=["curve", "evaluation", "checkpoint", "status", "heartbeat", "cut"],
)
def test_nothing_is_written_into_a_trial_that_another_has_taken(tmp_path, write):
    orphan, twin = TrialFolder(tmp_path / "trial"), TrialFolder(tmp_path / "trial")
    with orphan.lock():
        add_point(orphan, 0)
        (orphan.path / ".lock").unlink()
        with twin.lock():
            twin.write_status("running")
            before = {path.name: path.read_bytes() for path in twin.path.iterdir()}
            with pytest.raises(LockedError):
                write(orphan)
            assert {path.name: path.read_bytes() for path in twin.path.iterdir()} == before


def test_a_removed_folder_is_not_made_again(tmp_path):
    folder = TrialFolder(tmp_path / "trial")
    with folder.lock():
        shutil.rmtree(folder.path)
        with pytest.raises(LockedError, match="its folder has been removed"):
            add_point(folder, 3)
    assert not folder.path.exists()


def test_a_worker_of_a_group_stops_when_its_parents_lock_has_gone_to_another(trial, tmp_path):
    """The lock is the parent's, the writing is a child's: the child may outlive the parent."""
    from bench.run.group import member

    folder = TrialFolder(tmp_path / "trial")
    with folder.lock():
        token = folder.owner
    (folder.path / "workers").mkdir()
    with folder.lock(), pytest.raises(LockedError):
        member(trial, str(folder.path), token)
    assert folder.read_curve() == []


def test_the_owner_is_not_recorded_as_failed_by_an_orphan(trial, tmp_path, monkeypatch):
    twin, attempts = TrialFolder(tmp_path / "trial"), []

    def robbed(trial, folder):
        attempts.append(1)
        (folder.path / ".lock").unlink()
        with twin.lock():
            twin.write_status("running", "the twin's")
        raise RuntimeError("whatever comes of it")

    monkeypatch.setattr(bench.run.worker, "run_trial", robbed)
    with pytest.raises(LockedError):
        run_and_record(trial.model_copy(update={"retries": 3}), TrialFolder(twin.path))
    assert len(attempts) == 1, "what another process runs is not tried again"
    assert twin.read().cause == "the twin's"
    assert not twin.error_path.exists()


def test_the_second_of_two_runs_says_who_is_writing(cli, sweep_file, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(bench.run.worker, "LOCK_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(bench.run.settle, "LOCK_WAIT_SECONDS", 0.1)
    monkeypatch.setattr(bench.run.worker, "run_trial", fake_points)
    arguments = ("run", sweep_file, "--executor", "inline", "--out", tmp_path / "run", "--set", "seeds=[0]")
    assert cli(*arguments).code == 0
    run = RunFolder(tmp_path / "run")
    key = run.planned()[0].trial
    held = run.trial(key)
    context = multiprocessing.get_context("spawn")
    holding, release = context.Event(), context.Event()
    held.write_status("running")
    orphan = context.Process(target=hold, args=(held.path, holding, release))
    orphan.start()
    try:
        assert holding.wait(60)
        with caplog.at_level(logging.WARNING):
            answer = cli(*arguments, "--json")
    finally:
        release.set()
        orphan.join()
    assert answer.code == 3
    assert f"{key}: another process is writing this trial" in caplog.text
    assert len(held.read_curve()) == 3
    assert [row["status"] for row in json.loads(answer.out)["trials"]].count("done") == 2


def test_attempts_are_counted_over_the_deaths_of_a_trials_processes(trial, tmp_path, monkeypatch):
    trial, folder = trial.model_copy(update={"retries": 2}), TrialFolder(tmp_path / "trial")
    begun = []

    class Death(BaseException):
        pass

    def dies(trial, folder):
        begun.append(1)
        if len(begun) % 2:
            raise RuntimeError("a blip")
        raise Death

    monkeypatch.setattr(bench.run.worker, "run_trial", dies)
    with pytest.raises(Death):  # the second attempt's end
        run_and_record(trial, folder, call="one")
    assert folder.recorded_status() == "running"
    assert run_and_record(trial, folder, call="one") == "failed"
    assert len(begun) == 3
    cause = r"RuntimeError: a blip \(test_owner.py:\d+\) \(tried 3 times\); the traceback is in trials/trial/error.txt"
    assert re.fullmatch(cause, folder.read().cause)
    folder.write_status("running")
    assert run_and_record(trial, folder, call="one") == "failed"
    assert len(begun) == 3, "a call has no more attempts than that"
    assert "died without an error message (tried 3 times)" in folder.read().cause
    with pytest.raises(Death):
        run_and_record(trial, folder, call="another")
    assert len(begun) == 4, "another call begins with all of them"


@pytest.mark.filterwarnings("ignore:.*is damaged")
@pytest.mark.parametrize("damaged", [1, 2])
def test_damaged_checkpoints_cost_time_and_change_nothing(trial, tmp_path, damaged):
    straight, folder = TrialFolder(tmp_path / "straight"), TrialFolder(tmp_path / "trial")
    run_trial(trial, straight)
    loop = TrialLoop(trial, folder)
    loop.resume_or_begin()
    while loop.point < 2:
        loop.step()
    checkpoints = sorted(folder.checkpoints.glob("*.pt"))
    assert len(checkpoints) == 2
    for path in checkpoints[-damaged:]:
        path.write_bytes(path.read_bytes()[:-100])
    run_trial(trial, folder)
    assert points(folder) == points(straight)
    assert len(list(folder.checkpoints.glob("*.damaged"))) == damaged


def test_a_diverged_trial_keeps_its_checkpoint(trial, tmp_path, monkeypatch):
    def diverges(trial, folder):
        keep_point(folder, 0)
        raise Diverged("the loss is nan at step 1")

    monkeypatch.setattr(bench.run.worker, "run_trial", diverges)
    folder = TrialFolder(tmp_path / "trial")
    assert run_and_record(trial, folder) == "diverged"
    assert folder.load_checkpoint() == {"point": 0}
