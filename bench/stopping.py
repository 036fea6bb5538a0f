"""Ctrl-C, a polite kill and a terminal that closes: a stop that was asked for once is not forgotten.

Python raises `KeyboardInterrupt` wherever the main thread is at that moment, and libraries lose it: `torch.save` calls
`write` from C++ and reports a RuntimeError, a destructor prints it, a reward may catch everything. So the stop is
counted too, and what must not go on asks whether one has come.
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
"""Signals so soon after one another are one wish: a wrapper that passes Ctrl-C on to a process that has had it."""

AGAIN = "run the same command again to continue"


class _Stops:
    """How often this process was asked to stop, and what it is doing about it."""

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
    """Counts the stops that come while the block runs, and raises `KeyboardInterrupt` for each.

    The second one cuts short what the first one left to do, but for the statuses (see `settling`); the third one ends
    the process whatever it is doing. A signal that was ignored when the process began, as under `nohup`, stays ignored.
    Outside the main thread nothing is listened to.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _stops.forget()
    numbers = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    heard = [number for number in numbers if before[number] not in (signal.SIG_IGN, None)]
    for number in heard:
        signal.signal(number, _stop)
    try:
        yield
    finally:
        for number in heard:
            signal.signal(number, before[number])
        _stops.forget()


def asked() -> int:
    """How often a stop was asked for, since `listening` began."""
    return _stops.count


def forget() -> None:
    """For a command that ends well by being stopped."""
    _stops.forget()


def check() -> None:
    """Raises `KeyboardInterrupt` where a stop was asked for, though it may have been lost since."""
    if _stops.count:
        raise KeyboardInterrupt


@contextmanager
def heeded() -> Iterator[None]:
    """A stop that comes inside the block leaves it as `KeyboardInterrupt`, whatever it was turned into in there."""
    if threading.current_thread() is not threading.main_thread():  # Python stops no other
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
    """What no stop must cut short, and takes seconds: it waits for the end of the block."""
    before = _stops.count
    _stops.settling += 1
    try:
        yield
    finally:
        _stops.settling -= 1
    if _stops.count > before and not _stops.settling:
        raise KeyboardInterrupt


def break_off() -> None:
    """Raises `KeyboardInterrupt` in the main thread, from another one, where nobody has asked to stop."""
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
    """A terminal that is gone answers every line with an error, and nobody reads it."""
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
    """Whatever holds the process, a library or a dead network disk: the store stands a process that is killed."""
    os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, f"ended at once; {AGAIN}\n".encode())
    os._exit(INTERRUPTED)
