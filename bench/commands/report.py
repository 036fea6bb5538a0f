"""`bench report`: writes a run's report again, finished or not."""

from pathlib import Path

import click

from bench import console
from bench.commands.run import shown
from bench.commands.shared import debug_option, find_run, json_option
from bench.errors import BenchError

FORMATS = ("html", "md")


@click.command("report", short_help="Write a run's comparison report.")
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FOLDER", help="Where to; the run's report/ by default."
)
@click.option("--format", "formats", multiple=True, type=click.Choice(FORMATS), help="Only these; all by default.")
@json_option
@debug_option
def command(run: Path, out: Path | None, formats: tuple[str, ...], as_json: bool) -> None:
    """Write the report of RUN (a run's folder, its name, or its sweep file) from what is stored so far."""
    from bench.reporting import report

    found = find_run(run)
    if not any(found.trial(row["trial"]).path.exists() for row in found.planned()):
        raise BenchError("no trial has begun, so there is nothing to report", str(run))
    summary = report(found, out.absolute() if out else None, formats or FORMATS)
    if as_json:
        ranking = summary.ranking.cells.to_dict("records") if summary.ranking else []
        console.say_json({"files": [str(f) for f in summary.files], "answer": summary.answer, "ranking": ranking})
        return
    if summary.answer:
        console.say(summary.answer)
    for path in summary.files:
        console.say(shown(path))
