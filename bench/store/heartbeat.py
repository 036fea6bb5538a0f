"""Heartbeats: a running trial writes `heartbeat.json` every few seconds, and reads as interrupted without them."""

import os
import socket
import time
from pathlib import Path

import psutil
from pydantic import ValidationError

from bench.store.files import write_json
from bench.store.records import ProgressMark, Pulse, read_record

HEARTBEAT = "heartbeat.json"
STALE_SECONDS = 60.0
"""A running trial without a heartbeat for so long reads as interrupted; a worker sends one every few seconds."""


def write_pulse(path: Path, progress: float | None, latest: float | None) -> None:
    """Writes a heartbeat of this process; arguments as for `TrialFolder.heartbeat`."""
    now = time.time()
    before = read_pulse(path) or Pulse(time=now)
    since = before.since
    if progress is not None and (since is None or progress < before.progress):
        since = ProgressMark(time=now, progress=progress)
    beat = Pulse(
        time=now,
        pid=os.getpid(),
        host=socket.gethostname(),
        progress=before.progress if progress is None else progress,
        latest=before.latest if latest is None else latest,
        moved=before.moved if progress is None else now,
        since=since,
    )
    write_json(path, beat.stored(), durable=False)


def read_pulse(path: Path) -> Pulse | None:
    """The last heartbeat; None if it is missing or damaged."""
    try:
        return Pulse.model_validate(read_record(path))
    except ValidationError:
        return None


def why_stale(pulse: Pulse | None, updated: float) -> str | None:
    """Why a trial that is recorded as running is interrupted; None if it is alive.

    Args:
        pulse: its last heartbeat, if there is one.
        updated: when its status was written, in seconds since 1970.
    """
    if pulse and pulse.host == socket.gethostname() and not psutil.pid_exists(pulse.pid):
        return "its process is gone; run the sweep again to continue"
    silent = time.time() - (pulse.time if pulse else updated)
    if silent > STALE_SECONDS:
        return f"no heartbeat for {silent / 60:.0f} minutes; run the sweep again to continue"
    return None
