"""`bench check`: tests whether a run is worse than a baseline; the gate for CI."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench import console
from bench.commands.shared import debug_option, find_run, json_option, show_table
from bench.errors import GOOD, NOT_COMPARABLE, REGRESSION, TRIALS_FAILED
from reports.choices import MODES

if TYPE_CHECKING:
    from reports.regression.verdict import RunVerdict

EXIT_CODES = {
    "regression": REGRESSION,
    "failed": TRIALS_FAILED,
    "not comparable": NOT_COMPARABLE,
    "inconclusive": NOT_COMPARABLE,
}


@click.command("check", short_help="Check a run against a baseline.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--baseline",
    "file",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The baseline's JSON file.",
)
@click.option(
    "--mode",
    type=click.Choice(MODES),
    default="auto",
    show_default=True,
    help="auto: equal curves pass on the same kind of machine, other curves are tested; statistical: all curves are "
    "tested; exact: curves must be equal.",
)
@click.option("--fewer-seeds", is_flag=True, help="Accept a run with only some of the baseline's seeds.")
@click.option("--markdown", type=click.Path(path_type=Path), metavar="FILE", help="Also write the result as Markdown.")
@click.option("--junit", type=click.Path(path_type=Path), metavar="FILE", help="Also write the result as JUnit XML.")
@json_option
@debug_option
def command(
    run: Path, file: Path, mode: str, fewer_seeds: bool, markdown: Path | None, junit: Path | None, as_json: bool
) -> int:
    """Check RUN (a run's folder, its name, or its sweep file) against a baseline.

    Exits with 0 if no loss is shown, 1 on a regression, 3 if a trial is missing or failed, 4 if run and baseline are
    not comparable or the seeds are too few to decide.
    """
    from bench.results.baselines import check_run, read_baseline
    from reports.regression import gate_text

    baseline = read_baseline(file)
    verdict = check_run(find_run(run), baseline, mode, fewer_seeds)  # type: ignore[arg-type]
    code = EXIT_CODES.get(verdict.verdict, GOOD)
    if markdown is not None:
        _write(markdown, gate_text.to_markdown(verdict))
    if junit is not None:
        _write(junit, gate_text.to_junit(verdict))
    if as_json:
        console.say_json({**gate_text.to_json(verdict), "exit_code": code})
    else:
        _print_verdict(verdict)
    return code


def _print_verdict(verdict: "RunVerdict") -> None:
    from reports.regression import gate_text

    for table in (gate_text.findings_table(verdict), gate_text.summary_table(verdict)):
        if len(table.cells):
            show_table(table)
        if table.note:
            console.say(table.note)
    for line in gate_text.details(verdict):
        console.say(line)
    console.say(f"{verdict.verdict}: {verdict.reason}")


def _write(path: Path, text: str) -> None:
    from bench.results.baselines import write_file

    write_file(path, text)
