"""`bench status`: shows the status of every trial of a run, live or afterwards."""

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from bench import console, stopping
from bench.commands.shared import PLACE, RUNS, debug_option, find_run, json_option
from bench.errors import BenchError, one_line
from bench.store.status import Status

if TYPE_CHECKING:
    from rich.console import RenderableType

    from bench.store.run_folder import RunFolder

WATCH_SECONDS = 2.0
FIRST = (Status.RUNNING, Status.FAILED, Status.DIVERGED, Status.INTERRUPTED)
"""The statuses whose trials `--watch` shows first on a terminal that is too small for all trials."""

COLUMNS = ("trial", "status", "progress", "reward", "time", "left")
CAUSES_WATCHED = 3
OTHER_COLUMNS = 47
"""The most characters that the columns other than the trial's name take."""
NAMES_AT_LEAST = 20


@click.command("status", short_help="Show the status of a run's trials.")
@click.argument("run", required=False)
@click.option(
    "--watch",
    is_flag=False,
    flag_value=str(WATCH_SECONDS),
    metavar="[SECONDS]",
    help=f"Refresh every SECONDS ({WATCH_SECONDS:g} by default) until nothing is left to run, or Ctrl-C.",
)
@json_option
@debug_option
def command(run: str | None, watch: str | None, as_json: bool) -> None:
    """Show the trials of RUN (a run's folder, name, URL or sweep file); without RUN, list the runs in runs/.

    While the run's methods are tuned, the trials are those of the tuning.
    """
    seconds, run = _watched(watch, run)
    if seconds is not None and (as_json or run is None):
        what = "--json cannot be watched" if as_json else "there is no RUN to watch"
        raise BenchError(what, "--watch", "bench status RUN --watch")
    if run is None:
        _show_runs(as_json)
    elif seconds is not None:
        _watch(run, seconds)
    elif as_json:
        console.say_json(list(map(asdict, trial_rows(_find(run)))))
    else:
        found = _find(run)
        _show_trials(trial_rows(found), _parallel(found))


def _find(run: str) -> "RunFolder":
    """The comparison or its tuning, whichever `bench run` wrote last; fetches the records of a run behind a URL."""
    from bench.store.remote.fetching import RECORDS

    return find_run(PLACE.convert(run, None, None), RECORDS).latest()


@dataclass
class Row:
    """A trial of the plan as it stands; `--json` has these fields in this order.

    Attributes:
        points: the number of points of its curve.
        axes: axis -> what the trial has spent.
        progress: fraction of the budget spent.
        reward: the latest reward on training prompts.
        seconds: the time that the trial has taken.
        eta_seconds: the time until its end; None if it cannot be estimated.
        damage: problems of the trial's files, mended ones included.
    """

    trial: str
    method: str
    variant: str
    seed: int
    status: Status
    cause: str | None
    points: int
    axes: dict[str, int | float]
    progress: float
    reward: float | None
    seconds: float | None
    eta_seconds: float | None
    damage: list[str]


def trial_rows(run: "RunFolder") -> list[Row]:
    """A row for every trial of the plan.

    A trial's status is read before its curve, so that the curve has every point of a trial whose status is `done`.
    """
    from bench.build.trial_spec import Budget
    from bench.run.eta import with_etas
    from bench.run.progress import view_of

    plan = run.plan_record()
    budget = Budget.model_validate((plan.budget or run.whole_plan().budget).stored())
    rows = []
    for planned in plan.trials:
        view = view_of(run.trial(planned.trial), planned.variant, budget)
        axes = view.points[-1].axes if view.points else {}
        # A resumed trial's `seconds` are its last attempt's; its meter counts earlier attempts too.
        seconds = max(view.seconds or 0.0, axes.get("wall_seconds", 0.0)) or view.seconds
        rows.append(
            Row(
                trial=planned.trial,
                method=planned.method,
                variant=planned.variant,
                seed=planned.seed,
                status=view.status,
                cause=view.cause,
                points=len(view.points),
                axes=axes,
                progress=view.progress,
                reward=view.latest,
                seconds=seconds,
                eta_seconds=view.eta_seconds,
                damage=list(view.damage),
            )
        )
    return with_etas(rows)


def _watched(watch: str | None, run: str | None) -> tuple[float | None, str | None]:
    """The seconds between refreshes, and the run, which click takes for the seconds in `--watch RUN`."""
    if watch is None:
        return None, run
    try:
        seconds = float(watch)
    except ValueError:
        if run is None:
            return WATCH_SECONDS, watch
        raise BenchError(f"{watch!r} is no number of seconds", "--watch") from None
    if not 0.1 <= seconds <= 3600:
        raise BenchError(f"{watch} is not within 0.1 and 3600 seconds", "--watch")
    return seconds, run


def _show_runs(as_json: bool) -> None:
    rows = _runs()
    if as_json:
        console.say_json(rows)
    elif not rows:
        console.say(f"no runs in {RUNS}/; start with: bench run quickstart")
    else:
        columns = ["run", "trials", "done", "running", "broken", "left"]
        cells = [
            {
                **row,
                "run": f"{row['run']} (tuning)" if row["tuning"] else row["run"],
                "left": console.duration(row["eta_seconds"]),
            }
            for row in rows
        ]
        console.table(columns, [[row[column] for column in columns] for row in cells], right=columns[1:])


def _runs() -> list[dict[str, Any]]:
    from bench.run.eta import run_eta
    from bench.store.run_folder import TUNING, RunFolder

    rows = []
    for folder in sorted(RUNS.glob("*/")) if RUNS.is_dir() else []:
        run = RunFolder(folder).latest()
        if not run.exists():
            continue
        trials = trial_rows(run)
        statuses = [row.status for row in trials]
        rows.append(
            {
                "run": str(folder),
                "tuning": run.path.name == TUNING,
                "trials": len(statuses),
                "done": statuses.count(Status.DONE),
                "running": statuses.count(Status.RUNNING),
                "broken": sum(status.broken for status in statuses),
                "eta_seconds": run_eta(trials, _parallel(run)),
            }
        )
    return rows


def _parallel(run: "RunFolder") -> int:
    return run.plan_record().parallel


def _show_trials(rows: list[Row], parallel: int) -> None:
    console.table(COLUMNS, map(_cells, rows), right=COLUMNS[2:])
    for line in [*_causes(rows), *(f"{row.trial}: {text}" for row in rows for text in row.damage)]:
        console.say(line)
    console.say(_totals(rows, parallel))


def _cells(row: Row) -> tuple[str, ...]:
    began = row.status != Status.PLANNED
    return (
        row.trial,
        row.status,
        f"{row.progress:.0%}" if began else "",
        console.value(row.reward),
        console.duration(row.seconds),
        console.duration(row.eta_seconds),
    )


def _causes(rows: Sequence[Row]) -> list[str]:
    """A line for each cause, `ddpo-s0-1a2b3c4d and 2 more: failed: CAUSE`."""
    alike: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.status.stopped:
            alike.setdefault((row.status, row.cause or "no cause was recorded"), []).append(row.trial)
    return [
        f"{trials[0]}{f' and {len(trials) - 1} more' if len(trials) > 1 else ''}: {status}: {cause}"
        for (status, cause), trials in alike.items()
    ]


def _totals(rows: list[Row], parallel: int) -> str:
    from bench.run.eta import run_eta
    from bench.run.progress import totals

    return totals(rows, run_eta(rows, parallel))


def _watch(where: str, seconds: float) -> None:
    """Prints the trials every `seconds` until nothing is left to run; on a terminal the table is redrawn in place."""
    from rich.console import Console
    from rich.live import Live

    try:
        if not sys.stdout.isatty():
            while True:
                run = _find(where)
                rows = trial_rows(run)
                _show_trials(rows, _parallel(run))
                if _is_over(rows, where):
                    return
                time.sleep(seconds)
        terminal = Console(highlight=False)
        run = _find(where)
        rows = trial_rows(run)
        with Live(_screen(rows, _parallel(run), *terminal.size), console=terminal, auto_refresh=False) as live:
            while not _is_over(rows, where):
                time.sleep(seconds)
                rows = trial_rows(run := _find(where))
                live.update(_screen(rows, _parallel(run), *terminal.size), refresh=True)
    except KeyboardInterrupt:
        stopping.forget()  # Ctrl-C is the usual end


def _is_over(rows: Sequence[Row], where: str) -> bool:
    """Whether nothing is left to run. A tuning whose trials have ended may have another round, and the comparison."""
    return not any(row.status.left_to_run for row in rows) and not _is_written(where)


def _rank(row: Row) -> int:
    return FIRST.index(row.status) if row.status in FIRST else len(FIRST)


def _is_written(where: str) -> bool:
    """Whether a `bench run` is writing the run now."""
    from bench.store.remote.lease import Lease
    from bench.store.remote.place import Place
    from bench.store.run_folder import RunFolder

    place = PLACE.convert(where, None, None)
    if isinstance(place, Place):
        return Lease(place).held()
    run = find_run(place)
    return run.locked() or RunFolder(run.path.parent).locked()  # a tuning has no lock of its own


def _screen(rows: list[Row], parallel: int, width: int, height: int) -> "RenderableType":
    """The table of trials, the first causes and the totals, cut to the terminal's size."""
    from rich.console import Group
    from rich.text import Text

    causes = _causes(rows)
    lines = [Text(one_line(line), no_wrap=True, overflow="ellipsis") for line in causes[:CAUSES_WATCHED]]
    room = max(1, height - len(lines) - 7)  # the table's frame, the note on trials left out, the totals, the cursor
    shown = rows
    if len(rows) > room:
        shown = sorted(rows, key=_rank)[:room]
        lines.append(Text(f"and {len(rows) - room} trials that this terminal has no room for", style="dim"))
    names = max(NAMES_AT_LEAST, width - OTHER_COLUMNS)
    cells = [(console.shortened(row.trial, names), *_cells(row)[1:]) for row in shown]
    table = console.as_table(COLUMNS, cells, right=COLUMNS[2:])
    return Group(table, *lines, Text(_totals(rows, parallel), no_wrap=True, overflow="ellipsis"))
