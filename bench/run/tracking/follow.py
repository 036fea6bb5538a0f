"""Runs trackers during a trial, which follow its curve; the trial goes on if a tracker fails.

A thread of the trial's process writes event files. A service has a process of its own, `python -m
bench.run.tracking.follow wandb trials/KEY`, so that its imports, output and waiting do not affect the trial. The
process ends when its standard input is closed, and is killed if it hangs.
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
from bench.run.tracking.services import EventFiles, MlflowTracker, TrackioTracker, WandbTracker
from bench.store.files import read_json, write_json
from bench.store.records import Point
from bench.store.status import Status
from bench.store.trial_folder import TrialFolder

TRACKERS: dict[str, Any] = {
    "tensorboard": EventFiles,
    "wandb": WandbTracker,
    "mlflow": MlflowTracker,
    "trackio": TrackioTracker,
}
SYNC_SECONDS = 1.0
FLUSH_SECONDS = 20.0
"""How long a trial that has ended waits for a service to log its last points."""


@contextmanager
def tracked(trial: Trial, folder: TrialFolder) -> Iterator[None]:
    """Runs the trial's trackers inside the block, which runs the trial and writes its status."""
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
    """Tracker -> its problem, for each tracker that fails."""
    states = {path.stem: read_json(path) for path in tracking_folder(folder).glob("*.json")}
    return {name: kept["problem"] for name, kept in states.items() if isinstance(kept, dict) and kept.get("problem")}


def tracking_folder(folder: TrialFolder) -> Path:
    """The folder of the trackers' states (`wandb.json`), by which they continue, and of their logs (`wandb.log`)."""
    return folder.path / "tracking"


class Follower:
    """Logs every point of a trial once to a tracker, over all attempts of the trial.

    A resumed trial writes bitwise the same points again, so logged points stay true and are not repeated, unless the
    tracker has lost its run, as a tracker with local storage does when the trial continues on another machine.
    """

    def __init__(self, name: str, folder: TrialFolder):
        self.name, self.folder = name, TrialFolder(folder.path)  # threads do not share a TrialFolder
        self.path = tracking_folder(folder) / f"{name}.json"
        kept = read_json(self.path)
        # `id` names the tracker's run, by which it is continued; `told` is the last point that was logged.
        self.state = {"id": None, "told": -1, "problem": None, **(kept if isinstance(kept, dict) else {})}
        self.tracker: Any = None
        self.points_read = 0

    def sync(self) -> None:
        """Logs new points. After an error it is tried again with the next point, and at the end."""
        with self.harmless():
            curve = self.folder.read_curve()
            if len(curve) != self.points_read:
                self.points_read = len(curve)
                self._log(curve)

    def finish(self) -> None:
        """Logs the remaining points, and ends the tracker's run."""
        with self.harmless():
            self._log(self.folder.read_curve())
        with self.harmless():
            tracker, self.tracker = self.tracker, None
            if tracker is not None:
                tracker.finish(self.folder.recorded_status() == Status.DONE)

    def _log(self, curve: list[Point]) -> None:
        new = [point for point in curve if point.point > self.state["told"]]
        if new and self.tracker is None:
            trial = Trial.model_validate(self.folder.read().spec)
            self.tracker = TRACKERS[self.name](trial, self.folder, self.state["id"])
            if self.tracker.id is None or self.tracker.id != self.state["id"]:
                self.keep(id=self.tracker.id, told=-1)
                new = curve
        for point in new:
            numbers = scalars(point)
            self.tracker.log(int(numbers["cost/steps"]), numbers, pictures(self.folder, point))
            self.keep(told=point.point, problem=None)

    def keep(self, **fields: Any) -> None:
        """Writes fields of the state: `id` and `told`, by which another process continues, and `problem`, a warning."""
        self.state |= fields
        if self.state["id"] or self.state["problem"]:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self.path, self.state, durable=False)
        else:
            self.path.unlink(missing_ok=True)

    @contextmanager
    def harmless(self) -> Iterator[None]:
        """Suppresses an error of the block; it becomes the tracker's problem, with a traceback in the tracker's log."""
        try:
            yield
        except Exception as error:
            with suppress(OSError):  # on a full disk the trial itself fails with a message
                self.keep(problem=_without_credentials(cause_of(error)))
                with self.path.with_suffix(".log").open("a", encoding="utf-8") as log:
                    log.write(_without_credentials(traceback.format_exc()))


def _without_credentials(text: str) -> str:
    return re.sub(r"://[^/@\s]+@", "://…@", text)  # MLflow's errors hold its server's address with the password


@contextmanager
def _process(follower: Follower) -> Iterator[None]:
    place = follower.path.parent
    place.mkdir(parents=True, exist_ok=True)
    # -P, because the working folder may hold a folder with a package's name.
    command = [sys.executable, "-P", "-m", f"{__package__}.follow", follower.name, str(follower.folder.path.absolute())]
    with follower.path.with_suffix(".log").open("ab") as log:
        process = subprocess.Popen(  # in a session of its own: Ctrl-C stops the trial, which lets its trackers finish
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=place, start_new_session=True
        )
    try:
        yield
    finally:
        try:
            process.communicate(timeout=FLUSH_SECONDS)  # closes its standard input
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            late = f"did not answer within {FLUSH_SECONDS:g} s of the trial's end"
            with suppress(OSError):  # on a full disk the trial itself fails with a message
                Follower(follower.name, follower.folder).keep(problem=late)


def main(name: str, path: str) -> None:
    """Runs the process of a service until standard input is closed; `path` is the trial's folder."""
    os.nice(19)  # the trial has priority
    follower = Follower(name, TrialFolder(Path(path)))
    while not select([sys.stdin], [], [], SYNC_SECONDS)[0]:  # it is readable once it is closed
        follower.sync()
    follower.finish()


if __name__ == "__main__":
    main(*sys.argv[1:])
