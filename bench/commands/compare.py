"""`bench compare`: shows the differences between two runs, method by method."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench import console
from bench.commands.shared import debug_option, find_run, json_option, show_table
from bench.errors import NotComparableError
from bench.store.status import Status

if TYPE_CHECKING:
    from bench.results.baselines import StoredRun


@click.command("compare", short_help="Compare two runs, method by method.")
@click.argument("first", type=click.Path(path_type=Path), metavar="A")
@click.argument("second", type=click.Path(path_type=Path), metavar="B")
@click.option("--only-changed", is_flag=True, help="Leave out metrics without a difference.")
@click.option("--markdown", type=click.Path(path_type=Path), metavar="FILE", help="Also write the table as Markdown.")
@json_option
@debug_option
def command(first: Path, second: Path, only_changed: bool, markdown: Path | None, as_json: bool) -> None:
    """Compare the finished trials of runs A and B: each metric's difference with its uncertainty.

    Runs that differ in reward, prompts, budget, evaluation, precision or kind of hardware are not compared (exit code
    4).
    """
    from bench.plan.protocol import clashing_measures
    from bench.results.baselines import read_run, write_file
    from reports.regression.contrast import SAME, Side, compare, contrast_table
    from reports.writers.markdown import table_markdown

    a, b = read_run(find_run(first)), read_run(find_run(second))
    _require_comparable(a, b, str(second))
    target = a.plan.target if a.plan.target == b.plan.target else None
    clashing = clashing_measures(a.plan.measures, b.plan.measures)
    contrasts = compare(Side(a.curves, a.evaluation), Side(b.curves, b.evaluation), a.axis, target, clashing)
    table = contrast_table(contrasts, (str(first), str(second)), only_changed)
    for line in _gaps(a, b):
        console.note(line)
    if markdown is not None:
        write_file(markdown, table_markdown(table) + "\n")
    if as_json:
        kept = [contrast for contrast in contrasts if not only_changed or contrast.verdict != SAME]
        console.say_json([dataclasses.asdict(contrast) for contrast in kept])
        return
    if len(table.cells):
        show_table(table)
        console.say(table.note)
    counts = {verdict: sum(each.verdict == verdict for each in contrasts) for verdict in ("better", "worse", SAME)}
    console.say(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))


def _gaps(a: "StoredRun", b: "StoredRun") -> Iterator[str]:
    """Yields a line for each trial that is not done, and for each variant whose seeds differ between A and B."""
    seeds: dict[str, dict[str, set[int]]] = {"A": {}, "B": {}}
    for name, side in (("A", a), ("B", b)):
        for row in side.trials.to_dict("records"):
            of_variant = seeds[name].setdefault(str(row["variant"]), set())
            if row["status"] == Status.DONE:
                of_variant.add(int(row["seed"]))
            else:
                yield f"{name}: {row['variant']}, seed {row['seed']}, is {row['status']} and in no figure"
    for variant in seeds["A"].keys() & seeds["B"].keys():
        for name, other in (("A", "B"), ("B", "A")):
            only = sorted(seeds[name][variant] - seeds[other][variant])
            if only:
                yield f"{variant}: only {name} has seed {', '.join(map(str, only))}"


def _require_comparable(a: "StoredRun", b: "StoredRun", second: str) -> None:
    from reports.regression.verdict import differences

    if a.curves.empty or b.curves.empty:
        raise NotComparableError("one of the runs has no curve yet", do="run it first")
    clashes = differences(a.protocol, b.protocol)
    if clashes:
        raise NotComparableError(f"is of another protocol than A: {'; '.join(clashes)}", second)
