"""`bench status`: how the trials of a run stand, live or afterwards."""

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
"""What `--watch` shows first where a terminal is too small for all trials."""

COLUMNS = ("trial", "status", "progress", "reward", "time", "left")
CAUSES_WATCHED = 3
OTHER_COLUMNS = 47
"""What stands beside a trial's name takes so many characters at most."""
NAMES_AT_LEAST = 20


@click.command("status", short_help="Show the status of a run's trials.")
@click.argument("run", required=False)
@click.option(
    "--watch",
    is_flag=False,
    flag_value=str(WATCH_SECONDS),
    metavar="[SECONDS]",
    help=f"Look again every so many seconds ({WATCH_SECONDS:g}) until nothing is left to run, or Ctrl-C.",
)
@json_option
@debug_option
def command(run: str | None, watch: str | None, as_json: bool) -> None:
    """Show the trials of RUN (a run's folder, name, URL or sweep file); without RUN, list the runs in runs/.

    While the run's methods are tuned, the trials are those of the tuning.
    """
    seconds, run = _watched(watch, run)
    if seconds is not None and (as_json or run is None):
        what = "--json is for one look" if as_json else "there is no RUN to watch"
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
    """What `bench run` is at or was last: the run, or its tuning; of one behind a URL, its records as they are now."""
    from bench.store.remote.fetching import records

    return find_run(PLACE.convert(run, None, None), records).latest()


@dataclass
class Row:
    """A trial of the plan as it stands; `--json` has these fields in this order.

    Attributes:
        points: of its curve.
        axes: what it has spent so far.
        progress: fraction of the budget spent.
        reward: the latest, on the training prompts.
        seconds: so far.
        eta_seconds: until its end; None where it cannot be known.
        damage: what is and was the matter with its files.
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

    A trial's status is read once, and its curve after it, so that no point is missing of what the status speaks of.
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
        # Of a trial that was resumed, `seconds` are the last attempt's; its meter counts those before too.
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
    """Seconds between looks, and the run: in `--watch RUN`, what follows is no number."""
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
    """`ddpo-s0-1a2b3c4d: failed: why`, and how many others ended so."""
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
    """Shows the trials again and again, in place on a terminal."""
    from rich.console import Console
    from rich.live import Live

    try:
        if not sys.stdout.isatty():
            while True:
                run = _find(where)
                rows = trial_rows(run)
                _show_trials(rows, _parallel(run))
                if _over(rows, where):
                    return
                time.sleep(seconds)
        screen = Console(highlight=False)
        run = _find(where)
        rows = trial_rows(run)
        with Live(_picture(rows, _parallel(run), *screen.size), console=screen, auto_refresh=False) as live:
            while not _over(rows, where):
                time.sleep(seconds)
                rows = trial_rows(run := _find(where))
                live.update(_picture(rows, _parallel(run), *screen.size), refresh=True)
    except KeyboardInterrupt:
        stopping.forget()  # that is how it ends


def _over(rows: Sequence[Row], where: str) -> bool:
    """Whether nothing is left to run. After its last trial a tuning may have another round, and its comparison."""
    return not any(row.status.left_to_run for row in rows) and not _written(where)


def _place(row: Row) -> int:
    return FIRST.index(row.status) if row.status in FIRST else len(FIRST)


def _written(where: str) -> bool:
    """Whether a `bench run` is writing the run."""
    from bench.store.remote.lease import Lease
    from bench.store.remote.place import Place
    from bench.store.run_folder import RunFolder

    place = PLACE.convert(where, None, None)
    if isinstance(place, Place):
        return Lease(place).held()
    run = find_run(place)
    return run.locked() or RunFolder(run.path.parent).locked()  # a tuning has no lock of its own


def _picture(rows: list[Row], parallel: int, width: int, height: int) -> "RenderableType":
    """What fits on a terminal: a line a trial, the first causes, the totals."""
    from rich.console import Group
    from rich.text import Text

    causes = _causes(rows)
    lines = [Text(one_line(line), no_wrap=True, overflow="ellipsis") for line in causes[:CAUSES_WATCHED]]
    room = max(1, height - len(lines) - 7)  # the table's frame, what is left out, the totals, the cursor
    shown = rows
    if len(rows) > room:
        shown = sorted(rows, key=_place)[:room]
        lines.append(Text(f"and {len(rows) - room} trials that this terminal has no room for", style="dim"))
    names = max(NAMES_AT_LEAST, width - OTHER_COLUMNS)
    cells = [(console.shortened(row.trial, names), *_cells(row)[1:]) for row in shown]
    table = console.as_table(COLUMNS, cells, right=COLUMNS[2:])
    return Group(table, *lines, Text(_totals(rows, parallel), no_wrap=True, overflow="ellipsis"))
