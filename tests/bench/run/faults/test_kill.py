"""`bench run` killed with SIGKILL at random moments, and the same command until it has finished: nothing is lost."""

import random
import subprocess
import time

import psutil
import pytest

from bench.store.files import UNFINISHED
from bench.store.run_folder import RunFolder
from tests.bench.run.faults.stores import same_runs
from tests.bench.run.test_ray import command, run

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

SWEEP = """\
schema: 1
name: killed
model: {model}
reward: colourfulness
prompts: {{train: [a cat, a dog, a fox], heldout: [two dogs]}}
sampler: {{steps: 3}}
methods:
  - {{name: best-of-n}}
  - {{name: alignprop, settings: {{batch_size: 2}}}}
  - {{name: ddpo, settings: {{prompts_per_rollout: 2, images_per_prompt: 2}}}}
seeds: [0]
budget: {{reward_queries: {limit}}}
evaluate: {{every: 4, sampler: {{steps: 2, eta: 0.0}}}}
"""

QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@pytest.fixture
def sweep(tiny_model, tmp_path):
    def write(limit: int):
        path = tmp_path / "killed.yaml"
        path.write_text(SWEEP.format(model=tiny_model, limit=limit))
        return path

    return write


def written(folder: RunFolder) -> int:
    """Bytes of all curves: it grows at every point."""
    return sum(path.stat().st_size for path in folder.trials_path.glob("*/curve.jsonl"))


def kill(arguments, folder: RunFolder, chance: random.Random, spread: float) -> bool:
    """Starts the command and kills it up to `spread` seconds after it has written a point, so that every call gets
    further. False if it had ended by then.
    """
    before = written(folder)
    process = subprocess.Popen(command(*arguments), **QUIET)
    while process.poll() is None and written(folder) == before:
        time.sleep(0.02)
    time.sleep(chance.uniform(0.0, spread))
    if process.poll() is not None:
        assert process.returncode == 0
        return False
    process.kill()
    process.wait()
    return True


def check(folder: RunFolder, straight: RunFolder) -> None:
    assert {row.record.status for row in folder.trials()} == {"done"}
    same_runs(folder, straight)
    assert not list(folder.path.rglob(UNFINISHED))


def test_the_driver_killed_twice(sweep, tmp_path, cli):
    path = sweep(limit=16)
    straight, folder = RunFolder(tmp_path / "straight"), RunFolder(tmp_path / "killed")
    assert cli("run", path, "--executor", "inline", "--out", straight.path).code == 0
    chance = random.Random(5)
    for executor in ("ray", "inline"):
        assert kill((path, "--executor", executor, "--out", folder.path), folder, chance, 0.2)
    assert cli("run", path, "--executor", "inline", "--out", folder.path).code == 0
    check(folder, straight)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_driver_killed_twenty_times(sweep, tmp_path, cli):
    path = sweep(limit=40)
    straight = RunFolder(tmp_path / "straight")
    assert cli("run", path, "--executor", "inline", "--out", straight.path).code == 0
    chance, killed, sweeps, orphans = random.Random(5), 0, 0, 0
    while killed < 20:
        folder = RunFolder(tmp_path / f"killed-{sweeps}")
        arguments = (path, "--out", folder.path)
        while killed < 20 and kill(arguments, folder, chance, 2.0):
            killed += 1
            orphans += len(left_behind(folder.path))
        assert run(*arguments).returncode == 0
        check(folder, straight)
        sweeps += 1
    print(f"{killed} kills of {sweeps} sweeps")
    assert orphans > 0
    wait_until_all_are_gone(tmp_path)


def left_behind(path) -> list[psutil.Process]:
    """Ray's daemons and workers: they work where the run that started them did."""
    return [process for process in psutil.process_iter(["cwd"]) if str(process.info["cwd"] or "").startswith(str(path))]


def wait_until_all_are_gone(path, seconds=90):
    """They go by themselves: the workers in seconds, the last daemons after a minute."""
    end = time.monotonic() + seconds
    while left := left_behind(path):
        assert time.monotonic() < end, left
        time.sleep(0.5)
