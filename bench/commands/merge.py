"""`bench merge`: makes one run, with one report, of the parts of a comparison that ran on several machines."""

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
    upload_problem,
)
from bench.errors import GOOD, TRIALS_FAILED, BenchError
from bench.store.remote.place import Place


@click.command("merge", short_help="Make one run of several machines' runs.")
@click.argument("runs", nargs=-1, required=True, type=PLACE, metavar="RUN RUN ...")
@click.option("--out", type=PLACE, metavar="FOLDER|URL", help="The merged run; RUN-merged by default.")
@json_option
@debug_option
def command(runs: tuple[Path | Place, ...], out: Path | Place | None, as_json: bool) -> int:
    """Copy the trials of every RUN (a folder or URL) into one run and write its report.

    A trial of several runs is copied from the run in which it got furthest. The command refuses runs that compare
    different things or hold different curves of one finished trial (exit code 4), and trials that are being trained.
    """
    from bench.results.report import report
    from bench.store.merge import default_out, merge

    found = [find_run(run) for run in runs]
    if len(found) < 2:
        raise BenchError("only one run is named", do="name two or more runs")
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
        answer = {"run": run, "trials": done.trials, "shared": done.shared, "report": files, "exit_code": code}
        console.say_json({**answer, **uploaded})
    else:
        several = f", {done.shared} of them in several runs" if done.shared else ""
        where = out if mirror and not problem else console.shown(merged.path)
        console.say(f"{console.plural(done.trials, 'trial')}{several} → {where}")
        if summary.answer:
            console.say(summary.answer)
        console.say(f"report: {console.shown(summary.files[0])}")
    if problem:
        console.error(problem)
    return code
