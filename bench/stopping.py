"""Stop requests: Ctrl-C, SIGTERM and a closed terminal, counted so that none is lost.

Python raises `KeyboardInterrupt` wherever the main thread is at that moment, and libraries lose it: `torch.save` calls
`write` from C++ and reports a RuntimeError, a destructor prints it, a reward may catch everything. Stop requests are
therefore counted too, and code that must not go on after one checks the count.
"""

import _thread
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from bench.errors import INTERRUPTED

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")

SAME_SECONDS = 1.0
"""Signals within this time are one stop request: a wrapper may pass on a Ctrl-C that the process received too."""

AGAIN = "run the same command again to continue"


class _Stops:
    """The number of stop requests to this process, the time of the last, and the blocks that delay it."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        self.count = 0
        self.last = -SAME_SECONDS
        self.settling = 0
        self.breaking_off = False


_stops = _Stops()


@contextmanager
def listening() -> Iterator[None]:
    """Counts the stop requests that come while the block runs, and raises `KeyboardInterrupt` for each.

    The second request also cuts short the work after the first, except the writing of statuses (see `settling`); the
    third ends the process at once. A signal that was ignored when the process began, as under `nohup`, stays ignored.
    Outside the main thread the block runs without any of this, as Python delivers signals to the main thread only.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _stops.forget()
    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    handled = [number for number in numbers if before[number] not in (signal.SIG_IGN, None)]
    for number in handled:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number in handled:
            signal.signal(number, before[number])
        _stops.forget()


def requests() -> int:
    """The number of stop requests since `listening` began."""
    return _stops.count


def forget() -> None:
    """Sets the number of stop requests to 0, for a command whose normal end is a stop."""
    _stops.forget()


def check() -> None:
    """Raises `KeyboardInterrupt` if a stop was requested, even if a library has lost the exception since."""
    if _stops.count:
        raise KeyboardInterrupt


@contextmanager
def heeded() -> Iterator[None]:
    """Raises `KeyboardInterrupt` at the end of the block if a stop was requested in it and a library lost that."""
    if threading.current_thread() is not threading.main_thread():  # Python delivers signals to no other
        yield
        return
    before = _stops.count
    try:
        yield
    except Exception as error:
        if _stops.count > before:
            raise KeyboardInterrupt from error
        raise
    if _stops.count > before:
        raise KeyboardInterrupt


@contextmanager
def settling() -> Iterator[None]:
    """Delays a stop until the end of the block, which must not be cut short and takes seconds at most."""
    before = _stops.count
    _stops.settling += 1
    try:
        yield
    finally:
        _stops.settling -= 1
    if _stops.count > before and not _stops.settling:
        raise KeyboardInterrupt


def break_off() -> None:
    """Raises `KeyboardInterrupt` in the main thread from another thread, without counting a stop request."""
    _stops.breaking_off = True
    _thread.interrupt_main(signal.SIGTERM)


def _stop(number: int, frame: FrameType | None) -> None:
    if _stops.breaking_off:
        _stops.breaking_off = False
        raise KeyboardInterrupt
    if hasattr(signal, "SIGHUP") and number == signal.SIGHUP:
        _leave_terminal()
    now = time.monotonic()
    if now - _stops.last < SAME_SECONDS:
        return
    _stops.last = now
    _stops.count += 1
    if _stops.count > 2:
        _end()
    if not _stops.settling:
        raise KeyboardInterrupt


def _leave_terminal() -> None:
    """Redirects output to the null device if its terminal has closed, as every write to it would raise."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        try:
            gone = os.isatty(stream)
        except OSError:
            gone = True
        if gone:
            os.dup2(nowhere, stream)
    os.close(nowhere)


def _end() -> None:
    """Ends the process at once, whatever blocks it; files in the store stay readable when a process is killed."""
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"ended at once; {AGAIN}\n".encode())
    os._exit(INTERRUPTED)
