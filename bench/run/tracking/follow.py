"""Trackers beside a running trial, which follow its curve. Whatever happens to them, the trial goes on.

Event files are written by a thread of the trial's process. A service has a process of its own, `python -m
bench.run.tracking.follow wandb trials/KEY`, which ends when its standard input does: what it imports, prints or waits
for is no part of the trial, and a process that hangs is killed.
"""

import os
import re
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from select import select
from typing import Any

from bench.background import repeating
from bench.build.trial_spec import Trial
from bench.errors import cause_of
from bench.run.tracking.points import pictures, scalars
from bench.run.tracking.services import EventFiles, Mlflow, Trackio, Wandb
from bench.store.files import read_json, write_json
from bench.store.records import Point
from bench.store.status import Status
from bench.store.trial_folder import TrialFolder

TRACKERS: dict[str, Any] = {"tensorboard": EventFiles, "wandb": Wandb, "mlflow": Mlflow, "trackio": Trackio}
SYNC_SECONDS = 1.0
FLUSH_SECONDS = 20.0
"""How long a trial that has ended waits for a service to take its last points."""


@contextmanager
def tracked(trial: Trial, folder: TrialFolder) -> Iterator[None]:
    """Shows the curve of the trial, which the block runs and whose status it writes, in the trackers it asks for."""
    with ExitStack() as stack:
        if trial.track.tensorboard:
            event_files = Follower("tensorboard", folder)
            stack.callback(event_files.finish)
            stack.enter_context(repeating(event_files.sync, SYNC_SECONDS, "tensorboard"))
        for service in trial.track.services:
            follower = Follower(service, folder)
            with follower.harmless():
                stack.enter_context(_process(follower))
        yield


def problems(folder: TrialFolder) -> dict[str, str]:
    """Tracker -> what is the matter with it, of those that fail."""
    found = {path.stem: read_json(path) for path in tracking_folder(folder).glob("*.json")}
    return {name: kept["problem"] for name, kept in found.items() if isinstance(kept, dict) and kept.get("problem")}


def tracking_folder(folder: TrialFolder) -> Path:
    """Where trackers keep what they need to continue (`wandb.json`), and what they printed (`wandb.log`)."""
    return folder.path / "tracking"


class Follower:
    """Logs every point of a trial once at a tracker, over all attempts of the trial.

    A resumed trial writes the same points again, bit for bit, so what was logged once stays true and is not repeated,
    unless the tracker has lost the run, as one does that keeps it on the machine where the trial began.
    """

    def __init__(self, name: str, folder: TrialFolder):
        self.name, self.folder = name, TrialFolder(folder.path)  # two threads do not share one
        self.path = tracking_folder(folder) / f"{name}.json"
        kept = read_json(self.path)
        # `id` is what the run is continued by, `told` the last point that was logged.
        self.state = {"id": None, "told": -1, "problem": None, **(kept if isinstance(kept, dict) else {})}
        self.tracker: Any = None
        self.seen = 0

    def sync(self) -> None:
        """Logs the points that are new. A tracker that fails is tried again with the next point, and at the end."""
        with self.harmless():
            curve = self.folder.read_curve()
            if len(curve) != self.seen:
                self.seen = len(curve)
                self._log(curve)

    def finish(self) -> None:
        """Logs the points that are left, and ends the run."""
        with self.harmless():
            self._log(self.folder.read_curve())
        with self.harmless():
            tracker, self.tracker = self.tracker, None
            if tracker is not None:
                tracker.finish(self.folder.recorded_status() == Status.DONE)

    def _log(self, curve: list[Point]) -> None:
        if not any(point.point > self.state["told"] for point in curve):
            return
        if self.tracker is None:
            trial = Trial.model_validate(self.folder.read().spec)
            self.tracker = TRACKERS[self.name](trial, self.folder, self.state["id"])
            if self.tracker.id is None or self.tracker.id != self.state["id"]:
                self.keep(id=self.tracker.id, told=-1)
        for point in curve:
            if point.point > self.state["told"]:
                numbers = scalars(point)
                self.tracker.log(int(numbers["cost/steps"]), numbers, pictures(self.folder, point))
                self.keep(told=point.point, problem=None)

    def keep(self, **fields: Any) -> None:
        """Keeps what another process needs to go on, and the `problem` that people are told of."""
        self.state |= fields
        if self.state["id"] or self.state["problem"]:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, self.state, durable=False)
        else:
            self.path.unlink(missing_ok=True)

    @contextmanager
    def harmless(self) -> Iterator[None]:
        """Keeps an error of the block as the tracker's problem, and its traceback in the tracker's log."""
        try:
            yield
        except Exception as error:
            with suppress(OSError):  # the disk is full: the trial itself will say so
                self.keep(problem=_without_credentials(cause_of(error)))
                with self.path.with_suffix(".log").open("a", encoding="utf-8") as log:
                    log.write(_without_credentials(traceback.format_exc()))


def _without_credentials(text: str) -> str:
    return re.sub(r"://[^/@\s]+@", "://…@", text)  # MLflow's errors hold the whole address of its server


@contextmanager
def _process(follower: Follower) -> Iterator[None]:
    place = follower.path.parent
    place.mkdir(parents=True, exist_ok=True)
    # -P: the working folder may hold a folder that is called like a package.
    command = [sys.executable, "-P", "-m", f"{__package__}.follow", follower.name, str(follower.folder.path.absolute())]
    with follower.path.with_suffix(".log").open("ab") as log:
        process = subprocess.Popen(  # in a session of its own, as Ctrl-C is the trial's, which then lets it finish
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=place, start_new_session=True
        )
    try:
        yield
    finally:
        try:
            process.communicate(timeout=FLUSH_SECONDS)  # ends its standard input
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            late = f"did not answer within {FLUSH_SECONDS:g} s of the trial's end"
            with suppress(OSError):  # the disk is full: the trial itself will say so
                Follower(follower.name, follower.folder).keep(problem=late)


def main(name: str, path: str) -> None:
    """The process of a service."""
    os.nice(19)  # the trial comes first
    follower = Follower(name, TrialFolder(Path(path)))
    while not select([sys.stdin], [], [], SYNC_SECONDS)[0]:  # it is readable once it has ended
        follower.sync()
    follower.finish()


if __name__ == "__main__":
    main(*sys.argv[1:])
