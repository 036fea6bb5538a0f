"""Options and helpers that several verbs share."""

import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bench import console
from bench.errors import BenchError
from bench.store.remote.place import Place, is_url

if TYPE_CHECKING:
    from bench.store.remote.mirror import Mirror
    from bench.store.run_folder import RunFolder
    from bench.sweep.load import LoadedSweep
    from reports.tables.table import Table

F = TypeVar("F", bound=Callable[..., Any])

RUNS = Path("runs")


class PlaceType(click.ParamType):
    """A local folder as a `Path`, or a URL as a `Place`."""

    name = "place"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | Place:
        if isinstance(value, str):
            return Place(value) if is_url(value) else Path(value)
        return value


PLACE = PlaceType()


def sweep_options(command: F) -> F:
    """Adds the argument SWEEP (a file, or the name of an installed sweep) and the options `--scale` and `--set`."""
    command = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="PATH=VALUE",
        help="Override a value, e.g. budget.reward_queries=500.",
    )(command)
    command = click.option("--scale", metavar="NAME", help="Apply scales.NAME of the sweep, e.g. paper.")(command)
    return click.argument("sweep", type=click.Path(path_type=Path), metavar="SWEEP")(command)


def out_option(command: F) -> F:
    """Adds `--out`, the run's folder or URL."""
    text = "The run's folder, or a URL (s3://…, gs://…); runs/NAME by default."
    return click.option("--out", type=PLACE, metavar="FOLDER|URL", help=text)(command)


def json_option(command: F) -> F:
    """Adds `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for a program to read.")(command)


def debug_option(command: F) -> F:
    """Adds `--debug`, which `bench.cli` reads from the command line."""
    return click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback with an error.")(command)


def run_folder(out: Path | Place) -> "RunFolder":
    """The folder in which trials are run: `out`, or for a URL a folder in `runs/.remote/`."""
    from bench.store.run_folder import RunFolder

    if isinstance(out, Place):
        return RunFolder(RUNS / ".remote" / out.slug, label=out.url)
    return RunFolder(out)


def run_path(loaded: "LoadedSweep", out: Path | Place | None) -> Path | Place:
    """The place of a sweep's run: `--out`, or `runs/NAME`."""
    return out if out is not None else RUNS / loaded.run_name


def mirrored(run: "RunFolder", out: Path | Place) -> "AbstractContextManager[Mirror | None]":
    """Mirrors `run` to `out` while the block runs if `out` is a URL; gives None if it is a folder."""
    if not isinstance(out, Place):
        return nullcontext()
    from bench.store.remote.mirror import mirrored

    return mirrored(run.path, out)


RETRY = "run the same command again to upload them; nothing is trained twice"


def upload_problem(mirror: "Mirror | None", do: str = RETRY) -> BenchError | None:
    """The error that names files which were not uploaded, with the remedy `do`; None if every file was."""
    left = mirror.left() if mirror else []
    if mirror is None or not left:
        return None
    files, folder = console.plural(len(left), "file"), console.shown(mirror.folder)
    if mirror.lease.lost_to:
        what = f"{mirror.lease.lost_to} took this run over; {files} of {folder} are not uploaded"
        return BenchError(
            what, mirror.place.url, "run the same command again: it continues from the store and sets these files aside"
        )
    what = f"{files} not uploaded ({mirror.problem}); they are kept in {folder}"
    return BenchError(what, mirror.place.url, do)


def find_run(where: Path | Place, wanted: re.Pattern[str] | None = None) -> "RunFolder":
    """The run at `where`: a folder, a name in `runs/`, a URL, or a sweep file (whose run is `runs/NAME`).

    Args:
        wanted: the paths of the files that are fetched from a run behind a URL (see `bench.store.remote.fetching`); by
            default those of its trials.

    Raises:
        BenchError: there is no run.
    """
    from bench.store.run_folder import RunFolder

    if isinstance(where, Place):
        from bench.store.remote.fetching import TRIALS, fetch_copy

        return _open(fetch_copy(where, RUNS, wanted or TRIALS))
    if where.suffix in (".yaml", ".yml") and where.is_file():
        from bench.sweep.load import load_sweep

        return _open(RunFolder(RUNS / load_sweep(where).run_name))
    if not where.exists() and len(where.parts) == 1 and (RUNS / where).exists():
        return _open(RunFolder(RUNS / where))
    return _open(RunFolder(where))


def _open(run: "RunFolder") -> "RunFolder":
    """The run, or its tuning while the comparison has no plan yet."""
    if not run.exists() and run.tuning.exists():
        return run.tuning
    return run if run.exists() else run.open(run.path, run.label)


def show_table(table: "Table") -> None:
    """Prints a report's table without its title and its note."""
    columns = [str(column) for column in table.cells.columns]
    numbers = [column for column in columns if column not in table.text]
    console.table(columns, table.printed.to_numpy().tolist(), right=numbers)
