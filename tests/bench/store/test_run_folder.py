"""The store survives what happens to processes: torn lines, damaged checkpoints, two writers, a silent death."""

import errno
import hashlib
import json
import multiprocessing
import pickle
import time

import numpy as np
import pandas as pd
import pytest
import torch

from bench.errors import BenchError, LockedError, cause_of
from bench.store.files import slug, write_atomically, write_json
from bench.store.heartbeat import STALE_SECONDS
from bench.store.run_folder import RunFolder
from bench.store.trial_folder import TrialFolder
from reports.names import CURVE_AXES
from tests.bench.bodies import add_point, one_trial


@pytest.fixture
def folder(tmp_path) -> TrialFolder:
    return TrialFolder(tmp_path / "trials" / "ddpo-s0-1a2b3c4d")


def rows(point, value):
    return pd.DataFrame(
        {"point": [point], "split": "train", "metric": "reward", "prompt": "a cat", "sample": 0, "value": value}
    )


def keep_point(folder, point, **payload):
    """A point as a trial writes it, in that order."""
    folder.write_evaluation(rows(point, float(point)))
    add_point(folder, point)
    folder.save_checkpoint({"point": point, **payload})


def names(folder) -> list[str]:
    """Of the files among the checkpoints."""
    return sorted(path.name for path in folder.checkpoints.iterdir())


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_torn_last_line_is_dropped_and_does_not_spoil_the_next(folder):
    add_point(folder, 0)
    add_point(folder, 1)
    with folder.curve_path.open("a") as file:
        file.write('{"point": 2, "axes": {"st')
    assert [row.point for row in folder.read_curve()] == [0, 1]
    add_point(folder, 2)
    assert [row.point for row in folder.read_curve()] == [0, 1, 2]


def test_a_torn_line_in_the_middle_is_no_accident(folder):
    add_point(folder, 0)
    folder.curve_path.write_text('{"poi\n' + folder.curve_path.read_text())
    assert [row.point for row in folder.read_curve()] == [0], "what is whole is read"
    assert [text for text in folder.problems() if "curve" in text] == [
        "curve.jsonl:1 is damaged; the valid points are shown"
    ], "and what is not is named"


def test_cut_back_to_a_point(folder):
    for point in range(4):
        add_point(folder, point)
        folder.write_evaluation(rows(point, float(point)))
        folder.save_picture(point, "train", "a cat", np.zeros((4, 4, 3), np.uint8))
    folder.cut(1)
    assert [row.point for row in folder.read_curve()] == [0, 1]
    assert list(folder.read_evaluation()["point"]) == [0, 1]
    assert sorted(path.name for path in folder.samples.iterdir()) == ["point-0000", "point-0001"]
    folder.cut(-1)
    assert folder.read_curve() == []
    assert len(folder.read_evaluation()) == 0


def test_a_point_evaluated_again_replaces_its_rows(folder):
    folder.write_evaluation(rows(0, 1.0))
    folder.write_evaluation(rows(1, 2.0))
    folder.write_evaluation(rows(1, 3.0))
    assert list(folder.read_evaluation()["value"]) == [1.0, 3.0]


def test_checkpoints_two_are_kept(folder):
    assert folder.load_checkpoint() is None
    for point in range(4):
        keep_point(folder, point, weights={"w": torch.arange(3) + point}, list=[1, "x", None])
    assert sorted(path.name for path in folder.checkpoints.glob("*.pt")) == ["point-0002.pt", "point-0003.pt"]
    state = folder.load_checkpoint()
    assert state["point"] == 3
    assert torch.equal(state["weights"]["w"], torch.tensor([3, 4, 5]))


@pytest.mark.parametrize("damage", ["flip", "truncate", "no hash"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(folder, damage):
    for point in range(2):
        keep_point(folder, point, w=torch.zeros(100))
    last = folder.checkpoints / "point-0001.pt"
    content = bytearray(last.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 1
        last.write_bytes(content)
    elif damage == "truncate":
        last.write_bytes(content[:100])
    else:
        last.with_suffix(".sha256").unlink()
    with pytest.warns(UserWarning, match="set aside as point-0001.damaged"):
        assert folder.load_checkpoint()["point"] == 0
    assert (folder.checkpoints / "point-0001.damaged").exists()
    assert folder.load_checkpoint()["point"] == 0, "without a second warning"


def test_the_last_two_are_told_by_number(folder):
    for point in (9998, 9999, 10000, 10001):
        keep_point(folder, point)
    assert [name for name in names(folder) if name.endswith(".pt")] == ["point-10000.pt", "point-10001.pt"]
    folder.checkpoints.joinpath("point-10001.pt").unlink()
    keep_point(folder, 9999)
    assert folder.load_checkpoint()["point"] == 10000


def hashed(path) -> None:
    path.with_suffix(".sha256").write_text(hashlib.sha256(path.read_bytes()).hexdigest())


def test_a_checkpoint_cannot_run_code(folder, capsys):
    class Evil:
        def __reduce__(self):
            return print, ("executed",)

    keep_point(folder, 0)
    path = folder.checkpoints / "point-0000.pt"
    torch.save({"point": 0, "x": Evil()}, path, pickle_module=pickle)
    hashed(path)
    with pytest.raises(BenchError, match="is intact and cannot be read here"):
        folder.load_checkpoint()
    assert "executed" not in capsys.readouterr().out


NO_ROOM = "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 B"


@pytest.mark.parametrize(
    ("function", "error"),
    [
        ("torch.load", MemoryError()),
        ("torch.load", RuntimeError(NO_ROOM)),
        ("torch.load", OSError(errno.EMFILE, "Too many open files")),
        ("hashlib.file_digest", OSError(errno.EIO, "Input/output error")),
        ("hashlib.file_digest", OSError(errno.ESTALE, "Stale file handle")),
    ],
)
def test_an_error_that_is_none_of_the_checkpoints_leaves_every_checkpoint(folder, monkeypatch, function, error):
    for point in range(2):
        keep_point(folder, point)
    before = names(folder)

    def fail(*args, **kwargs):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(function, fail)
        with pytest.raises(type(error)) as raised:
            folder.load_checkpoint()
    assert raised.value is error
    assert names(folder) == before
    assert folder.load_checkpoint()["point"] == 1


def test_a_whole_checkpoint_of_another_version_is_kept_and_said_to_be(folder):
    for point in range(2):
        keep_point(folder, point)
    newest = folder.checkpoints / "point-0001.pt"
    newest.write_bytes(b"what some later torch writes")
    hashed(newest)
    before = names(folder)
    with pytest.raises(BenchError, match=r"checkpoint/point-0001\.pt: is intact and cannot be read here") as raised:
        folder.load_checkpoint()
    assert names(folder) == before
    assert "remove the trial's checkpoints to begin the trial anew" in cause_of(raised.value), "a table shows all of it"


@pytest.mark.parametrize("lacking", ["curve", "evaluation", "all of the evaluation"])
def test_a_checkpoint_of_a_point_that_is_nowhere_else_is_passed_by(folder, lacking):
    for point in range(3):
        keep_point(folder, point)
    if lacking == "curve":
        folder.cut_curve(1)
    elif lacking == "evaluation":
        folder.cut_evaluation(1)
    else:
        folder.evaluation_path.unlink()
    with pytest.warns(UserWarning, match="curve or evaluation lacks; it is set aside as point-0002.ahead"):
        state = folder.load_checkpoint()
    assert state == (None if lacking == "all of the evaluation" else {"point": 1})
    assert "point-0002.ahead" in names(folder)


def hold(path, held, release):
    with TrialFolder(path).lock():
        held.set()
        release.wait(20)


def test_two_writers(folder):
    context = multiprocessing.get_context("spawn")
    held, release = context.Event(), context.Event()
    other = context.Process(target=hold, args=(folder.path, held, release))
    other.start()
    assert held.wait(60)
    with pytest.raises(LockedError, match="another process is writing this trial"), folder.lock():
        pass
    release.set()
    with folder.lock(wait=20):
        pass
    other.join()


def test_status_and_heartbeat(folder):
    assert folder.read().status == "planned"
    folder.write_status("running", provenance={"commit": "x"})
    folder.heartbeat(0.25, 1.5)
    folder.heartbeat()
    assert folder.read().status == "running"
    assert (folder.pulse().progress, folder.pulse().latest) == (0.25, 1.5)
    folder.write_status("diverged", "the loss is nan at step 3")
    record = folder.read()
    assert (record.status, record.cause) == ("diverged", "the loss is nan at step 3")
    assert record.provenance.stored() == {"commit": "x"}, "a change of status keeps the rest"
    assert folder.pulse() is None


@pytest.mark.parametrize(
    "beat",
    [{"time": 0.0, "pid": 1, "host": "another"}, {"time": time.time() + 1e6, "pid": 2**22 + 1}],
    ids=["silent", "process gone"],
)
def test_a_stale_running_trial_reads_as_interrupted(folder, beat):
    import socket

    folder.write_status("running")
    beat = {"host": socket.gethostname(), **beat}
    write_json(folder.path / "heartbeat.json", beat)
    record = folder.read()
    assert record.status == "interrupted"
    assert "run the sweep again to continue" in record.cause
    assert STALE_SECONDS >= 30


def test_sample_names_are_safe_and_distinct(folder):
    assert folder.sample_path(3, "heldout", "a snail", 1).relative_to(folder.path).as_posix() == (
        "samples/point-0003/heldout-a-snail-1.png"
    )
    names = [slug(text) for text in ("a cat", "A cat", "a-cat", "a  cat", "../../a cat", "猫", "x" * 200, "x" * 201)]
    assert len(set(names)) == len(names)
    assert all(len(name) < 60 and "/" not in name for name in names)


def test_results_and_trials(tmp_path):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(BenchError, match="no such folder"):
        RunFolder.open(run.path)
    run.path.mkdir()
    planned = [
        {"sweep": "s", "trial": f"ddpo-s{seed}-x", "method": "ddpo", "variant": "ddpo", "seed": seed, "identity": "x"}
        for seed in (0, 1)
    ]
    (run.path / "plan.json").write_text(json.dumps({"trials": planned}))
    first = run.trial("ddpo-s0-x")
    first.append_point(
        0, {"steps": 0, "flops": 10**19}, {"train": {"reward": 1.0, "gold": 0.5}, "heldout": {"reward": 2.0}}
    )
    first.write_evaluation(rows(0, 1.0))
    first.write_status("done")
    frame = run.write_results()
    assert len(frame) == 3
    assert set(frame["status"]) == {"done"}
    assert set(CURVE_AXES) <= set(frame.columns)
    assert frame["flops"].iloc[0] == 1e19
    pd.testing.assert_frame_equal(frame, pd.read_parquet(run.results_path), check_dtype=False)
    assert [row.record.status for row in run.trials()] == ["done", "planned"]
    assert list(run.evaluation()["trial"]) == ["ddpo-s0-x"]


def test_a_trial_that_is_done_has_all_of_its_points(tmp_path, ends_meanwhile):
    run = RunFolder(tmp_path / "run")
    ends_meanwhile(one_trial(run))
    [row] = [trial.row() for trial in run.trials()]
    assert (row["status"], row["points"]) == ("running", 2)


def test_a_plan_says_when_it_was_written(tmp_path):
    """The tuning's, if it was planned last, whatever the times of the files are in a copy."""
    run = RunFolder(tmp_path / "run")
    assert run.latest() is run
    one_trial(run.tuning)
    assert run.latest().path == run.tuning.path, "there is no comparison yet"
    one_trial(run)
    assert run.latest() is run
    (run.tuning.path / "plan.json").touch()
    assert run.latest() is run
    one_trial(run.tuning)
    assert run.latest().path == run.tuning.path
    assert run.tuning.latest().path == run.tuning.path


def test_whether_a_run_is_locked_can_be_asked(tmp_path):
    run = RunFolder(tmp_path / "run")
    assert not run.locked()
    with run.lock():
        assert RunFolder(run.path).locked()
        assert RunFolder(run.path).locked(), "asking changes nothing"
    assert not run.locked()
    with run.lock():
        pass


def test_one_run_a_folder(tmp_path):
    run = RunFolder(tmp_path / "run")
    with run.lock(), pytest.raises(BenchError, match="another `bench run` is writing here"), RunFolder(run.path).lock():
        pass
