"""`bench history`: finds the steps at which a figure changed over many stored results."""

import dataclasses
from pathlib import Path

import click

from bench import console
from bench.commands.shared import debug_option, json_option, show_table


@click.command("history", short_help="Find where a figure changed over many results.")
@click.argument("results", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RESULT...")
@click.option(
    "--significance",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.01,
    show_default=True,
    help="The largest p-value of a step.",
)
@click.option(
    "--least",
    type=click.FloatRange(0),
    default=0.01,
    show_default=True,
    help="The smallest step, as a share of the level before it.",
)
@json_option
@debug_option
def command(results: tuple[Path, ...], significance: float, least: float, as_json: bool) -> None:
    """Find the steps in the figures of RESULTs: run folders, folders that hold run folders, or baseline files.

    A single baseline file stands for all its versions in git. Steps are E-divisive change points, tested by
    permutation; at least ten results are needed.
    """
    from bench.results.history import collect
    from reports.regression.change_points import LEAST_RESULTS
    from reports.regression.history import find_steps, steps_table

    frame, axis, excluded = collect(results)
    history = find_steps(frame, significance, least)
    if as_json:
        console.say_json({**dataclasses.asdict(history), "left_out": excluded})
        return
    if excluded:
        more = f" and {len(excluded) - 1} more" if len(excluded) > 1 else ""
        console.note(f"left out, as the newest result has another protocol: {excluded[0]}{more}")
    table = steps_table(history, axis)
    if len(table.cells):
        show_table(table)
    short = f"; {history.too_short} have fewer than {LEAST_RESULTS} results" if history.too_short else ""
    console.say(
        f"{console.plural(len(history.steps), 'step')} in {console.plural(history.series, 'figure')} "
        f"of {console.plural(history.results, 'result')}{short}"
    )
