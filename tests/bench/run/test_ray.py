"""Trials under a real Ray: the same numbers as inline, and every way a worker can end is a row with its cause."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from bench.store.run_folder import RunFolder

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]

MACHINE = {"peak_memory_bytes"}

ENDINGS = """\
import math, os, signal
from pathlib import Path
from methods.ddpo import DDPO

class Raises(DDPO):
    name = "raises"
    def step(self, prompts):
        raise RuntimeError("it broke")

class Diverges(DDPO):
    name = "diverges"
    def step(self, prompts):
        metrics = super().step(prompts)
        return type(metrics)(math.nan, metrics.reward, metrics.gradient_norm, metrics.updates)

class Dies(DDPO):
    name = "dies"
    def step(self, prompts):
        os._exit(9)

class DiesOnce(DDPO):
    # Killed once it has a checkpoint; never again beside the file that it left.
    name = "dies-once"
    def step(self, prompts):
        left = Path(__file__).with_name("died")
        if self.iteration == 3 and not left.exists():
            left.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(prompts)

class Process(DDPO):
    name = "process"
    def step(self, prompts):
        metrics = super().step(prompts)
        metrics.extra["process"] = float(os.getpid())
        metrics.extra["niceness"] = float(os.nice(0))
        return metrics

class Slow(DDPO):
    name = "slow"
    def step(self, prompts):
        import time
        time.sleep(0.5)
        return super().step(prompts)
"""


def command(*arguments):
    """`bench run ARGUMENTS` for a process of its own."""
    return [sys.executable, "-c", "from bench.cli import main; main()", "run", *map(str, arguments)]


def run(*arguments, **options):
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=280, check=False, **options)


def curves(path):
    """Curves without what depends on the clock and the machine."""
    found = RunFolder.open(path)
    return {
        row["trial"]: [
            {**p, "axes": {a: v for a, v in p["axes"].items() if not a.endswith("seconds") and a not in MACHINE}}
            for p in (point.stored() for point in found.trial(row["trial"]).read_curve())
        ]
        for row in (trial.row() for trial in found.trials())
    }


def methods(*names):
    settings = "settings: {prompts_per_rollout: 1, images_per_prompt: 2}"
    return "methods=[" + ", ".join(f"{{name: 'ways.py:{name}', {settings}}}" for name in names) + "]"


@pytest.fixture
def ways(sweep_file, tmp_path):
    (tmp_path / "ways.py").write_text(ENDINGS)
    return sweep_file


def test_same_numbers_as_inline_and_quiet(sweep_file, tmp_path):
    sweep_file.write_text(sweep_file.read_text().replace("  - name: base\n", "  - name: base\n  - name: best-of-n\n"))
    ray = run(sweep_file, "--set", "seeds=[1]", "--out", tmp_path / "ray", "--json")
    assert ray.returncode == 0, ray.stderr
    assert json.loads(ray.stdout)["exit_code"] == 0, "JSON is all there is on standard output"
    inline = run(sweep_file, "--set", "seeds=[1]", "--executor", "inline", "--out", tmp_path / "inline")
    assert inline.returncode == 0, inline.stderr
    assert curves(tmp_path / "ray") == curves(tmp_path / "inline")
    known = ("trial=", "tiny: ", "warning: prompts.heldout: ")
    strange = [line for line in ray.stderr.splitlines() if not line.startswith(known)]
    assert strange == []
    assert not (tmp_path / "ray" / ".ray").exists()


@pytest.mark.slow
def test_a_trial_has_a_process_of_its_own(ways, tmp_path):
    """Its peak memory is the process's: one that had served another trial would report that trial's too."""
    done = run(ways, "--set", methods("Process"), "--set", "seeds=[0, 1, 2, 3]", "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    found = RunFolder.open(tmp_path / "run")
    processes = {found.trial(row.key).read_curve()[-1].extra["process"] for row in found.trials()}
    assert len(processes) == 4
    # Ray would start its workers at 15: beside anything else a trial would take longer under Ray than inline.
    niceness = {found.trial(row.key).read_curve()[-1].extra["niceness"] for row in found.trials()}
    assert niceness == {os.nice(0)}


def test_every_ending_is_a_row_with_its_cause(ways, tmp_path, cli):
    ends = ("--set", methods("Raises", "Diverges", "Dies", "DiesOnce"))
    options = ("--set", "seeds=[0]", "--set", "retries=1")
    done = run(ways, *ends, *options, "--out", tmp_path / "run")
    assert done.returncode == 3, done.stderr
    trials = RunFolder.open(tmp_path / "run").trials()
    rows = {trial.planned.variant: (trial.record.status, trial.record.cause) for trial in trials}
    status, cause = rows["raises"]
    assert status == "failed"
    assert cause.startswith("RuntimeError: it broke (ways.py:8) (tried 2 times); the traceback is in trials/raises-s0-")
    assert rows["diverges"] == ("diverged", "the loss is nan at step 1")
    assert rows["dies"][0] == "failed"
    assert "process died without an error message (tried 2 times)" in rows["dies"][1]
    assert rows["diesonce"] == ("done", None)
    straight = ("--executor", "inline", "--out", tmp_path / "straight")
    assert cli("run", ways, "--set", methods("DiesOnce"), *options, *straight).code == 0
    for key, curve in curves(tmp_path / "straight").items():
        assert curves(tmp_path / "run")[key] == curve, "and as if it had not died"
    assert "Traceback" not in done.stdout + done.stderr


def start_and_wait_for_points(ways, tmp_path, points):
    """A run in the background, once its trial has written `points` points."""
    arguments = (
        ways,
        "--set",
        methods("Slow"),
        "--set",
        "seeds=[0]",
        "--set",
        "evaluate.every=2",
        "--out",
        tmp_path / "run",
    )
    process = subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A suite that was started in the background inherits an ignored SIGINT, and would hand it on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.time() + 120
    while time.time() < deadline:
        curve = next(tmp_path.glob("run/trials/*/curve.jsonl"), None)
        if curve and len(curve.read_text().splitlines()) >= points:
            return process, arguments
        time.sleep(0.1)
    process.kill()
    raise AssertionError(process.communicate())


def listening(pid):
    """Address -> process names, of every socket that a run and all it started accept connections on."""
    found = {}
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        try:
            for socket in process.net_connections(kind="inet"):
                if socket.status == psutil.CONN_LISTEN:
                    found.setdefault(socket.laddr.ip.removeprefix("::ffff:"), set()).add(process.name())
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.mark.parametrize("how", ["SIGINT", pytest.param("SIGTERM", marks=pytest.mark.slow)])
def test_stopped_and_run_again_gives_the_same_curve(ways, tmp_path, cli, how):
    process, arguments = start_and_wait_for_points(ways, tmp_path, 2)
    sockets = listening(process.pid)
    assert set(sockets) <= {"127.0.0.1", "::1"}, "nothing but this machine can reach a run"
    names = " ".join(set().union(*sockets.values()))
    assert all(name in names for name in ("gcs_server", "raylet", "ray::")), "they were looked at"
    process.send_signal(getattr(signal, how))
    out, err = process.communicate(timeout=120)
    run_folder = RunFolder.open(tmp_path / "run")
    assert process.returncode == 130, err
    assert [row.record.status for row in run_folder.trials()] == ["interrupted"]
    assert "Traceback" not in out + err
    # Inline: a trial is the same trial wherever it is continued.
    assert cli("run", *arguments, "--executor", "inline").code == 0
    assert cli("run", *arguments[:-1], tmp_path / "straight", "--executor", "inline").code == 0
    assert curves(tmp_path / "run") == curves(tmp_path / "straight")


def test_more_cores_than_there_are(ways, tmp_path):
    done = run(ways, "--set", f"resources.cpus={(os.cpu_count() or 1) * 64}", "--out", tmp_path / "run")
    assert done.returncode == 2
    assert "resources.cpus" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 3
    assert not (tmp_path / "run").exists()
