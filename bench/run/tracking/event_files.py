"""TensorBoard's event files, `trials/KEY/tensorboard/`: `tensorboard --logdir runs/NAME/trials`.

They always hold the curve's points and no others. A curve that was cut back, as a resumed trial's is, is written anew
from its first point, so no purging is left to the reader; one that looks on is told that the old events are void.

Not through accelerate's tracker, which wants a process state of its own in the trial's process, imports TensorFlow
where it finds one, and would encode the samples a second time.
"""

import os
import struct
import time
from typing import TYPE_CHECKING, Any

from bench.build.trial_spec import Trial
from bench.run.tracking.points import Curve, Point, configuration, pictures, scalars, step_of
from bench.store.trial_folder import TrialFolder

if TYPE_CHECKING:
    from tensorboardX.event_file_writer import EventsWriter


class EventFiles:
    """Keeps a trial's event files up with its curve."""

    def __init__(self, trial: Trial, folder: TrialFolder):
        self.trial, self.folder = trial, folder
        self.place = folder.path / "tensorboard"
        self.curve = Curve(folder)
        self.writer: EventsWriter | None = None
        self.begun = 0.0
        self.files = 0

    def sync(self) -> None:
        """Writes the points that are new."""
        anew, points = self.curve.news()
        if not points and not anew:
            return
        if anew or self.writer is None:
            self._start(points)
        for point in points:
            self._write(point)
        if self.writer is not None:
            self.writer.flush()

    def close(self) -> None:
        """Ends the file; everything synced is on the disk."""
        if self.writer is not None:
            self.writer.close()

    def _start(self, points: list[Point]) -> None:
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import SessionLog
        from tensorboardX.summary import hparams

        self.close()
        self.place.mkdir(parents=True, exist_ok=True)
        for old in self.place.glob("events.out.tfevents.*"):
            old.unlink()
        # The wall time of an event is the trial's own clock, which does not run while a trial is interrupted.
        self.begun = time.time() - (_seconds(points[-1]) if points else 0.0)
        self.files += 1
        self.writer = EventsWriter(str(self.place / "events"), f".{os.getpid()}.{self.files}")
        self._event(0, session_log=SessionLog(status=SessionLog.START))
        shown = [f"{split}/reward" for split in self.trial.evaluated]
        for summary in hparams(configuration(self.trial), dict.fromkeys(shown)):
            self._event(0, summary=summary)

    def _write(self, point: Point) -> None:
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=tag, simple_value=value) for tag, value in scalars(point).items()]
        for tag, path in pictures(self.folder, point).items():
            png = path.read_bytes()
            width, height = struct.unpack(">II", png[16:24])
            image = Summary.Image(encoded_image_string=png, colorspace=3, width=width, height=height)
            values.append(Summary.Value(tag=tag, image=image))
        self._event(step_of(point), summary=Summary(value=values), wall_time=self.begun + _seconds(point))

    def _event(self, step: int, wall_time: float | None = None, **what: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        assert self.writer is not None
        self.writer.write_event(Event(step=step, wall_time=wall_time or self.begun, **what))


def _seconds(point: Point) -> float:
    return float(point["axes"].get("wall_seconds", 0.0))
