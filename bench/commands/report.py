"""`bench report`: writes the report of one run or several again, finished or not."""

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from bench import console
from bench.commands.shared import PLACE, debug_option, find_run, json_option, shown
from bench.errors import BenchError
from bench.store.remote.place import Place
from reports.choices import DEFAULT_FORMATS, FORMATS


@click.command("report", short_help="Write the comparison report of one run or several.")
@click.argument("runs", type=PLACE, nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--out",
    type=PLACE,
    metavar="FOLDER|URL",
    help="Where to; the run's report/ by default, beside the first of several.",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(FORMATS),
    help="html and md unless given; give it again for several. csv, latex: tables; png, svg: figures; pdf: both.",
)
@click.option("--baseline", metavar="VARIANT", help="What ratios refer to; ddpo by default, else the lowest.")
@json_option
@debug_option
def command(
    runs: tuple[Path | Place, ...],
    out: Path | Place | None,
    formats: tuple[str, ...],
    baseline: str | None,
    as_json: bool,
) -> None:
    """Write the report of each RUN (a run's folder, its name, its URL, or its sweep file) from what is stored so far.

    Several runs make one report. What can be compared stands in one table; runs that differ in reward, model, prompts
    or evaluation have tables of their own, and the top says in what they differ.

    Of a run behind a URL a copy is read, in runs/.remote/read/; without --out the report is written there.
    """
    from bench.results.report import report
    from bench.store.remote.fetching import numbers
    from bench.store.remote.place import upload_folder

    found = [find_run(run, numbers) for run in runs]
    if len({run.path.resolve() for run in found}) < len(found):
        raise BenchError("the same run is named twice", " ".join(map(str, runs)), "name each run once")
    for where, run in zip(runs, found, strict=True):
        if not any(run.trial(row.trial).path.exists() for row in run.planned()):
            raise BenchError("no trial has begun, so there is nothing to report", str(where))
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) if isinstance(out, Place) else out.absolute() if out else None
        summary = report(found, folder, formats or DEFAULT_FORMATS, baseline)
        files = [str(f) for f in summary.files] if as_json else [shown(f) for f in summary.files]
        if isinstance(out, Place):
            files = upload_folder(Path(scratch), out)
    for text in summary.damage:
        console.warn(text)
    if as_json:
        ranking = summary.ranking.records() if summary.ranking else []
        told = {"parts": summary.parts, "warnings": summary.warnings, "damage": summary.damage}
        console.say_json({"files": files, "answer": summary.answer, "ranking": ranking, **told})
        return
    for warning in summary.warnings:
        console.say(warning)
    if summary.answer:
        console.say(summary.answer)
    for file in files:
        console.say(file)
