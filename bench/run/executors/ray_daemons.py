"""Watches the daemons of a local Ray, so that a run whose daemon has died ends at once with an error.

Without its raylet a driver waits for ever, and without its GCS Ray ends the driver after a minute.
"""

import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOBase
from typing import TextIO

import psutil

from bench import console, stopping
from bench.background import repeating
from bench.errors import TRIALS_FAILED, BenchError, one_line

DAEMONS = ("raylet", "gcs_server")
POLL_SECONDS = 0.5
PATIENCE_SECONDS = 20.0
"""How long the block may take to end after a daemon's death; a call that waits for the daemon cannot be interrupted."""

RAYLET_DIED = "Raylet is terminated"
"""The beginning of Ray's message on its raylet's end, which is hidden because `RayDied` replaces it."""


class OneLineStream(TextIOBase):
    """A stream that writes the first line of each of Ray's messages to `stream`."""

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> int:
        message = re.sub(r"\x1b\[[0-9;]*m", "", text).strip()  # without its colours
        if message and RAYLET_DIED not in message:
            print(one_line(message.partition("\n")[0]), file=self.stream, flush=True)
        return len(text)


class RayDied(BenchError):  # noqa: N818  # named as what happened
    """A daemon of the local Ray has died, and with it every trial that ran there."""

    exit_code = TRIALS_FAILED


@contextmanager
def watched_daemons() -> Iterator[None]:
    """Stops the block, as Ctrl-C does (see `bench.stopping`), once a daemon of this process's own Ray has died.

    Raises:
        RayDied: a daemon has died, however the block ended, unless the user stopped it.
    """
    daemons = own_daemons()
    stopped, ended = threading.Event(), threading.Event()

    def poll() -> None:
        gone = dead(daemons)
        if gone is None:
            return
        if not stopped.is_set():
            stopped.set()
            stopping.break_off()
        if not ended.wait(PATIENCE_SECONDS):
            _leave(gone)

    try:
        with repeating(poll, POLL_SECONDS, "ray"):
            try:
                yield
            finally:
                ended.set()
    except BaseException as error:
        gone = dead(daemons)
        if gone is None or (isinstance(error, KeyboardInterrupt) and not stopped.is_set()):
            raise
        raise gone from error
    gone = dead(daemons)
    if gone is not None:
        raise gone


def own_daemons() -> list[tuple[str, psutil.Process]]:
    """The daemons of the Ray that this process has started, as (name, process)."""
    children = [(child.name(), child) for child in psutil.Process().children()]
    return [(name, child) for name, child in children if name in DAEMONS]


def dead(daemons: Sequence[tuple[str, psutil.Process]]) -> RayDied | None:
    """The error for the first daemon that has died; None if all are alive."""
    gone = next((name for name, process in daemons if not _lives(process)), None)
    if gone is None:
        return None
    what = f"Ray has died: its {gone} is gone, often for lack of memory"
    return RayDied(what, do="run the same command again to continue; --executor inline does without Ray")


def _lives(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def _leave(gone: RayDied) -> None:
    """Prints the error and ends this process at once; its trials are stored, with the status interrupted."""
    console.error(gone)
    sys.stderr.flush()
    os._exit(gone.exit_code)
