"""How long is left: of a trial from its own pace, of a run from its trials."""

import heapq
import time
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from statistics import fmean
from typing import Protocol, TypeVar

from bench.store.records import Pulse
from bench.store.status import Status


class Timed(Protocol):
    """A trial of the plan: how long it took, or has taken so far, and how long it needs yet."""

    variant: str
    method: str
    status: Status
    seconds: float | None
    eta_seconds: float | None


T = TypeVar("T", bound=Timed)


@dataclass
class Timing:
    """The least that is `Timed`."""

    variant: str
    method: str
    status: Status = Status.PLANNED
    seconds: float | None = None
    eta_seconds: float | None = None


def eta_of(pulse: Pulse, now: float | None = None) -> float | None:
    """Seconds that a running trial needs yet; None before the second step of this attempt.

    The pace is taken between the first step of this attempt and the last: loading, and what an attempt before it
    did, say nothing about the steps to come; the evaluations between them do.

    Args:
        pulse: its last heartbeat.
        now: the time, in seconds since the epoch.
    """
    since, moved = pulse.since, pulse.moved
    if since is None or moved is None:
        return None
    gained = pulse.progress - since.progress
    if gained <= 0:
        return None
    left = (moved - since.time) / gained * (1.0 - pulse.progress)
    return max(0.0, left - ((time.time() if now is None else now) - moved))


def with_etas(rows: Sequence[T]) -> list[T]:
    """Copies of the rows, in which a running trial that cannot tell yet is expected to take as long as its like."""
    typical = _typical(rows)
    filled = []
    for row in rows:
        new, whole = copy(row), typical(row)
        if row.status == Status.RUNNING and row.eta_seconds is None and whole is not None:
            new.eta_seconds = max(0.0, whole - (row.seconds or 0.0))
        filled.append(new)
    return filled


def run_eta(rows: Sequence[Timed], parallel: int) -> float | None:
    """Seconds until the last trial ends; None where nothing runs, or one cannot be told.

    Args:
        rows: as `with_etas` gives them, in the order of the plan.
        parallel: trials at a time.
    """
    typical = _typical(rows)
    going = [row.eta_seconds for row in rows if row.status == Status.RUNNING]
    waiting = [typical(row) for row in rows if row.status == Status.PLANNED]
    running = [seconds for seconds in going if seconds is not None]
    if not running or len(running) < len(going) or None in waiting:
        return None
    free = sorted(running) + [0.0] * (parallel - len(running))
    heapq.heapify(free)
    for seconds in waiting:
        assert seconds is not None
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


def _typical(rows: Sequence[Timed]) -> Callable[[Timed], float | None]:
    """What trials like a row take from start to end: of its variant, else of its method, else any."""
    known = [(row, row.seconds) for row in rows if row.status == Status.DONE and row.seconds is not None]
    known += [
        (row, row.seconds + row.eta_seconds)
        for row in rows
        if row.status == Status.RUNNING and row.seconds is not None and row.eta_seconds is not None
    ]
    means: dict[tuple[str, ...], float] = {}
    for keys in (("variant", "method"), ("method",), ()):
        groups: dict[tuple[str, ...], list[float]] = {}
        for row, seconds in known:
            groups.setdefault(tuple(getattr(row, key) for key in keys), []).append(seconds)
        means |= {group: fmean(found) for group, found in groups.items()}

    def of(row: Timed) -> float | None:
        groups = ((row.variant, row.method), (row.method,), ())
        return next((means[group] for group in groups if group in means), None)

    return of
