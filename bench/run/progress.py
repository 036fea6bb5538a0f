"""Progress of a run, read from the store: a bar for each trial on a terminal, `key=value` lines otherwise."""

import math
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

from bench.background import repeating
from bench.build.trial_spec import Budget, Trial
from bench.console import duration, plural
from bench.run.eta import Timed, Timing, eta_of, run_eta, with_etas
from bench.run.tracking.follow import problems, tracking_folder
from bench.store.records import Point
from bench.store.run_folder import RunFolder
from bench.store.status import Status
from bench.store.trial_folder import TrialFolder
from models.ledger import spent

POLL_SECONDS = 0.5
SPARE_LINES = 4
"""Lines of a terminal that bars leave free. If not every trial's bar fits, those of trials that ended are hidden."""

STALE_CHECK_SECONDS = 10.0
"""How often a running trial whose files do not change is read again, since it may have become stale."""

POLL_SHARE = 0.05
"""The largest share of the driver's time that polling may take; with very many trials it polls less often."""


@dataclass(frozen=True)
class View:
    """The state of a trial as its files show it.

    Attributes:
        progress: fraction of the budget spent.
        latest: the latest training reward.
        seconds: the time that the trial took, or that its current attempt has taken.
        eta_seconds: the time until a running trial ends; None if it cannot be estimated.
        updated: when the status was written, in seconds since 1970.
        damage: problems of the trial's files, mended ones included (see `TrialFolder.problems`).
    """

    key: str
    label: str
    status: Status
    cause: str | None
    progress: float
    latest: float | None
    points: tuple[Point, ...]
    seconds: float | None
    eta_seconds: float | None = None
    updated: float = 0.0
    damage: tuple[str, ...] = ()


class Display(Protocol):
    """A display that shows each trial's view when it has changed."""

    def show(self, view: View) -> None: ...

    def warn(self, text: str) -> None: ...

    def close(self) -> None: ...


def view_of(folder: TrialFolder, label: str, budget: Budget) -> View:
    """The current state of the trial in `folder`; `label` is its name on the display."""
    record = folder.read()
    curve = folder.read_curve() if record.status != Status.PLANNED else []
    pulse = folder.pulse()
    latest = pulse.latest if pulse else None
    if latest is None and curve:
        latest = curve[-1].values.get("train", {}).get("reward")
    reached = spent(budget.axis, curve[-1].axes) / budget.limit if curve else 0.0
    status = record.status
    progress = 1.0 if status == Status.DONE else max(float(pulse.progress) if pulse else 0.0, min(1.0, reached))
    running = status == Status.RUNNING
    return View(
        folder.key,
        label,
        status,
        record.cause,
        progress,
        latest,
        tuple(curve),
        time.time() - record.started if running and record.started else record.seconds,
        eta_of(pulse) if running and pulse else None,
        record.updated or 0.0,
        tuple(folder.problems()),
    )


class Bars:
    """A progress bar for each trial on a terminal, and a line of totals."""

    def __init__(self, trials: Sequence[Trial], stream: TextIO, parallel: int = 1):
        from rich.console import Console
        from rich.live import Live
        from rich.progress import BarColumn, Progress, TextColumn
        from rich.table import Column

        self.parallel = parallel
        self.rows = {trial.key: Timing(trial.variant, trial.method) for trial in trials}
        self.seeds = {trial.key: trial.seed for trial in trials}
        self.tasks: dict[str, Any] = {}
        self.console = Console(file=stream, highlight=False)
        self.crowded = len(trials) > self.console.height - SPARE_LINES
        self.progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=Column(ratio=3, no_wrap=True)),
            TextColumn("seed {task.fields[seed]}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=None, table_column=Column(ratio=2)),
            *(
                TextColumn(f"{{task.fields[{field}]}}", justify=justify, table_column=Column(width=width))  # type: ignore[arg-type]
                for field, justify, width in (("share", "right", 4), ("latest", "right", 14), ("left", "right", 11))
            ),
            TextColumn("{task.fields[status]}", table_column=Column(width=11)),
            console=self.console,
            expand=True,
        )
        self.live = Live(self, console=self.console, refresh_per_second=4)
        self.live.start()

    def show(self, view: View) -> None:
        if view.status == Status.PLANNED:
            return
        if view.key not in self.tasks:
            seed = self.seeds[view.key]
            task = self.progress.add_task(view.label, total=1.0, seed=seed, share="", latest="", left="", status="")
            self.tasks[view.key] = task
        row = self.rows[view.key]
        before = row.status
        row.status, row.seconds, row.eta_seconds = view.status, view.seconds, view.eta_seconds
        ended = view.status != Status.RUNNING
        if ended and view.status != before and view.cause:
            self.warn(f"{view.key}: {view.status}: {view.cause}")
        self.progress.update(
            self.tasks[view.key],
            completed=view.progress,
            share=f"{view.progress:.0%}",
            latest=f"reward {view.latest:.3f}" if view.latest is not None else "",
            left=_duration(view.seconds, "in {}") if ended else _duration(view.eta_seconds, "{} left"),
            status=f"[{view.status.style}]{view.status}[/]",
            visible=not (self.crowded and ended),
        )

    def warn(self, text: str) -> None:
        """Prints a line above the bars."""
        self.console.print(text, markup=False, soft_wrap=True)

    def close(self) -> None:
        self.live.update(self, refresh=True)
        self.live.stop()

    def __rich__(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        rows = with_etas(list(self.rows.values()))
        summary = totals(rows, run_eta(rows, self.parallel))
        return Group(self.progress, Text(summary, no_wrap=True, overflow="ellipsis"))


class Lines:
    """Prints a line for each change: `trial=ddpo-s0-1a2b3c4d point=3 reward_queries=768 progress=38% reward=5.31`."""

    def __init__(self, budget: Budget, stream: TextIO, old_points: dict[str, int] | None = None):
        """`old_points`: trial -> number of points from an earlier run, which are not printed."""
        self.budget = budget
        self.stream = stream
        self.printed = {key: (Status.PLANNED, points) for key, points in (old_points or {}).items()}

    def show(self, view: View) -> None:
        status, points = self.printed.get(view.key, (Status.PLANNED, 0))
        if view.status != status and view.status == Status.RUNNING:
            self._print(view, "status=running")
        for point in view.points[points:] if len(view.points) > points else ():
            self._print(view, self._point(point))
        if view.status not in (status, Status.RUNNING, Status.PLANNED):
            parts = [f"status={view.status}"]
            if view.latest is not None:
                parts.append(f"reward={view.latest:.4f}")
            if view.seconds is not None:
                parts.append(f"seconds={view.seconds:.0f}")
            if view.cause:
                parts.append(f'cause="{view.cause}"')
            self._print(view, *parts)
        self.printed[view.key] = (view.status, len(view.points))

    def _point(self, point: Point) -> str:
        parts = [f"point={point.point}"]
        cost = spent(self.budget.axis, point.axes)
        parts.append(f"{self.budget.axis}={cost:.0f} progress={cost / self.budget.limit:.0%}")
        for split, metrics in point.values.items():
            reward = metrics.get("reward", math.nan)
            parts.append(f"{'reward' if split == 'train' else f'{split}_reward'}={reward:.4f}")
        return " ".join(parts)

    def _print(self, view: View, *parts: str) -> None:
        print(f"trial={view.key}", *parts, file=self.stream, flush=True)

    def warn(self, text: str) -> None:
        print(f"warning: {text}", file=self.stream, flush=True)

    def close(self) -> None:
        return


def totals(rows: Sequence[Timed], eta_seconds: float | None) -> str:
    """The line of totals: `6 trials, ~4m10s left: 3 done, 2 running, 1 failed`."""
    counts = Counter(row.status for row in rows)
    parts = ", ".join(f"{counts[status]} {status}" for status in Status if counts[status])
    left = f", ~{duration(eta_seconds)} left" if eta_seconds is not None else ""
    return f"{plural(len(rows), 'trial')}{left}: {parts}"


def _duration(seconds: float | None, template: str) -> str:
    return template.format(duration(seconds)) if seconds is not None else ""


@contextmanager
def watching(trials: Sequence[Trial], run: RunFolder, stream: TextIO | None = None) -> Iterator[None]:
    """Shows the trials' progress on `stream` (standard error) while the block runs them."""
    stream = stream or sys.stderr
    if not trials:
        yield
        return
    folders = {trial.key: run.trial(trial.key) for trial in trials}
    old_points = {key: len(folder.read_curve()) for key, folder in folders.items()}
    display: Display = (
        Bars(trials, stream, run.plan_record().parallel)
        if stream.isatty()
        else Lines(trials[0].budget, stream, old_points)
    )
    since = time.time()
    trackers_warned: set[str] = set()
    printed: set[str] = set()
    watched = [_Watched(trial, folders[trial.key]) for trial in trials]
    next_poll = 0.0

    def warn(folder: TrialFolder) -> None:
        for warning in folder.warnings().values():
            if warning.text not in printed:  # once in a run: often every trial has the same warning
                printed.add(warning.text)
                display.warn(f"{folder.key}: {warning.text}")
        for tracker, problem in problems(folder).items():
            if tracker not in trackers_warned:  # once in a run: a tracker usually fails for every trial
                trackers_warned.add(tracker)
                where = tracking_folder(folder) / f"{tracker}.log"
                display.warn(f"{tracker} fails and trials go on without it: {problem} ({where})")

    def refresh() -> None:
        ended = False
        for each in watched:
            if each.changed():
                view = each.view(since)
                if view is not None:
                    display.show(view)
                    warn(each.folder)
                ended = ended or each.ended
        if ended:
            watched[:] = [each for each in watched if not each.ended]

    def poll() -> None:
        nonlocal next_poll
        begun = time.monotonic()
        if begun < next_poll:
            return
        refresh()
        took = time.monotonic() - begun
        next_poll = begun + took / POLL_SHARE

    try:
        # A file cannot be read while it is replaced; the next poll reads it.
        with repeating(poll, POLL_SECONDS, "progress", retry_on=(OSError, ValueError)):
            yield
    finally:
        refresh()
        for folder in folders.values():  # a tracker may report a problem after its trial's end
            warn(folder)
        display.close()


class _Watched:
    """A trial whose files are read when they have changed, until the trial has ended."""

    def __init__(self, trial: Trial, folder: TrialFolder):
        self.trial, self.folder = trial, folder
        self.ended = False
        self._stamps: tuple[object, ...] | None = None
        self._running = False
        self._read_at = 0.0

    def changed(self) -> bool:
        """Whether the trial's state may differ from the last `view`."""
        return self.folder.stamps() != self._stamps or (
            self._running and time.monotonic() - self._read_at > STALE_CHECK_SECONDS
        )

    def view(self, since: float) -> View | None:
        """The trial's current state; None if its status was last written before `since`, by an earlier run."""
        stamps = self.folder.stamps()  # before reading, so that a change meanwhile is read next time
        view = view_of(self.folder, self.trial.variant, self.trial.budget)
        self._stamps, self._running, self._read_at = stamps, view.status == Status.RUNNING, time.monotonic()
        if view.updated < since:
            return None
        self.ended = view.status.ended
        return view
