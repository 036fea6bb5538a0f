"""Flags that several verbs share, said once."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from bench.load import LoadedSweep
    from bench.store import RunFolder

F = TypeVar("F", bound=Callable[..., Any])

RUNS = Path("runs")


def sweep_options(command: F) -> F:
    """The sweep file, `--scale` and `--set`."""
    command = click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="PATH=VALUE",
        help="Override a value, e.g. budget.reward_queries=500.",
    )(command)
    command = click.option("--scale", metavar="NAME", help="Lay the sweep's scales.NAME over it, e.g. paper.")(command)
    return click.argument("sweep", type=click.Path(path_type=Path), metavar="SWEEP.yaml")(command)


def out_option(command: F) -> F:
    """`--out`, the run's folder."""
    return click.option(
        "--out", type=click.Path(path_type=Path), metavar="FOLDER", help="The run's folder; runs/NAME by default."
    )(command)


def json_option(command: F) -> F:
    """`--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON for a program to read.")(command)


def debug_option(command: F) -> F:
    """`--debug`, read by `bench.cli.main`."""
    return click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback with an error.")(command)


def run_path(loaded: "LoadedSweep", out: Path | None) -> Path:
    """Where a sweep's run is stored."""
    return (out if out is not None else RUNS / loaded.run_name).absolute()


def find_run(where: Path) -> "RunFolder":
    """A run by its folder, or by the sweep file it came from (`runs/NAME` for it)."""

    if where.suffix in (".yaml", ".yml") and where.is_file():
        from bench.load import load_sweep

        return _open(RUNS / load_sweep(where).run_name)
    if not where.exists() and len(where.parts) == 1 and (RUNS / where).exists():
        return _open(RUNS / where)
    return _open(where)


def _open(path: Path) -> "RunFolder":
    """The run there; while its methods are still being tuned, their tuning."""
    from bench.search.tuning import folder_of
    from bench.store import RunFolder

    tuning = folder_of(RunFolder(path))
    return tuning if tuning.exists() and not RunFolder(path).exists() else RunFolder.open(path)
