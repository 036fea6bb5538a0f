"""How long is left: of a trial from its own pace, of a run from its trials."""

import heapq
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from bench.store.records import Pulse
from bench.store.status import Status

Row = Mapping[str, Any]
"""A trial with at least `variant`, `method`, `status`, `seconds` and `eta_seconds`, in the order of the plan."""


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


def with_etas(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows, in which a running trial that cannot tell yet is expected to take as long as its like."""
    typical = _typical(rows)
    filled = []
    for row in rows:
        eta, whole = row["eta_seconds"], typical(row)
        if row["status"] == Status.RUNNING and eta is None and whole is not None:
            eta = max(0.0, whole - (row["seconds"] or 0.0))
        filled.append({**row, "eta_seconds": eta})
    return filled


def run_eta(rows: Sequence[Row], parallel: int) -> float | None:
    """Seconds until the last trial ends; None where nothing runs, or one cannot be told.

    Args:
        rows: as `with_etas` gives them.
        parallel: trials at a time.
    """
    running = [row["eta_seconds"] for row in rows if row["status"] == Status.RUNNING]
    typical = _typical(rows)
    waiting = [typical(row) for row in rows if row["status"] == Status.PLANNED]
    if not running or None in running or None in waiting:
        return None
    free = sorted(running) + [0.0] * (parallel - len(running))
    heapq.heapify(free)
    for seconds in waiting:
        heapq.heapreplace(free, free[0] + seconds)
    return max(free)


def _typical(rows: Sequence[Row]) -> Callable[[Row], float | None]:
    """What trials like a row take from start to end: of its variant, else of its method, else any."""
    known = [(row, row["seconds"]) for row in rows if row["status"] == Status.DONE and row["seconds"] is not None]
    known += [
        (row, row["seconds"] + row["eta_seconds"])
        for row in rows
        if row["status"] == Status.RUNNING and row["seconds"] is not None and row["eta_seconds"] is not None
    ]
    means: dict[tuple[str, ...], float] = {}
    for keys in (("variant", "method"), ("method",), ()):
        groups: dict[tuple[str, ...], list[float]] = {}
        for row, seconds in known:
            groups.setdefault(tuple(row[key] for key in keys), []).append(seconds)
        means |= {group: fmean(found) for group, found in groups.items()}

    def of(row: Row) -> float | None:
        groups = ((row["variant"], row["method"]), (row["method"],), ())
        return next((means[group] for group in groups if group in means), None)

    return of
