"""A local Ray of which a daemon is killed in the middle of a sweep: the command ends, says so, and can be repeated."""

import signal
import subprocess
import time

import pytest

from bench.store.run_folder import RunFolder
from tests.bench.run.faults.stores import same_runs
from tests.bench.run.faults.test_kill import SWEEP, left_behind, written
from tests.bench.run.test_ray import command

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.mark.parametrize("daemon", ["raylet", "gcs_server"])
def test_the_command_ends_and_can_be_repeated(daemon, tiny_model, tmp_path, cli):
    sweep = tmp_path / "killed.yaml"
    sweep.write_text(SWEEP.format(model=tiny_model, limit=40))
    straight, folder = RunFolder(tmp_path / "straight"), RunFolder(tmp_path / "killed")
    process = subprocess.Popen(
        command(sweep, "--out", folder.path), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    while written(folder) == 0:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    (victim,) = [each for each in left_behind(folder.path) if each.name() == daemon]
    began = time.monotonic()
    victim.send_signal(signal.SIGKILL)
    said, _ = process.communicate(timeout=200)
    print(f"{daemon}: ended after {time.monotonic() - began:.0f} s with {process.returncode}:\n{said}")
    assert time.monotonic() - began < 60, "Ray would wait for a minute, or for ever"
    assert process.returncode == 3, said
    told = [line for line in said.splitlines() if not line.startswith(("trial=", "killed: ", "warning: prompts"))]
    assert told == [
        f"error: Ray has died: its {daemon} is gone, often for lack of memory",
        "  run the same command again to continue; --executor inline does without Ray",
    ]
    rows = [trial.row() for trial in folder.trials()]
    assert {row["status"] for row in rows} <= {"done", "interrupted", "planned"}
    for row in rows:
        if row["status"] == "interrupted":
            assert row["cause"].startswith(f"cut short: Ray has died: its {daemon} is gone")
    assert cli("run", sweep, "--executor", "inline", "--out", straight.path).code == 0
    assert cli("run", sweep, "--executor", "inline", "--out", folder.path).code == 0
    same_runs(folder, straight)
