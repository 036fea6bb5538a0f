"""However an executor ends, no trial is left `running`, and the cause is the true one."""

import re

import pytest

import bench.run.executors.inline
from bench.errors import BenchError, TrialsFailedError
from bench.run.settle import STOPPED, settled
from bench.store.run_folder import RunFolder

ENDS = {
    "by itself": (None, {"running": "failed", "planned": "failed"}, "its process died without an error message"),
    "by the user": (KeyboardInterrupt(), {"running": "interrupted", "planned": "planned"}, STOPPED),
    "by what it says": (
        BenchError("Ray has died", "here", "do that"),
        {"running": "interrupted", "planned": "planned"},
        "cut short: Ray has died; run the sweep again to continue",
    ),
    "by what it did not expect": (
        RuntimeError("no such actor"),
        {"running": "interrupted", "planned": "planned"},
        "cut short: RuntimeError: no such actor (test_settle.py:LINE); run the sweep again to continue",
    ),
}


class Planned:
    def __init__(self, key):
        self.key = key


@pytest.mark.parametrize("end", ENDS)
def test_what_ran_is_settled(tmp_path, end):
    error, expected, cause = ENDS[end]
    run = RunFolder(tmp_path)
    statuses = ("done", "failed", "running", "planned")

    def execute():
        with settled([Planned(status) for status in statuses], run):
            for status in statuses:
                if status != "planned":
                    run.trial(status).write_status(status, f"it is {status}")
            if error is not None:
                raise error

    if error is None:
        execute()
    else:
        with pytest.raises(type(error)):
            execute()
    found = {status: run.trial(status).recorded_status() for status in statuses}
    assert found == {"done": "done", "failed": "failed", **expected}
    assert cause in re.sub(r"(test_settle.py):\d+", r"\1:LINE", run.trial("running").read().cause)
    assert run.trial("failed").read().cause == "it is failed", "who has a cause keeps it"


def test_an_executor_that_breaks_is_told_and_the_same_command_continues(cli, sweep_file, body, tmp_path, monkeypatch):
    arguments = ("run", sweep_file, "--executor", "inline", "--out", tmp_path / "run")
    real = bench.run.executors.inline.execute

    def breaks(trials, run, command, address=None):
        real(trials[:2], run, command)
        run.trial(trials[2].key).write_status("running")
        raise TrialsFailedError("Ray has died", "raylet", "run the same command again to continue")

    monkeypatch.setattr(bench.run.executors.inline, "execute", breaks)
    answer = cli(*arguments)
    assert answer.code == 3
    assert answer.err.splitlines()[-2:] == [
        "error: raylet: Ray has died",
        "  run the same command again to continue",
    ]
    rows = [trial.row() for trial in RunFolder.open(tmp_path / "run").trials()]
    assert [row["status"] for row in rows] == ["done", "done", "interrupted", "planned", "planned", "planned"]
    monkeypatch.setattr(bench.run.executors.inline, "execute", real)
    body.calls.clear()
    assert cli(*arguments).code == 0
    assert len(body.calls) == 4
