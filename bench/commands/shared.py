"""Flags that several verbs share, said once."""

from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bench import console
from bench.errors import BenchError
from bench.store.remote.place import Place, is_url

if TYPE_CHECKING:
    from bench.build.trial_spec import Trial
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
    """The sweep (a file, or the name of an installed one), `--scale` and `--set`."""
    command = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="PATH=VALUE",
        help="Override a value, e.g. budget.reward_queries=500.",
    )(command)
    command = click.option("--scale", metavar="NAME", help="Lay the sweep's scales.NAME over it, e.g. paper.")(command)
    return click.argument("sweep", type=click.Path(path_type=Path), metavar="SWEEP")(command)


def out_option(command: F) -> F:
    """`--out`, the run's folder."""
    words = "The run's folder, or a URL (s3://…, gs://…); runs/NAME by default."
    return click.option("--out", type=PLACE, metavar="FOLDER|URL", help=words)(command)


def json_option(command: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for a program to read.")(command)


def debug_option(command: F) -> F:
    """`--debug`, read by `bench.cli.main`."""
    return click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback with an error.")(command)


def run_folder(out: "Path | Place") -> "RunFolder":
    """Where a run is worked on: `out`, or a local folder of its own for a URL."""
    from bench.store.run_folder import RunFolder

    if isinstance(out, Place):
        return RunFolder(RUNS / ".remote" / out.slug, label=out.url)
    return RunFolder(out)


def run_path(loaded: "LoadedSweep", out: "Path | Place | None") -> "Path | Place":
    """Where a sweep's run is stored."""
    return out if out is not None else RUNS / loaded.run_name


def mirrored(run: "RunFolder", out: "Path | Place") -> "AbstractContextManager[Mirror | None]":
    """Mirrors `run` to `out` while the block runs, where that is a URL."""
    if not isinstance(out, Place):
        return nullcontext()
    from bench.store.remote.mirror import mirrored

    return mirrored(run.path, out)


RETRY = "run the same command again to upload them; nothing is trained twice"


def upload_problem(mirror: "Mirror | None", do: str = RETRY) -> BenchError | None:
    """What did not get into the store, and how it still can; None where all did."""
    left = mirror.left() if mirror else []
    if mirror is None or not left:
        return None
    files, folder = console.plural(len(left), "file"), shown(mirror.folder)
    if mirror.lease.lost_to:
        what = f"{mirror.lease.lost_to} took this run over; {files} of {folder} are not uploaded"
        return BenchError(what, mirror.place.url, "the same command goes on from the store, and sets them aside")
    what = f"{files} not uploaded ({mirror.problem}); they are kept in {folder}"
    return BenchError(what, mirror.place.url, do)


def find_run(where: "Path | Place", wanted: Callable[[str], bool] | None = None) -> "RunFolder":
    """A run by its folder, by its URL, or by the sweep file it came from (`runs/NAME` for it).

    Args:
        wanted: the files that are needed of a run behind a URL (see `bench.store.remote.fetching`); its trials by
            default.
    """
    from bench.store.run_folder import RunFolder

    if isinstance(where, Place):
        from bench.store.remote.fetching import open_copy, trials

        return _open(open_copy(where, RUNS, wanted or trials))
    if where.suffix in (".yaml", ".yml") and where.is_file():
        from bench.sweep.load import load_sweep

        return _open(RunFolder(RUNS / load_sweep(where).run_name))
    if not where.exists() and len(where.parts) == 1 and (RUNS / where).exists():
        return _open(RunFolder(RUNS / where))
    return _open(RunFolder(where))


def _open(run: "RunFolder") -> "RunFolder":
    """The run; while its methods are tuned for the first time, their tuning."""
    if not run.exists() and run.tuning.exists():
        return run.tuning
    return run if run.exists() else run.open(run.path)


def tell_left_aside(run: "RunFolder", trials: Sequence["Trial"], planned: Collection[str] = ()) -> tuple[str, ...]:
    """Says which trials of earlier plans `run` keeps (see `bench.store.left_aside`); returns what is unfinished."""
    from bench.store.left_aside import left_aside

    aside = left_aside(run, trials, planned)
    for text in aside.unfinished:
        console.warn(text)
    for text in aside.finished:
        console.note(text)
    return aside.unfinished


def shown(path: Path) -> str:
    """A path as short as it can be typed from here."""
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return str(path)


def show_table(table: "Table") -> None:
    """Prints a report's table as a terminal shows it: without its title and its note."""
    columns = [str(column) for column in table.cells.columns]
    numbers = [column for column in columns if column not in table.text]
    console.table(columns, table.printed.to_numpy().tolist(), right=numbers)
