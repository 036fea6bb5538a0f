"""`bench baseline`: saves a run as the baseline of later runs, and shows or updates a saved baseline."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench import console
from bench.commands.shared import debug_option, find_run, json_option, show_table
from bench.errors import BenchError, NotComparableError
from reports.choices import PRIMARY

if TYPE_CHECKING:
    from reports.regression.baseline import Baseline


def _primaries(_: click.Context, option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """Variant -> its primary statistic; the key "" stands for every other variant."""
    statistics = {}
    for value in values:
        variant, _equals, statistic = value.rpartition("=")
        if statistic not in PRIMARY:
            raise click.BadParameter(f"{statistic!r} is none of {', '.join(PRIMARY)}")
        statistics[variant] = statistic
    return statistics


primary_option = click.option(
    "--primary",
    "primaries",
    multiple=True,
    callback=_primaries,
    metavar="[METHOD=]STATISTIC",
    help=f"The statistic that is tested first, with most of the error rate: {', '.join(PRIMARY)}; area by default. "
    "Repeat the option to choose another for one method.",
)


@click.group("baseline", short_help="Save, show or update a baseline for `bench check`.")
def command() -> None:
    """Save, show or update the baseline to which `bench check` compares runs."""


@command.command("save")
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="FILE", help="The JSON file to write.")
@primary_option
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@json_option
@debug_option
def save(run: Path, out: Path, primaries: dict[str, str], force: bool, as_json: bool) -> None:
    """Save RUN as a baseline, with tolerances from its spread over seeds; every trial of RUN must be done.

    Prints the smallest loss that `bench check` detects in a later run with as many seeds.
    """
    from bench.results.baselines import baseline_of, write_baseline

    if out.exists() and not force:
        raise BenchError("exists already", str(out), "bench baseline update keeps its tolerances; --force overwrites")
    folder = find_run(run)
    default = primaries.pop("", "area")
    variants = list(dict.fromkeys(row.variant for row in folder.planned()))
    for variant in primaries:
        if variant not in variants:
            raise BenchError(f"no method is called {variant}", "--primary", f"one of: {', '.join(variants)}")
    baseline = baseline_of(folder, default, primaries)
    write_baseline(baseline, out)
    _show(baseline, out, as_json)


@command.command("show")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
@debug_option
def show(file: Path, as_json: bool) -> None:
    """Show the figures of the baseline FILE and the smallest losses that it can detect."""
    from bench.results.baselines import read_baseline

    _show(read_baseline(file), file, as_json)


@command.command("update")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--tolerances", is_flag=True, help="Replace the tolerances too, which are kept by default.")
@json_option
@debug_option
def update(file: Path, run: Path, tolerances: bool, as_json: bool) -> None:
    """Replace the figures of FILE with those of RUN; tolerances, gates and primaries stay."""
    from bench.results.baselines import baseline_of, read_baseline, updated, write_baseline
    from reports.regression.verdict import differences

    before = read_baseline(file)
    run_folder = find_run(run)
    variants = {row.variant for row in run_folder.planned()}
    primaries = {variant: entry.primary for variant, entry in before.methods.items() if variant in variants}
    after = baseline_of(run_folder, primaries=primaries, alpha=before.alpha, power=before.power)
    clashes = differences(before.protocol, after.protocol)
    if clashes:
        raise NotComparableError(
            f"is of another protocol: {'; '.join(clashes)}", str(file), "save it as a new baseline"
        )
    after = updated(before, after, tolerances)
    write_baseline(after, file)
    if not as_json:
        _changes(before, after)
    _show(after, file, as_json)


def _show(baseline: "Baseline", path: Path, as_json: bool) -> None:
    from reports.regression.baseline_text import claims, table

    if as_json:
        console.say_json({"file": str(path), **baseline.model_dump(mode="json")})
        return
    show_table(table(baseline))
    for line in claims(baseline):
        console.say(line)
    size = f" ({path.stat().st_size / 1000:.0f} kB)" if path.exists() else ""
    console.say(f"baseline: {path}{size}")


def _changes(before: "Baseline", after: "Baseline") -> None:
    from reports.regression.baseline_text import changes

    for line in changes(before, after):
        console.say(line)
