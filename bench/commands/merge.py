"""`bench merge`: runs of one comparison on several machines, as one run with one report."""

from pathlib import Path

import click

from bench import console
from bench.commands.shared import (
    PLACE,
    RUNS,
    debug_option,
    find_run,
    json_option,
    mirrored,
    run_folder,
    shown,
    upload_problem,
)
from bench.errors import GOOD, TRIALS_FAILED, BenchError
from bench.store.remote.place import Place


@click.command("merge", short_help="Make one run of several machines' runs.")
@click.argument("runs", nargs=-1, required=True, type=PLACE, metavar="RUN RUN ...")
@click.option("--out", type=PLACE, metavar="FOLDER|URL", help="Where to; RUN-merged by default.")
@json_option
@debug_option
def command(runs: tuple[Path | Place, ...], out: Path | Place | None, as_json: bool) -> int:
    """Copy the trials of every RUN (a folder or URL) into one run, each from where it got furthest, and report on them.

    Nothing is merged where the runs compare different things, or where a trial ended with another curve on another
    machine; the answer names it, with exit code 4. Nor while a trial that would be copied is being trained.
    """
    from bench.results.report import report
    from bench.store.merge import default_out, merge

    found = [find_run(run) for run in runs]
    if len(found) < 2:
        raise BenchError("one run is merged already", do="name two or more runs")
    if out is None:
        out = RUNS / f"{runs[0].name}-merged" if isinstance(runs[0], Place) else default_out(found)
    merged = run_folder(out)
    with mirrored(merged, out) as mirror:
        done = merge(found, merged)
        summary = report(merged)
    problem = upload_problem(
        mirror, "that folder is the whole merged run; merge again into another --out for a whole store"
    )
    code = TRIALS_FAILED if problem else GOOD
    if as_json:
        files = [str(path) for path in summary.files]
        run = mirror.place.url if mirror else str(merged.path)
        uploaded = {"not_uploaded": mirror.left()} if mirror else {}
        said = {"run": run, "trials": done.trials, "shared": done.shared, "report": files, "exit_code": code}
        console.say_json({**said, **uploaded})
    else:
        several = f", {done.shared} of them in several runs" if done.shared else ""
        whole = out if mirror and not problem else shown(merged.path)
        console.say(f"{console.plural(done.trials, 'trial')}{several} → {whole}")
        if summary.answer:
            console.say(summary.answer)
        console.say(f"report: {shown(summary.files[0])}")
    if problem:
        console.error(problem)
    return code
