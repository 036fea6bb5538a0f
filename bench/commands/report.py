"""`bench report`: writes the report of one run or of several, finished or not."""

from pathlib import Path
from tempfile import TemporaryDirectory

import click

from bench import console
from bench.commands.shared import PLACE, debug_option, find_run, json_option
from bench.errors import BenchError
from bench.store.remote.place import Place
from reports.choices import DEFAULT_FORMATS, FORMATS


def _refuse_baseline(_: click.Context, __: click.Parameter, variant: str | None) -> None:
    """Refuses the option's old name: in `bench check`, `--baseline` is a file."""
    if variant is not None:
        raise BenchError("is the old name of --ratios-to", "--baseline", f"bench report RUN --ratios-to {variant}")


@click.command("report", short_help="Write the comparison report of one run or several.")
@click.argument("runs", type=PLACE, nargs=-1, required=True, metavar="RUN...")
@click.option(
    "--out",
    type=PLACE,
    metavar="FOLDER|URL",
    help="The report's folder; the run's report/ by default, or a new folder beside the first of several runs.",
)
@click.option(
    "--format",
    "formats",
    multiple=True,
    type=click.Choice(FORMATS),
    help="A format to write; repeat the option for several; html and md by default. csv and latex hold tables, png and "
    "svg figures, pdf both.",
)
@click.option(
    "--ratios-to",
    metavar="VARIANT",
    help="The variant to whose costs the others' are compared; ddpo by default, else the one with the lowest reward.",
)
@click.option("--baseline", hidden=True, expose_value=False, callback=_refuse_baseline)
@json_option
@debug_option
def command(
    runs: tuple[Path | Place, ...],
    out: Path | Place | None,
    formats: tuple[str, ...],
    ratios_to: str | None,
    as_json: bool,
) -> None:
    """Write the report of each RUN (a run's folder, name, URL or sweep file) from the results that are stored so far.

    Several runs make one report. Runs that can be compared share one table; runs that differ in reward, model, prompts
    or evaluation have tables of their own, and the top of the report says how they differ.

    A run behind a URL is copied to runs/.remote/read/; without --out the report is written there.
    """
    from bench.results.report import report
    from bench.store.remote.fetching import NUMBERS
    from bench.store.remote.place import upload_folder

    found = [find_run(run, NUMBERS) for run in runs]
    if len({run.path.resolve() for run in found}) < len(found):
        raise BenchError("the same run is named twice", " ".join(map(str, runs)), "name each run once")
    for where, run in zip(runs, found, strict=True):
        if not any(run.trial(row.trial).path.exists() for row in run.planned()):
            raise BenchError("no trial has begun, so there is nothing to report", str(where))
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) if isinstance(out, Place) else out.absolute() if out else None
        summary = report(found, folder, formats or DEFAULT_FORMATS, ratios_to)
        files = [str(f) for f in summary.files] if as_json else [console.shown(f) for f in summary.files]
        if isinstance(out, Place):
            files = upload_folder(Path(scratch), out)
    for text in summary.damage:
        console.warn(text)
    if as_json:
        ranking = summary.ranking.records() if summary.ranking else []
        notices = {"parts": summary.parts, "warnings": summary.warnings, "damage": summary.damage}
        console.say_json({"files": files, "answer": summary.answer, "ranking": ranking, **notices})
        return
    for warning in summary.warnings:
        console.say(warning)
    if summary.answer:
        console.say(summary.answer)
    for file in files:
        console.say(file)
