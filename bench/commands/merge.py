"""`bench merge`: runs of one comparison on several machines, as one run with one report."""

from pathlib import Path

import click

from bench import console
from bench.commands.run import shown
from bench.commands.shared import debug_option, find_run, json_option
from bench.errors import BenchError


@click.command("merge", short_help="Make one run of several machines' runs.")
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN RUN ...")
@click.option("--out", type=click.Path(path_type=Path), metavar="FOLDER", help="Where to; RUN-merged by default.")
@json_option
@debug_option
def command(runs: tuple[Path, ...], out: Path | None, as_json: bool) -> None:
    """Copy the trials of every RUN into one run, each from where it got furthest, and report on them.

    Nothing is merged where the runs compare different things, or where a trial ended with another curve on another
    machine; the answer names it, with exit code 4.
    """
    from bench.merge import default_out, merge
    from bench.reporting import report
    from bench.store import RunFolder

    found = [find_run(run) for run in runs]
    if len(found) < 2:
        raise BenchError("one run is merged already", do="name two or more runs")
    merged = RunFolder(out if out is not None else default_out(found))
    done = merge(found, merged)
    summary = report(merged)
    if as_json:
        files = [str(path) for path in summary.files]
        console.say_json({"run": str(merged.path), "trials": done.trials, "shared": done.shared, "report": files})
        return
    several = f", {done.shared} of them in several runs" if done.shared else ""
    console.say(f"{console.plural(done.trials, 'trial')}{several} → {shown(merged.path)}")
    if summary.answer:
        console.say(summary.answer)
    console.say(f"report: {shown(summary.files[0])}")
