"""`bench report`: writes a run's report again, finished or not."""

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from bench import console
from bench.commands.shared import PLACE, debug_option, find_run, json_option, shown
from bench.errors import BenchError
from bench.remote.place import Place

FORMATS = ("html", "md")


@click.command("report", short_help="Write a run's comparison report.")
@click.argument("run", type=PLACE)
@click.option("--out", type=PLACE, metavar="FOLDER|URL", help="Where to; the run's report/ by default.")
@click.option("--format", "formats", multiple=True, type=click.Choice(FORMATS), help="Only these; all by default.")
@json_option
@debug_option
def command(run: Path | Place, out: Path | Place | None, formats: tuple[str, ...], as_json: bool) -> None:
    """Write the report of RUN (a run's folder, its name, its URL, or its sweep file) from what is stored so far.

    Of a run behind a URL a copy is read, in runs/.remote/read/; without --out the report is written there.
    """
    from bench.remote.fetching import numbers
    from bench.remote.place import upload_folder
    from bench.reporting import report

    found = find_run(run, numbers)
    if not any(found.trial(row["trial"]).path.exists() for row in found.planned()):
        raise BenchError("no trial has begun, so there is nothing to report", str(run))
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) if isinstance(out, Place) else out.absolute() if out else None
        summary = report(found, folder, formats or FORMATS)
        files = [str(f) for f in summary.files] if as_json else [shown(f) for f in summary.files]
        if isinstance(out, Place):
            files = upload_folder(Path(scratch), out)
    if as_json:
        ranking = summary.ranking.cells.to_dict("records") if summary.ranking else []
        console.say_json({"files": files, "answer": summary.answer, "ranking": ranking})
        return
    if summary.answer:
        console.say(summary.answer)
    for file in files:
        console.say(file)
