"""Estimates of the time until a trial ends, from its pace, and until a run ends, from its trials."""

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
    """A trial of the plan with the seconds that it has taken, and those that it still needs."""

    variant: str
    method: str
    status: Status
    seconds: float | None
    eta_seconds: float | None


T = TypeVar("T", bound=Timed)


@dataclass
class Timing:
    """A `Timed` with no other fields."""

    variant: str
    method: str
    status: Status = Status.PLANNED
    seconds: float | None = None
    eta_seconds: float | None = None


def eta_of(pulse: Pulse, now: float | None = None) -> float | None:
    """Seconds until a running trial ends; None before the second step of this attempt.

    The pace is measured from the first step of this attempt to the last one, evaluations included; loading and earlier
    attempts are left out.

    Args:
        pulse: the trial's last heartbeat.
        now: the time in seconds since 1970; the current time by default.
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
    """Copies of the rows; a running trial without an estimate gets one from the duration of similar trials."""
    typical = _typical(rows)
    filled = []
    for row in rows:
        new, whole = copy(row), typical(row)
        if row.status == Status.RUNNING and row.eta_seconds is None and whole is not None:
            new.eta_seconds = max(0.0, whole - (row.seconds or 0.0))
        filled.append(new)
    return filled


def run_eta(rows: Sequence[Timed], parallel: int) -> float | None:
    """Seconds until the last trial ends; None if no trial runs or a trial has no estimate.

    Args:
        rows: the result of `with_etas`, in the order of the plan.
        parallel: how many trials run at a time.
    """
    typical = _typical(rows)
    estimates = [row.eta_seconds for row in rows if row.status == Status.RUNNING]
    waiting = [typical(row) for row in rows if row.status == Status.PLANNED]
    running = [seconds for seconds in estimates if seconds is not None]
    if not running or len(running) < len(estimates) or None in waiting:
        return None
    free = sorted(running) + [0.0] * (parallel - len(running))
    heapq.heapify(free)
    for seconds in waiting:
        assert seconds is not None
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


def _typical(rows: Sequence[Timed]) -> Callable[[Timed], float | None]:
    """A function of a trial that gives the mean seconds of its variant's trials, else of its method's, else of all."""
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
        means |= {group: fmean(values) for group, values in groups.items()}

    def mean(row: Timed) -> float | None:
        groups = ((row.variant, row.method), (row.method,), ())
        return next((means[group] for group in groups if group in means), None)

    return mean
