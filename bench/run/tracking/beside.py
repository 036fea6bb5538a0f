"""Trackers beside a running trial. Whatever happens to them, the trial goes on."""

import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from bench.background import repeating
from bench.build.trial_spec import Trial
from bench.errors import cause_of
from bench.run.tracking.event_files import EventFiles
from bench.store.files import read_json, write_json
from bench.store.trial_folder import TrialFolder

SYNC_SECONDS = 1.0
FLUSH_SECONDS = 20.0
"""How long a trial that has ended waits for a service to take its last points."""

OF_A_GROUP = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
OF_A_LAUNCHER = ("ACCELERATE_", "OMPI_", "PMI_", "PMIX_", "MV2_", "SMDATAPARALLEL_")
"""Variables by which accelerate would take a service's process for a worker of a process group."""


@contextmanager
def tracked(trial: Trial, folder: TrialFolder) -> Iterator[None]:
    """Follows the trial, which the block runs and whose status it writes."""
    with ExitStack() as stack:
        if trial.track.tensorboard:
            stack.enter_context(_event_files(trial, folder))
        for service in trial.track.services:
            stack.enter_context(_service(service, folder))
        yield


def problems(folder: TrialFolder) -> dict[str, str]:
    """Tracker -> what is the matter with it, of those that fail."""
    found = {path.stem: read_json(path) for path in tracking_folder(folder).glob("*.json")}
    return {name: said["problem"] for name, said in found.items() if isinstance(said, dict) and said.get("problem")}


def unanswered(seconds: float) -> str:
    """What is said of a service that did not take its last points in time."""
    return f"did not answer within {seconds:g} s of the trial's end"


def tracking_folder(folder: TrialFolder) -> Path:
    """Where trackers keep what they need to continue: `wandb.json`, what they printed: `wandb.log`."""
    return folder.path / "tracking"


@contextmanager
def _event_files(trial: Trial, folder: TrialFolder) -> Iterator[None]:
    files = EventFiles(trial, folder)
    broken = False

    def attempt(task: Callable[[], None]) -> None:
        nonlocal broken
        try:
            task()
        except Exception as error:
            if not broken:  # what comes after is but its consequence
                _complain("tensorboard", folder, error)
            broken = True

    def sync() -> None:
        if not broken:
            attempt(files.sync)

    try:
        with repeating(sync, SYNC_SECONDS, "tensorboard"):
            yield
    finally:
        sync()
        attempt(files.close)  # even of a broken one, whose file is still open


def _complain(name: str, folder: TrialFolder, error: Exception) -> None:
    with suppress(OSError):  # the disk is full: the trial itself will say so
        place = tracking_folder(folder)
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{name}.log").write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        write_json(place / f"{name}.json", {"problem": cause_of(error)}, durable=False)


@contextmanager
def _service(name: str, folder: TrialFolder) -> Iterator[None]:
    try:
        process = _start(name, folder)
    except OSError as error:
        _complain(name, folder, error)
        yield
        return
    try:
        yield
    finally:
        assert process.stdin is not None
        process.stdin.close()  # its word that the trial has ended
        try:
            process.wait(FLUSH_SECONDS + 5.0)  # it gives up by itself before that
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            path = tracking_folder(folder) / f"{name}.json"
            with suppress(OSError):
                kept = read_json(path)
                said = kept if isinstance(kept, dict) else {}
                write_json(path, {**said, "problem": unanswered(FLUSH_SECONDS)}, durable=False)


def _start(name: str, folder: TrialFolder) -> "subprocess.Popen[bytes]":
    place = tracking_folder(folder)
    place.mkdir(parents=True, exist_ok=True)
    with (place / f"{name}.log").open("ab") as log:
        return subprocess.Popen(
            # -P: the working folder may hold a package called like one of ours.
            [
                sys.executable,
                "-P",
                "-m",
                "bench.run.tracking.follow",
                name,
                str(folder.path.absolute()),
                str(FLUSH_SECONDS),
            ],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            cwd=place,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is the trial's, which then lets it finish
        )


def _environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in OF_A_GROUP and not name.startswith(OF_A_LAUNCHER)
    }
    return {**kept, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
