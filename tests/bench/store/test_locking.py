"""Whoever finds a run or a trial locked is told who has it."""

import json
import multiprocessing
import os
import re
import socket

import pytest

from bench.errors import LockedError
from bench.store.locking import holder, sign
from bench.store.run_folder import RunFolder
from bench.store.trial_folder import TrialFolder

WHEN = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


@pytest.mark.parametrize("command", [None, "bench run sweeps/quickstart.yaml"])
def test_the_holder_is_named(tmp_path, command):
    lock = tmp_path / ".lock"
    lock.touch()
    sign(lock, command)
    said = f" \\({command}\\)" if command else ""
    assert re.fullmatch(rf": process {os.getpid()} on {socket.gethostname()} since {WHEN}{said}", holder(lock))


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"pid": 1}', "123\nhost\n"])
def test_a_lock_that_does_not_say_is_one_all_the_same(tmp_path, content):
    lock = tmp_path / ".lock"
    if content is not None:
        lock.write_text(content)
    assert holder(lock) == ""


def test_notes_of_the_library_stay(tmp_path):
    lock = tmp_path / ".lock"
    lock.write_text("123\nhost\n")
    sign(lock)
    assert lock.read_text() == "123\nhost\n"


def gone():
    process = multiprocessing.get_context("spawn").Process()
    process.start()
    process.join()
    return process.pid


def test_a_process_that_is_gone_holds_nothing_but_one_of_another_machine_may(tmp_path):
    lock = tmp_path / ".lock"
    word = {"pid": gone(), "host": socket.gethostname(), "since": 0.0, "command": None}
    lock.write_text(json.dumps(word))
    assert holder(lock) == ""
    lock.write_text(json.dumps({**word, "host": "elsewhere"}))
    assert " on elsewhere since 19" in holder(lock)


def test_a_run_and_a_trial_name_their_writer_and_the_next_one_signs_anew(tmp_path, monkeypatch):
    run, trial = RunFolder(tmp_path / "run"), TrialFolder(tmp_path / "run" / "trials" / "ddpo-s0-x")
    monkeypatch.setattr("sys.argv", ["/somewhere/bench", "run", "a sweep.yaml"])
    me = f"process {os.getpid()} on {socket.gethostname()} since {WHEN}"
    for _ in range(2):
        with run.lock(), trial.lock():
            with pytest.raises(
                LockedError, match=rf"another `bench run` is writing here: {me} \(bench run 'a sweep.yaml'\)"
            ):
                RunFolder(run.path).lock().__enter__()
            with pytest.raises(LockedError, match=f"another process is writing this trial: {me}\\n") as error:
                TrialFolder(trial.path).lock().__enter__()
            assert len(error.value.lines()) == 2
            (run.path / ".lock").write_text("{}")


def test_a_second_run_says_who_is_first(cli, sweep_file, tmp_path, body):
    with RunFolder(tmp_path / "run").lock():
        answer = cli("run", sweep_file, "--executor", "inline", "--out", tmp_path / "run")
    assert answer.code == 2
    assert f"process {os.getpid()} on {socket.gethostname()} since " in answer.err
    assert body.calls == []
