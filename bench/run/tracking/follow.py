"""The process that tells one service of one trial: `python -m bench.run.tracking.follow wandb trials/KEY 20`.

It ends when its standard input does, which is when the trial has ended or its process is gone, and at the latest so
many seconds later.
"""

import os
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.build.trial_spec import Trial
from bench.errors import cause_of
from bench.run.tracking.beside import SYNC_SECONDS, tracking_folder, unanswered
from bench.run.tracking.points import Curve, Point, pictures, scalars, step_of
from bench.run.tracking.services import SERVICES, Service
from bench.store.files import read_json, write_json
from bench.store.status import Status
from bench.store.trial_folder import TrialFolder

RETRY_SECONDS = 30.0
NICENESS = 19


class Follower:
    """Tells a service of every point once, over all attempts of a trial.

    A resumed trial writes the same points again, bit for bit, so what was told once stays true and is not repeated;
    unless the service has lost what it was told, as one does that keeps it on the machine where the trial began.
    """

    def __init__(self, name: str, folder: TrialFolder, make: Callable[..., Service] | None = None):
        self.folder = folder
        self.path = tracking_folder(folder) / f"{name}.json"
        kept = read_json(self.path)
        sound = isinstance(kept, dict) and isinstance(kept.get("told", -1), int)
        self.state: dict[str, Any] = {"id": None, "told": -1, "problem": None} | (kept if sound else {})
        self.trial = Trial.model_validate(folder.read().spec)
        self.make = make or SERVICES[name]
        self.service: Service | None = None
        self.curve = Curve(folder)
        self.waiting: list[Point] = []
        self.quiet_until = 0.0

    def sync(self, last: bool = False) -> None:
        """Tells what is new; a service that fails is asked again later, and for the `last` time at once."""
        _, points = self.curve.news()
        known = {point["point"] for point in self.waiting}
        self.waiting += [p for p in points if p["point"] > self.state["told"] and p["point"] not in known]
        if not self.waiting or (time.monotonic() < self.quiet_until and not last):
            return
        try:
            if self.service is None:
                self._begin()
            while self.waiting:
                self._tell(self.waiting[0])
                self.waiting.pop(0)
            self._keep(problem=None)
        except Exception as error:
            traceback.print_exc()
            self.quiet_until = time.monotonic() + RETRY_SECONDS
            self._keep(problem=cause_of(error))

    def finish(self) -> None:
        """Closes the service's run, with the trial's status."""
        if self.service is None:
            return
        try:
            self.service.finish(self.folder.recorded_status() == Status.DONE)
        except Exception as error:
            traceback.print_exc()
            self._keep(problem=cause_of(error))

    def give_up(self, seconds: float) -> None:
        """Leaves word that the service did not answer."""
        if self.waiting:
            self._keep(problem=unanswered(seconds))

    def _begin(self) -> None:
        known = self.state["id"]
        service = self.make(self.trial, self.folder, known)
        lost = known not in (None, service.id)
        if lost:
            self.waiting = [point.stored() for point in self.folder.read_curve()]
        self._keep(id=service.id, told=-1 if lost else self.state["told"])
        self.service = service

    def _tell(self, point: Point) -> None:
        assert self.service is not None
        self.service.tell(step_of(point), scalars(point), pictures(self.folder, point))
        self._keep(told=point["point"])

    def _keep(self, **fields: Any) -> None:
        state = {**self.state, **fields}
        if state != self.state:
            self.state = state
            write_json(self.path, state, durable=False)


def follow(name: str, folder: TrialFolder, ended: threading.Event, flush_seconds: float) -> None:
    """Tells the service of the trial until `ended`, and `flush_seconds` more at most."""
    follower = Follower(name, folder)
    while not ended.wait(SYNC_SECONDS):
        follower.sync()

    def leave() -> None:
        follower.give_up(flush_seconds)
        os._exit(1)

    watchdog = threading.Timer(flush_seconds, leave)
    watchdog.daemon = True
    watchdog.start()
    follower.sync(last=True)
    follower.finish()
    watchdog.cancel()


def main(name: str, path: str, flush_seconds: str) -> None:
    """The process."""
    os.nice(NICENESS)  # the trial comes first
    ended = threading.Event()

    def listen() -> None:
        sys.stdin.buffer.read()
        ended.set()

    threading.Thread(target=listen, name="listen", daemon=True).start()
    follow(name, TrialFolder(Path(path)), ended, float(flush_seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
