"""Whether a local Ray lives.

A driver whose raylet is gone hears nothing of what it waits for, and one whose GCS is gone is ended by Ray after a
minute, whatever it is doing. So this process looks after its own, and a run that has lost one ends at once and says so.
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
LOOK_SECONDS = 0.5
PATIENCE_SECONDS = 20.0
"""How long this process may take to hear of it. A call that waits for a dead daemon cannot be interrupted."""


KNOWN = "Raylet is terminated"
"""How Ray begins to tell of its raylet's end, with the last forty lines of a log; `RayDied` says it."""


class Terse(TextIOBase):
    """What Ray prints of its daemons' messages, each in one line.

    Args:
        stream: where they go.
    """

    def __init__(self, stream: TextIO):
        self.stream = stream

    def write(self, text: str) -> int:
        message = re.sub(r"\x1b\[[0-9;]*m", "", text).strip()  # without its colours
        if message and KNOWN not in message:
            print(one_line(message.partition("\n")[0]), file=self.stream, flush=True)
        return len(text)


class RayDied(BenchError):  # noqa: N818  # named as what happened
    """A daemon of the local Ray is gone, and with it everything that ran there."""

    exit_code = TRIALS_FAILED


@contextmanager
def alive() -> Iterator[None]:
    """Ends the block as a stop does (see `bench.stopping`) once a daemon of this process's Ray is gone.

    A cluster that was joined has no daemons of this process.

    Raises:
        RayDied: where one is gone, however the block has ended, unless the user stopped it.
    """
    daemons = own_daemons()
    told, ended = threading.Event(), threading.Event()

    def look() -> None:
        gone = dead(daemons)
        if gone is None:
            return
        if not told.is_set():
            told.set()
            stopping.break_off()
        if not ended.wait(PATIENCE_SECONDS):
            _leave(gone)

    try:
        with repeating(look, LOOK_SECONDS, "ray"):
            try:
                yield
            finally:
                ended.set()
    except BaseException as error:
        gone = dead(daemons)
        if gone is None or (isinstance(error, KeyboardInterrupt) and not told.is_set()):
            raise
        raise gone from error
    gone = dead(daemons)
    if gone is not None:
        raise gone


def own_daemons() -> list[tuple[str, psutil.Process]]:
    """Of the Ray that this process has started, each with its name."""
    children = [(child.name(), child) for child in psutil.Process().children()]
    return [(name, child) for name, child in children if name in DAEMONS]


def dead(daemons: Sequence[tuple[str, psutil.Process]]) -> RayDied | None:
    """What is to be said of the first that is gone; None where none is."""
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
    """Ends this process as Ray would, but says why. What the trials have is in the store; they read as interrupted."""
    console.error(gone)
    sys.stderr.flush()
    os._exit(gone.exit_code)
