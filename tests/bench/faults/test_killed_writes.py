"""A process killed before any of its file operations leaves a store that loads and a trial that goes on bit for bit."""

import os
from pathlib import Path

import pandas as pd
import pytest
from safetensors.torch import load_file

from bench import checkpoints, trial_folder
from bench.trial_folder import TrialFolder
from bench.worker import run_and_record
from tests.bench.test_trial import make_trial, points

KILLED = 9
OPERATIONS = (("replace", Path), ("unlink", Path), ("fsync", os), ("rmdir", os))


def killed_at(operation, trial, folder):
    """Runs the trial in a process that is gone before its `operation`-th file operation; False where it has fewer."""
    pid = os.fork()
    if pid == 0:
        try:
            count = 0

            def counted(real):
                def call(*args, **options):
                    nonlocal count
                    count += 1
                    if count == operation:
                        os._exit(KILLED)
                    return real(*args, **options)

                return call

            for name, holder in OPERATIONS:
                setattr(holder, name, counted(getattr(holder, name)))
            append = trial_folder.append_line

            def torn(path, value):
                nonlocal count
                count += 1
                if count == operation:  # killed in the middle of the line
                    with path.open("a", encoding="utf-8") as file:
                        file.write('{"point": 1, "ax')
                    os._exit(KILLED)
                append(path, value)

            trial_folder.append_line = torn
            run_and_record(trial, folder)
        finally:
            os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status) == KILLED


def ending(folder):
    rows = folder.read_evaluation().sort_values(["point", "split", "metric", "prompt", "sample"]).reset_index(drop=True)
    return points(folder), rows, load_file(next(folder.adapter.glob("*.safetensors")))


@pytest.fixture(scope="module")
def short(tiny_model):
    return make_trial(tiny_model, "ddpo", limit=8.0)


@pytest.fixture(scope="module")
def straight(short, tmp_path_factory):
    folder = TrialFolder(tmp_path_factory.mktemp("straight"))
    assert run_and_record(short, folder) == "done"
    return ending(folder)


def killed_and_continued(short, straight, place, operation):
    folder = TrialFolder(place)
    if not killed_at(operation, short, folder):
        return False
    assert folder.read()["status"] != "failed", "it can be read, and nobody has given up"
    folder.read_curve()
    folder.read_evaluation()
    assert run_and_record(short, folder) == "done"
    found = ending(folder)
    assert found[0] == straight[0]
    pd.testing.assert_frame_equal(found[1], straight[1])
    assert all((found[2][name] == value).all() for name, value in straight[2].items())
    return True


@pytest.mark.parametrize("operation", range(3, 100, 16))
def test_killed_before_some_file_operations(short, straight, tmp_path, operation):
    killed_and_continued(short, straight, tmp_path, operation)


@pytest.mark.slow
def test_killed_before_every_file_operation(short, straight, tmp_path):
    operation = 1
    while killed_and_continued(short, straight, tmp_path / str(operation), operation):
        operation += 1
    assert operation > 40, "the whole trial was gone through"


def test_when_both_checkpoints_are_damaged_it_begins_anew_and_says_so(short, straight, tmp_path):
    folder = TrialFolder(tmp_path)
    operation = 60
    while not (killed_at(operation, short, folder) and len(list(folder.checkpoints.glob("*.pt"))) == checkpoints.KEPT):
        operation += 10
        assert operation < 300
    for path in folder.checkpoints.glob("*.pt"):
        path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="is damaged"):
        assert run_and_record(short, folder) == "done"
    assert ending(folder)[0] == straight[0]
