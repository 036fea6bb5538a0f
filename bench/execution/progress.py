"""Progress of a run, read from the store: a bar a trial on a terminal, plain `key=value` lines otherwise."""

import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

from bench.background import repeating
from bench.store import RunFolder
from bench.trial_folder import TrialFolder
from bench.trial_spec import Budget, Trial, spent

POLL_SECONDS = 0.5
STALE_CHECK_SECONDS = 10.0
"""A running trial from which nothing comes is looked at this often: it may have become stale."""

SHARE = 0.05
"""Of the driver's time that looking may take; with very many trials it looks less often."""

MOST_BARS = 24
"""Above it, finished trials' bars go away."""


ENDED = ("done", "failed", "diverged", "skipped", "pruned")
"""Statuses after which nothing comes in this run; `interrupted` is none, as a stale trial may be heard of again."""


@dataclass(frozen=True)
class View:
    """What can be seen of a trial from outside; `updated` is when its status was written, in seconds since 1970."""

    key: str
    label: str
    status: str
    cause: str | None
    progress: float
    latest: float | None
    points: tuple[dict[str, Any], ...]
    seconds: float | None
    updated: float = 0.0


class Display(Protocol):
    """Shows views as they change."""

    def show(self, view: View) -> None: ...

    def close(self) -> None: ...


def view_of(folder: TrialFolder, label: str, budget: Budget) -> View:
    """The trial as its folder tells it now."""
    record = folder.read()
    curve = folder.read_curve() if record["status"] != "planned" else []
    pulse = folder.pulse()
    latest = pulse.get("latest")
    if latest is None and curve:
        latest = curve[-1]["values"].get("train", {}).get("reward")
    reached = spent_of(budget.axis, curve[-1]["axes"]) / budget.limit if curve else 0.0
    progress = 1.0 if record["status"] == "done" else max(float(pulse.get("progress") or 0.0), min(1.0, reached))
    return View(
        folder.key,
        label,
        record["status"],
        record.get("cause"),
        progress,
        latest,
        tuple(curve),
        record.get("seconds"),
        record.get("updated", 0.0),
    )


def spent_of(axis: str, axes: dict[str, Any]) -> float:
    """What a point had spent of a budget axis."""
    return float(spent(axis, axes))


class Bars:
    """One rich progress bar a trial."""

    STYLES = {"done": "green", "running": "cyan", "failed": "red", "diverged": "red", "interrupted": "yellow"}  # noqa: RUF012

    def __init__(self, count: int, stream: TextIO):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

        self.crowded = count > MOST_BARS
        self.tasks: dict[str, Any] = {}
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TaskProgressColumn(),
            TextColumn("{task.fields[latest]}", justify="right"),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[status]}"),
            console=Console(file=stream),
            refresh_per_second=4,
        )
        self.progress.start()

    def show(self, view: View) -> None:
        if view.status == "planned":
            return
        if view.key not in self.tasks:
            self.tasks[view.key] = self.progress.add_task(view.label, total=1.0, latest="", status="")
        style = self.STYLES.get(view.status, "white")
        words = view.status if not view.cause else f"{view.status}: {view.cause}"
        self.progress.update(
            self.tasks[view.key],
            completed=view.progress,
            latest=f"reward {view.latest:.3f}" if view.latest is not None else "",
            status=f"[{style}]{_escaped(words)}[/]",
            visible=not (self.crowded and view.status == "done"),
        )

    def close(self) -> None:
        self.progress.stop()


class Lines:
    """A line for each change: `trial=ddpo-s0-1a2b3c4d point=3 reward_queries=768 progress=38% reward=5.31`."""

    def __init__(self, budget: Budget, stream: TextIO, known: dict[str, int] | None = None):
        """`known`: points that an earlier run left, which are no news."""
        self.budget = budget
        self.stream = stream
        self.seen = {key: ("planned", points) for key, points in (known or {}).items()}

    def show(self, view: View) -> None:
        status, points = self.seen.get(view.key, ("planned", 0))
        if view.status != status and view.status == "running":
            self._say(view, "status=running")
        for point in view.points[points:] if len(view.points) > points else ():
            self._say(view, self._point(point))
        if view.status not in (status, "running", "planned"):
            parts = [f"status={view.status}"]
            if view.latest is not None:
                parts.append(f"reward={view.latest:.4f}")
            if view.seconds is not None:
                parts.append(f"seconds={view.seconds:.0f}")
            if view.cause:
                parts.append(f'cause="{view.cause}"')
            self._say(view, *parts)
        self.seen[view.key] = (view.status, len(view.points))

    def _point(self, point: dict[str, Any]) -> str:
        parts = [f"point={point['point']}"]
        spent = spent_of(self.budget.axis, point["axes"])
        parts.append(f"{self.budget.axis}={spent:.0f} progress={spent / self.budget.limit:.0%}")
        for split, metrics in point["values"].items():
            reward = metrics.get("reward", math.nan)
            parts.append(f"{'reward' if split == 'train' else f'{split}_reward'}={reward:.4f}")
        return " ".join(parts)

    def _say(self, view: View, *parts: str) -> None:
        print(f"trial={view.key}", *parts, file=self.stream, flush=True)

    def close(self) -> None:
        return


@contextmanager
def watching(trials: Sequence[Trial], run: RunFolder, stream: TextIO | None = None) -> Iterator[None]:
    """Shows the trials' progress on `stream` (standard error) while the block runs them."""
    stream = stream or sys.stderr
    if not trials:
        yield
        return
    folders = {trial.key: run.trial(trial.key) for trial in trials}
    known = {key: len(folder.read_curve()) for key, folder in folders.items()}
    display: Display = Bars(len(trials), stream) if stream.isatty() else Lines(trials[0].budget, stream, known)
    since = time.time()

    watched = [_Watched(trial, folders[trial.key]) for trial in trials]
    rest = 0.0  # until when not to look again

    def look() -> None:
        ended = False
        for each in watched:
            if each.changed():
                view = each.view(since)
                if view is not None:
                    display.show(view)
                ended = ended or each.ended
        if ended:
            watched[:] = [each for each in watched if not each.ended]

    def poll() -> None:
        nonlocal rest
        begun = time.monotonic()
        if begun < rest:
            return
        look()
        took = time.monotonic() - begun
        rest = begun + took / SHARE

    try:
        # A file that is just being replaced cannot be read: look again.
        with repeating(poll, POLL_SECONDS, "progress", retry_on=(OSError, ValueError)):
            yield
    finally:
        look()
        display.close()


class _Watched:
    """A trial that is looked at: its files are read where they have changed, and no more once it has ended."""

    def __init__(self, trial: Trial, folder: TrialFolder):
        self.trial, self.folder = trial, folder
        self.ended = False
        self._stamps: tuple[int, ...] | None = None
        self._running = False
        self._read_at = 0.0

    def changed(self) -> bool:
        """Whether it may look different from the last `view`."""
        return self.folder.stamps() != self._stamps or (
            self._running and time.monotonic() - self._read_at > STALE_CHECK_SECONDS
        )

    def view(self, since: float) -> View | None:
        """What is to be shown now; None for what an earlier run left, before `since`.

        That says nothing about this run until the trial begins again.
        """
        stamps = self.folder.stamps()  # before reading: what changes meanwhile is read once more
        view = view_of(self.folder, f"{self.trial.variant} · seed {self.trial.seed}", self.trial.budget)
        self._stamps, self._running, self._read_at = stamps, view.status == "running", time.monotonic()
        if view.updated < since:
            return None
        self.ended = view.status in ENDED
        return view


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text if len(text) <= 60 else text[:59] + "…")
