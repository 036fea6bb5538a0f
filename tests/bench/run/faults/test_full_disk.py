"""A run whose disk fills: an error that says so, a store that loads, and the same curves once there is room."""

import os
import subprocess

import pytest

import bench.run.settle
from bench.errors import DISK_FULL, cause_of, disk_full
from bench.run.trial import run_trial
from bench.run.worker import run_and_record
from bench.store.run_folder import RunFolder
from bench.store.trial_folder import TrialFolder
from tests.bench.run.faults.stores import same_runs
from tests.bench.run.test_trial import make_trial, points

ROOM = "60m"


@pytest.fixture
def small_disk(tmp_path):
    """A file system in memory that grows when it is called with a size; skipped where none may be mounted."""
    path = tmp_path / "disk"
    path.mkdir()

    def mount(options: str, check: bool = True) -> subprocess.CompletedProcess:
        return subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=check, capture_output=True, text=True
        )

    try:
        refused = mount("size=64k", check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if refused.returncode:
        pytest.skip(f"mounting needs root: {refused.stderr.strip()}")
    try:
        yield path, lambda size: mount(f"remount,size={size}")
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def refuses_and_still_loads(cli, sweep_file, tmp_path, out, executor):
    arguments = ("run", sweep_file, "--set", "seeds=[0]", "--executor", executor, "--out", out)
    answer = cli(*arguments)
    assert answer.code in (2, 3), answer.err
    assert "Traceback" not in answer.out + answer.err
    said = [line for line in answer.err.splitlines() if not line.startswith(("trial=", "tiny: "))]
    assert len(said) <= 3
    assert DISK_FULL in answer.err
    assert "free some space" in answer.err
    assert cli("status", out).code == 0
    assert cli("report", out, "--out", tmp_path / "report", "--format", "md").code == 0
    return arguments


def finishes(cli, sweep_file, tmp_path, arguments, out):
    assert cli(*arguments).code == 0
    straight = tmp_path / "straight"
    assert cli("run", sweep_file, "--set", "seeds=[0]", "--executor", "inline", "--out", straight).code == 0
    same_runs(RunFolder(out), RunFolder(straight))


@pytest.mark.integration
def test_inline(cli, sweep_file, tmp_path, small_disk):
    disk, resize = small_disk
    resize("200k")
    arguments = refuses_and_still_loads(cli, sweep_file, tmp_path, disk / "run", "inline")
    trials = RunFolder(disk / "run").trials()
    statuses = {trial.planned.variant: (trial.record.status, trial.record.cause) for trial in trials}
    assert statuses["base"] == ("done", None)
    assert statuses["ddpo"][0] == "failed"
    assert DISK_FULL in statuses["ddpo"][1]
    resize(ROOM)
    finishes(cli, sweep_file, tmp_path, arguments, disk / "run")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("executor", "size"),
    [("inline", "12k"), ("inline", "32k"), ("inline", "60k"), ("inline", "110k"), ("ray", "60k"), ("ray", "180k")],
)
def test_at_whatever_write_it_fills(cli, sweep_file, tmp_path, small_disk, executor, size):
    disk, resize = small_disk
    resize(size)
    answer = cli("run", sweep_file, "--set", "seeds=[0]", "--executor", executor, "--out", disk / "run")
    assert answer.code in (2, 3), answer.err
    assert "disk is full" in answer.err
    assert "Traceback" not in answer.out + answer.err
    if RunFolder(disk / "run").exists():
        assert cli("status", disk / "run").code == 0
    resize(ROOM)
    arguments = ("run", sweep_file, "--set", "seeds=[0]", "--executor", "inline", "--out", disk / "run")
    finishes(cli, sweep_file, tmp_path, arguments, disk / "run")


@pytest.mark.parametrize("full", [8, 12, 16])
def test_a_trial_says_that_the_disk_is_full_and_goes_on_once_it_is_not(tiny_model, tmp_path, monkeypatch, full):
    """Also where the disk says so only when it is waited for, as disks over a network do."""
    trial = make_trial(tiny_model, "best-of-n")
    straight, folder = TrialFolder(tmp_path / "straight"), TrialFolder(tmp_path / "trial")
    run_trial(trial, straight)
    sync, syncs = os.fsync, 0

    def fails(descriptor):
        nonlocal syncs
        syncs += 1
        if full <= syncs < full + 2:
            raise OSError(28, "No space left on device")
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fails)
    assert run_and_record(trial, folder) == "failed"
    assert folder.read().cause == f"{DISK_FULL}; free some space and run the sweep again to continue"
    assert run_and_record(trial, folder) == "done"
    assert points(folder) == points(straight)


def test_the_libraries_that_write_say_it_each_in_their_own_way():
    def of(cause):
        try:
            try:
                raise cause
            except Exception as error:
                raise RuntimeError("unexpected pos 704 vs 598") from error
        except RuntimeError as error:
            return error

    assert disk_full(OSError(28, "No space left on device"))
    assert disk_full(of(OSError(122, "Disk quota exceeded"))), "torch keeps it as what came before"
    assert disk_full(ValueError("I/O error: No space left on device (os error 28)")), "safetensors keeps the words"
    assert not disk_full(of(OSError(13, "Permission denied")))
    assert cause_of(of(OSError(28, "x"))).startswith(DISK_FULL)


def test_a_process_that_died_on_a_full_disk(tmp_path, monkeypatch):
    assert "often for lack of memory" in bench.run.settle.lost(tmp_path, 1)
    monkeypatch.setattr(bench.run.settle, "LITTLE_BYTES", 2**60)
    assert "the disk is full: free some space" in bench.run.settle.lost(tmp_path, 1)
