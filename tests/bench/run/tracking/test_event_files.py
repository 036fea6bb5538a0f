"""Event files hold the curve's points and no others, whatever became of the trial in between."""

import math

import numpy as np
import pytest

from bench.errors import DISK_FULL
from bench.run.tracking.follow import Follower, problems
from bench.run.tracking.points import PICTURES_PER_SPLIT, configuration, scalars
from bench.run.tracking.services import EventFiles
from bench.run.worker import run_and_record
from bench.store.trial_folder import TrialFolder
from tests.bench.run.test_trial import make_trial, points
from tests.bench.run.tracking.events import read_events, scalar_points


@pytest.fixture
def trial(tiny_model):
    return make_trial(tiny_model)


@pytest.fixture
def folder(tmp_path, trial):
    folder = TrialFolder(tmp_path / "trials" / "ddpo-s0-00000000")
    folder.write_status("running", spec=trial.model_dump(mode="json"))
    return folder


@pytest.fixture
def files(folder):
    follower = Follower("tensorboard", folder)
    yield follower
    follower.finish()
    assert problems(folder) == {}


def append(folder, number, reward=1.0, pictures=0):
    for index in range(pictures):
        folder.save_picture(number, "train", f"prompt {index}", np.zeros((8, 6, 3), dtype=np.uint8))
    axes = {"steps": 3 * number, "reward_queries": 8 * number, "wall_seconds": 10.0 * number}
    values = {"train": {"reward": reward, "gold": -reward}, "heldout": {"reward": 0.5}}
    folder.append_point(number, axes, values, {"loss": 0.25, "note": "none"})


def expected(folder):
    def close(values):
        return {tag: pytest.approx(value, rel=1e-6, nan_ok=True) for tag, value in values.items()}

    return [(point.axes["steps"], close(scalars(point))) for point in folder.read_curve()]


def shown(folder):
    """Every point that the event files hold, with its step."""
    return scalar_points(folder.path / "tensorboard")


def test_a_point_is_numbers_costs_and_pictures(folder, files):
    append(folder, 1, 1.5, pictures=PICTURES_PER_SPLIT + 3)
    files.sync()
    [(step, values)] = shown(folder)
    assert step == 3, "the meter's steps"
    assert values == {
        "train/reward": 1.5,
        "train/gold": -1.5,
        "heldout/reward": 0.5,
        "training/loss": 0.25,
        "cost/steps": 3,
        "cost/reward_queries": 8,
        "cost/wall_seconds": 10,
    }
    events = read_events(folder.path / "tensorboard")
    images = [value.image for event in events for value in event.summary.value if value.image.width]
    assert [(image.width, image.height) for image in images] == [(6, 8)] * PICTURES_PER_SPLIT
    assert all(image.encoded_image_string.startswith(b"\x89PNG") for image in images)


def test_settings_are_hparams(trial, folder, files):
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    append(folder, 0)
    files.sync()
    events = read_events(folder.path / "tensorboard")
    plugins = [v.metadata.plugin_data.content for event in events for v in event.summary.value]
    [start] = [
        data.session_start_info
        for data in map(HParamsPluginData.FromString, filter(None, plugins))
        if data.HasField("session_start_info")
    ]
    told = configuration(trial)
    assert set(start.hparams) == set(told)
    assert start.hparams["settings.learning_rate"].number_value == trial.settings["learning_rate"]
    assert start.hparams["method"].string_value == "ddpo"


def test_points_come_as_they_are_written_and_a_torn_line_waits(folder, files):
    files.sync()
    assert not (folder.path / "tensorboard").exists(), "nothing to show yet"
    append(folder, 0)
    files.sync()
    whole = folder.curve_path.read_bytes()
    append(folder, 1, math.nan)
    line = folder.curve_path.read_bytes()
    folder.curve_path.write_bytes(line[: len(whole) + 20])
    files.sync()
    assert len(shown(folder)) == 1
    folder.curve_path.write_bytes(line)
    files.sync()
    files.sync()
    assert shown(folder) == expected(folder)


@pytest.mark.parametrize("again", ["in this process", "in another"])
def test_a_curve_that_was_cut_back_shows_every_point_once(folder, files, again):
    for number in range(4):
        append(folder, number)
    files.sync()
    folder.cut(1)
    if again == "in another":
        append(folder, 2, 2.0)  # as by another version, whose points are others
        files.finish()
        files = Follower("tensorboard", folder)
    files.sync()
    for number in range(len(folder.read_curve()), 6):
        append(folder, number)
        files.sync()
    files.finish()
    assert shown(folder) == expected(folder)
    assert len(list((folder.path / "tensorboard").iterdir())) == 1


def test_wall_times_are_the_trials_own_clock(folder, files):
    for number in range(3):
        append(folder, number)
    files.sync()
    times = [
        event.wall_time
        for event in read_events(folder.path / "tensorboard")
        if any(v.HasField("simple_value") for v in event.summary.value)
    ]
    assert [later - times[0] for later in times] == pytest.approx([0, 10, 20], abs=1e-3)


def test_killed_and_run_again_the_events_are_the_curve(tiny_model, tmp_path, monkeypatch):
    trial, folder = make_trial(tiny_model), TrialFolder(tmp_path / "trial")
    whole = TrialFolder.save_checkpoint

    def save_checkpoint(self, payload):
        if payload["point"] == 2:
            raise RuntimeError("killed behind the point, before its checkpoint")
        whole(self, payload)

    monkeypatch.setattr(TrialFolder, "save_checkpoint", save_checkpoint)
    assert run_and_record(trial, folder) == "failed"
    assert len(shown(folder)) == 3
    monkeypatch.setattr(TrialFolder, "save_checkpoint", whole)
    assert run_and_record(trial, folder) == "done"
    assert repeatable(shown(folder)) == repeatable(expected(folder))
    assert len(folder.read_curve()) == 4


def repeatable(found):
    """Points without what a second attempt spends otherwise."""
    return [
        (step, {tag: value for tag, value in values.items() if not tag.endswith(("_seconds", "_bytes"))})
        for step, values in found
    ]


def test_the_curve_is_the_same_without(tiny_model, tmp_path):
    visible, hidden = TrialFolder(tmp_path / "visible"), TrialFolder(tmp_path / "hidden")
    trial = make_trial(tiny_model)
    silent = trial.model_copy(update={"track": type(trial.track)(tensorboard=False)})
    assert run_and_record(trial, visible) == run_and_record(silent, hidden) == "done"
    assert repr(points(visible)) == repr(points(hidden))
    assert (visible.path / "tensorboard").is_dir()
    assert not (hidden.path / "tensorboard").exists()


@pytest.mark.parametrize("failing", [("log",), ("finish",), ("log", "finish")])
def test_event_files_that_cannot_be_written_stop_nothing(tiny_model, tmp_path, monkeypatch, failing):
    closed = EventFiles.finish

    def fails(name):
        def full(self, *_):
            if name == "finish":
                closed(self, good=False)
            raise OSError(28, f"No space left on device to {name}")

        return full

    for name in failing:
        monkeypatch.setattr(EventFiles, name, fails(name))
    folder = TrialFolder(tmp_path / "trial")
    assert run_and_record(make_trial(tiny_model, "base"), folder) == "done"
    assert folder.recorded_status() == "done"
    assert DISK_FULL in problems(folder)["tensorboard"]
    assert f"to {failing[0]}" in (folder.path / "tracking" / "tensorboard.log").read_text()


def test_a_problem_that_has_passed_is_forgotten(folder, files, monkeypatch):
    log = EventFiles.log
    monkeypatch.setattr(EventFiles, "log", lambda self, *_: 1 / 0)
    append(folder, 0)
    files.sync()
    assert "ZeroDivisionError" in problems(folder)["tensorboard"]
    monkeypatch.setattr(EventFiles, "log", log)
    append(folder, 1)
    files.sync()
    assert shown(folder) == expected(folder)
    assert not (folder.path / "tracking" / "tensorboard.json").exists()
