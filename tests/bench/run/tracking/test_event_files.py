"""Event files hold the curve's points and no others, whatever became of the trial in between."""

import math

import numpy as np
import pytest

import bench.run.trial
from bench.errors import DISK_FULL
from bench.run.tracking.event_files import EventFiles
from bench.run.tracking.points import PICTURES_PER_SPLIT, configuration, scalars, step_of
from bench.run.worker import run_and_record
from bench.store.trial_folder import TrialFolder
from tests.bench.run.test_trial import make_trial, points
from tests.bench.run.tracking.events import read_events, scalar_points


@pytest.fixture
def trial(tiny_model):
    return make_trial(tiny_model)


@pytest.fixture
def folder(tmp_path):
    return TrialFolder(tmp_path / "trials" / "ddpo-s0-00000000")


def append(folder, number, reward=1.0, pictures=0):
    for index in range(pictures):
        folder.save_picture(number, "train", f"prompt {index}", np.zeros((8, 6, 3), dtype=np.uint8))
    axes = {"steps": 3 * number, "reward_queries": 8 * number, "wall_seconds": 10.0 * number}
    values = {"train": {"reward": reward, "gold": -reward}, "heldout": {"reward": 0.5}}
    folder.append_point(number, axes, values, {"loss": 0.25, "note": "none"})


def expected(folder):
    def close(values):
        return {tag: pytest.approx(value, rel=1e-6, nan_ok=True) for tag, value in values.items()}

    return [(step_of(point), close(scalars(point))) for point in (each.stored() for each in folder.read_curve())]


def test_a_point_is_numbers_costs_and_pictures(trial, folder):
    append(folder, 1, 1.5, pictures=PICTURES_PER_SPLIT + 3)
    files = EventFiles(trial, folder)
    files.sync()
    files.close()
    [(step, values)] = scalar_points(files.place)
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
    images = [value.image for event in read_events(files.place) for value in event.summary.value if value.image.width]
    assert [(image.width, image.height) for image in images] == [(6, 8)] * PICTURES_PER_SPLIT
    assert all(image.encoded_image_string.startswith(b"\x89PNG") for image in images)


def test_settings_are_hparams(trial, folder):
    from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

    append(folder, 0)
    files = EventFiles(trial, folder)
    files.sync()
    plugins = [v.metadata.plugin_data.content for event in read_events(files.place) for v in event.summary.value]
    [start] = [
        data.session_start_info
        for data in map(HParamsPluginData.FromString, filter(None, plugins))
        if data.HasField("session_start_info")
    ]
    told = configuration(trial)
    assert set(start.hparams) == set(told)
    assert start.hparams["settings.learning_rate"].number_value == trial.settings["learning_rate"]
    assert start.hparams["method"].string_value == "ddpo"


def test_points_come_as_they_are_written_and_a_torn_line_waits(trial, folder):
    files = EventFiles(trial, folder)
    files.sync()
    assert not files.place.exists(), "nothing to show yet"
    append(folder, 0)
    files.sync()
    whole = folder.curve_path.read_bytes()
    append(folder, 1, math.nan)
    line = folder.curve_path.read_bytes()
    folder.curve_path.write_bytes(line[: len(whole) + 20])
    files.sync()
    assert len(scalar_points(files.place)) == 1
    folder.curve_path.write_bytes(line)
    files.sync()
    files.sync()
    assert scalar_points(files.place) == expected(folder)


@pytest.mark.parametrize("seen", ["while it grows", "only afterwards", "by another process"])
def test_a_curve_that_was_cut_back_leaves_no_old_points(trial, folder, seen):
    files = EventFiles(trial, folder)
    for number in range(4):
        append(folder, number, 1.0)
    files.sync()
    folder.cut(1)
    if seen == "while it grows":
        files.sync()
        assert len(scalar_points(files.place)) == 2
    if seen == "by another process":
        files.close()
        files = EventFiles(trial, folder)
    for number in range(2, 6):
        append(folder, number, 2.0)
        files.sync() if seen == "while it grows" else None
    files.sync()
    files.close()
    assert scalar_points(files.place) == expected(folder)
    assert len(list(files.place.iterdir())) == 1


def test_wall_times_are_the_trials_own_clock(trial, folder):
    for number in range(3):
        append(folder, number)
    files = EventFiles(trial, folder)
    files.sync()
    times = [
        event.wall_time
        for event in read_events(files.place)
        if any(v.HasField("simple_value") for v in event.summary.value)
    ]
    assert [later - times[0] for later in times] == pytest.approx([0, 10, 20], abs=1e-3)


def test_killed_and_run_again_the_events_are_the_curve(tiny_model, tmp_path, monkeypatch):
    trial, folder = make_trial(tiny_model), TrialFolder(tmp_path / "trial")
    steps = []
    whole = bench.run.trial.TrialLoop.step

    def step(loop):
        steps.append(1)
        if len(steps) == 2:
            loop.evaluate()  # a point that the checkpoint of the next one would hold, had there been one
            loop.folder.cut(loop.point)
            folder.append_point(loop.point + 1, loop.axes(), {"train": {"reward": 9.0}})
            raise RuntimeError("killed")
        return whole(loop)

    monkeypatch.setattr(bench.run.trial.TrialLoop, "step", step)
    assert run_and_record(trial, folder) == "failed"
    assert scalar_points(folder.path / "tensorboard")[-1][1]["train/reward"] == 9.0
    assert run_and_record(trial, folder) == "done"
    assert scalar_points(folder.path / "tensorboard") == expected(folder)
    assert 9.0 not in [values["train/reward"] for _, values in scalar_points(folder.path / "tensorboard")]


def test_the_curve_is_the_same_without(tiny_model, tmp_path):
    shown, hidden = TrialFolder(tmp_path / "shown"), TrialFolder(tmp_path / "hidden")
    trial = make_trial(tiny_model)
    silent = trial.model_copy(update={"track": type(trial.track)(tensorboard=False)})
    assert run_and_record(trial, shown) == run_and_record(silent, hidden) == "done"
    assert repr(points(shown)) == repr(points(hidden))
    assert (shown.path / "tensorboard").is_dir()
    assert not (hidden.path / "tensorboard").exists()


@pytest.mark.parametrize("failing", [("sync",), ("close",), ("sync", "close")])
def test_event_files_that_cannot_be_written_stop_nothing(tiny_model, tmp_path, monkeypatch, failing):
    from bench.run.tracking.beside import problems

    def fails(name):
        def full(self):
            raise OSError(28, f"No space left on device to {name}")

        return full

    for name in failing:
        monkeypatch.setattr(EventFiles, name, fails(name))
    folder = TrialFolder(tmp_path / "trial")
    assert run_and_record(make_trial(tiny_model, "base"), folder) == "done"
    assert folder.recorded_status() == "done"
    assert DISK_FULL in problems(folder)["tensorboard"]
    log = (folder.path / "tracking" / "tensorboard.log").read_text()
    assert f"to {failing[0]}" in log, "the first error is the one that explains the others"
