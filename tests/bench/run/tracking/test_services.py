"""W&B, MLflow and Trackio: each point told once, and no trial that fails or waits for them."""

import json
import math
import os
import shutil
import time
from importlib.util import find_spec

import pytest

from bench.run.tracking import follow
from bench.run.tracking.follow import Follower, problems, tracking_folder
from bench.run.tracking.points import scalars
from bench.run.worker import run_and_record
from bench.store.records import Point
from bench.store.run_folder import RunFolder
from bench.sweep.schema import Track
from tests.bench.run.test_trial import make_trial

FAKE = """\
import json, os, sys, time

PLACE = {place!r}
MODE = {mode!r}


def note(**what):
    with open(PLACE, "a") as file:
        file.write(json.dumps(what, default=str) + "\\n")


class Image:
    def __init__(self, path):
        self.picture = os.path.basename(path)


class Run:
    def log(self, values, step=None):
        note(log={{k: v if isinstance(v, float) else v.picture for k, v in values.items()}}, step=step)

    def finish(self, exit_code=None):
        note(finish=exit_code)


def init(**options):
    note(init=options, torch="torch" in sys.modules)
    if MODE == "refuses":
        raise RuntimeError("api_key not configured")
    if MODE == "hangs":
        time.sleep(600)
    return Run()
"""


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """Puts a `wandb` of ours before the real one, in a service's process; gives what it was told."""

    def make(mode="works"):
        place = tmp_path / "told.jsonl"
        packages = tmp_path / "packages"
        packages.mkdir()
        (packages / "wandb.py").write_text(FAKE.format(place=str(place), mode=mode))
        monkeypatch.setenv("PYTHONPATH", f"{packages}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
        return lambda: [json.loads(line) for line in place.read_text().splitlines()]

    return make


def tracked_trial(model, tmp_path, **services):
    """A trial that asks for services, and its folder in a run's."""
    trial = make_trial(model, track=Track(tensorboard=False, **services))
    return trial, RunFolder(tmp_path / "run").trial(trial.key)


class Recorder:
    """A service in this process, for every `Follower` that begins while it is the `service`."""

    def __init__(self, broken=0):
        self.logged, self.known, self.broken, self.finished = [], [], broken, None

    def __call__(self, trial, folder, known):
        self.known.append(known)
        self.id = known or "the-id"
        return self

    def log(self, step, numbers, samples):
        if self.broken > 0:
            self.broken -= 1
            raise ConnectionError("no network")
        self.logged.append((step, numbers["train/reward"]))

    def finish(self, good):
        self.finished = good


@pytest.fixture
def service(monkeypatch):
    """Puts a service in the place of W&B."""

    def put(made):
        monkeypatch.setitem(follow.TRACKERS, "wandb", made)
        return made

    return put


@pytest.fixture
def folder(tmp_path, tiny_model):
    trial, folder = tracked_trial(tiny_model, tmp_path, wandb={})
    folder.write_status("running", spec=trial.model_dump(mode="json"))
    tracking_folder(folder).mkdir()
    return folder


def append(folder, *numbers):
    for number in numbers:
        folder.append_point(number, {"steps": number}, {"train": {"reward": number / 10}})


def test_each_point_once_over_two_processes(folder, service):
    recorder = service(Recorder())
    first = Follower("wandb", folder)
    append(folder, 0, 1, 2)
    first.sync()
    # Killed here: the trial resumes from an earlier checkpoint and writes the same points again.
    folder.cut(0)
    second = Follower("wandb", folder)
    second.sync()
    append(folder, 1, 2, 3)
    second.sync()
    assert recorder.logged == [(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.3)]
    assert recorder.known == [None, "the-id"], "the same run goes on"
    folder.write_status("done")
    second.finish()
    assert recorder.finished is True


def test_a_service_that_comes_back_gets_what_it_missed(folder, service):
    recorder = service(Recorder(broken=2))
    follower = Follower("wandb", folder)
    append(folder, 0)
    follower.sync()
    assert problems(folder)["wandb"].startswith("ConnectionError: no network (test_services.py:")
    follower.sync()
    assert recorder.broken == 1, "it is not asked again before the next point"
    append(folder, 1)
    follower.sync()
    assert recorder.logged == []
    append(folder, 2)
    follower.sync()
    assert recorder.logged == [(0, 0.0), (1, 0.1), (2, 0.2)]
    assert problems(folder) == {}


def test_credentials_in_an_error_are_not_kept(folder, service):
    def refuses(trial, folder, known):
        raise ConnectionError("API request to https://me:secret@host/api failed")

    service(refuses)
    append(folder, 0)
    Follower("wandb", folder).sync()
    kept = "".join(path.read_text() for path in tracking_folder(folder).iterdir())
    assert "https://…@host/api failed" in problems(folder)["wandb"]
    assert "secret" not in kept


def test_a_service_that_failed_at_the_last_point_is_asked_once_more_at_the_end(folder, service):
    recorder = service(Recorder(broken=1))
    follower = Follower("wandb", folder)
    append(folder, 0, 1)
    follower.sync()
    assert recorder.logged == []
    follower.finish()
    assert recorder.logged == [(0, 0.0), (1, 0.1)]
    assert recorder.finished is False, "the trial is not done"


def test_a_service_that_has_lost_the_run_is_given_all_of_it_in_another(folder, service):
    """As MLflow's database, which stayed on the machine where the trial began."""
    here, elsewhere = service(Recorder()), Recorder()
    first = Follower("wandb", folder)
    append(folder, 0, 1)
    first.sync()

    def without_it(trial, folder, known):
        made = elsewhere(trial, folder, known)
        made.id = "another-id"
        return made

    service(without_it)
    second = Follower("wandb", folder)
    second.sync()
    assert elsewhere.known == [], "it is not asked before there is news"
    append(folder, 2)
    second.sync()
    append(folder, 3)
    second.sync()
    assert elsewhere.known == ["the-id"]
    assert elsewhere.logged == [(0, 0.0), (1, 0.1), (2, 0.2), (3, 0.3)]
    assert here.logged == [(0, 0.0), (1, 0.1)]
    service(elsewhere)
    third = Follower("wandb", folder)
    append(folder, 4)
    third.sync()
    assert elsewhere.known == ["the-id", "another-id"]
    assert elsewhere.logged[4:] == [(4, 0.4)]


@pytest.mark.integration
def test_in_a_process_of_its_own(fake, tiny_model, tmp_path):
    told = fake()
    trial, folder = tracked_trial(tiny_model, tmp_path, wandb={"project": "mine", "entity": "us"})
    assert run_and_record(trial, folder) == "done"
    begin, *points, end = told()
    options = begin["init"]
    assert (options["project"], options["entity"], options["group"]) == ("mine", "us", "test")
    assert (options["name"], options["resume"]) == (trial.key, "allow")
    assert options["config"]["settings.learning_rate"] == trial.settings["learning_rate"]
    assert not begin["torch"], "nothing of a trial's weight is in that process"
    assert end == {"finish": 0}
    curve = folder.read_curve()
    pictures = [tag for each in points for tag in each["log"] if tag.startswith("samples/")]
    assert len(pictures) == 4 * len(curve), "four prompts"
    numbers = [{tag: value for tag, value in each["log"].items() if tag not in pictures} for each in points]
    assert numbers == [scalars(point) for point in curve]
    assert [each["step"] for each in points] == [point.axes["steps"] for point in curve]
    assert problems(folder) == {}


@pytest.mark.integration
def test_a_service_that_refuses_fails_no_trial(fake, tiny_model, tmp_path):
    fake("refuses")
    trial, folder = tracked_trial(tiny_model, tmp_path, wandb={})
    assert run_and_record(trial, folder) == "done"
    assert problems(folder) == {"wandb": "RuntimeError: api_key not configured (wandb.py:28)"}
    assert "Traceback" in (tracking_folder(folder) / "wandb.log").read_text()


@pytest.mark.integration
def test_a_service_that_cannot_be_started_fails_no_trial(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    trial, folder = tracked_trial(tiny_model, tmp_path, wandb={})
    assert run_and_record(trial, folder) == "done"
    assert "FileNotFoundError" in problems(folder)["wandb"]


@pytest.mark.integration
def test_a_service_that_hangs_is_left_behind(fake, tiny_model, tmp_path, monkeypatch):
    fake("hangs")
    monkeypatch.setattr(follow, "FLUSH_SECONDS", 1.0)
    trial, folder = tracked_trial(tiny_model, tmp_path, wandb={})
    begun = time.monotonic()
    assert run_and_record(trial, folder) == "done"
    assert time.monotonic() - begun < 60
    record = folder.read()
    assert record.finished - record.started < time.monotonic() - begun, "the wait is no part of the trial"
    assert problems(folder) == {"wandb": "did not answer within 1 s of the trial's end"}


needs_mlflow = pytest.mark.skipif(find_spec("mlflow") is None or find_spec("alembic") is None, reason="no MLflow here")
needs_wandb = pytest.mark.skipif(find_spec("wandb") is None, reason="no W&B here")
needs_trackio = pytest.mark.skipif(find_spec("trackio") is None, reason="no Trackio here")


@needs_mlflow
@pytest.mark.slow
def test_the_real_mlflow_in_the_runs_folder(tiny_model, tmp_path, monkeypatch):
    import sqlite3

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(follow, "FLUSH_SECONDS", 120.0)
    trial, folder = tracked_trial(tiny_model, tmp_path, mlflow={"experiment_name": "mine"})
    assert run_and_record(trial, folder) == "done"
    assert problems(folder) == {}
    base = sqlite3.connect(tmp_path / "run" / "mlflow.db")
    rows = base.execute("select step, value from metrics where key = 'heldout/reward' order by step").fetchall()
    curve = folder.read_curve()
    assert rows == [(point.axes["steps"], point.values["heldout"]["reward"]) for point in curve]
    assert base.execute("select name, status from runs").fetchall() == [(trial.key, "FINISHED")]
    assert base.execute("select value from params where key = 'method'").fetchall() == [("ddpo",)]
    assert len(list((tmp_path / "run" / "mlflow").rglob("*.png"))) == 4 * len(curve)


@needs_mlflow
@pytest.mark.slow
@pytest.mark.parametrize("moved", [False, True])
def test_the_real_mlflow_goes_on_with_the_run_that_it_has_and_begins_one_elsewhere(
    tiny_model, tmp_path, monkeypatch, moved
):
    import sqlite3

    import mlflow

    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # it is set in the end, and to be put back
    trial, folder = tracked_trial(tiny_model, tmp_path, mlflow={})
    folder.write_status("running", spec=trial.model_dump(mode="json"))
    tracking_folder(folder).mkdir()
    append(folder, 0, 1)
    follower = Follower("mlflow", folder)
    follower.sync()
    follower.finish()
    kept = follower.state["id"]
    if moved:
        mlflow.set_tracking_uri(None)
        copy = RunFolder(tmp_path / "elsewhere").trial(folder.key)
        shutil.copytree(folder.path, copy.path)
        folder = copy
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")
    append(folder, 2)
    follower = Follower("mlflow", folder)
    follower.sync()
    folder.write_status("done")
    follower.finish()
    assert problems(folder) == {}
    assert (follower.state["id"] == kept) is not moved
    base = sqlite3.connect(folder.path.parents[1] / "mlflow.db")
    rows = base.execute("select step, value from metrics where key = 'train/reward' order by step").fetchall()
    assert rows == [(0, 0.0), (1, 0.1), (2, 0.2)]
    assert base.execute("select run_uuid, status from runs").fetchall() == [(follower.state["id"], "FINISHED")]


@needs_wandb
@pytest.mark.slow
def test_the_real_wandb_offline(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setattr(follow, "FLUSH_SECONDS", 120.0)
    trial, folder = tracked_trial(tiny_model, tmp_path, wandb={})
    assert run_and_record(trial, folder) == "done"
    assert problems(folder) == {}
    [kept] = tracking_folder(folder).glob("wandb/offline-run-*/run-*.wandb")
    assert b"heldout/reward" in kept.read_bytes()


@needs_trackio
@pytest.mark.slow
def test_the_real_trackio_on_this_machine(tiny_model, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.setattr(follow, "FLUSH_SECONDS", 120.0)
    trial, folder = tracked_trial(tiny_model, tmp_path, trackio={"project": "mine"})
    assert run_and_record(trial, folder) == "done"
    assert problems(folder) == {}
    assert list((tmp_path / "trackio").rglob("*.png"))


def test_numbers_that_are_not_finite_are_numbers():
    point = Point(point=0, axes={}, values={"train": {"reward": math.nan}}, extra={"loss": math.inf})
    numbers = scalars(point)
    assert math.isnan(numbers["train/reward"])
    assert numbers["training/loss"] == math.inf
