"""`bench run`: the main verb. Plans a sweep, runs the trials that are not done yet, and writes the report."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench import console
from bench.commands.shared import (
    debug_option,
    json_option,
    mirrored,
    out_option,
    run_folder,
    run_path,
    show_table,
    sweep_options,
    upload_problem,
)
from bench.errors import GOOD, INTERRUPTED, TRIALS_FAILED
from bench.run.executors import NAMES
from bench.store.remote.place import Place
from bench.store.status import Status

if TYPE_CHECKING:
    from bench.results.report import WrittenReport
    from bench.store.run_folder import RunFolder, StoredTrial


@click.command("run", short_help="Run a sweep: train, evaluate, report.")
@sweep_options
@out_option
@click.option(
    "--executor",
    "executor_name",
    type=click.Choice(NAMES),
    default="ray",
    show_default=True,
    help="How trials run: ray in parallel, inline one after another in this process.",
)
@click.option(
    "--address",
    metavar="HOST:PORT",
    help="A running Ray cluster to join; its machines must see the run's folder (with a URL, runs/.remote/ here).",
)
@json_option
@debug_option
def command(
    sweep: Path,
    scale: str | None,
    overrides: tuple[str, ...],
    out: Path | Place | None,
    executor_name: str,
    address: str | None,
    as_json: bool,
) -> int:
    """Run SWEEP: train every method on every seed, evaluate along the way, and write the comparison report.

    SWEEP is a YAML file, or the name of a sweep that `bench list sweeps` lists.

    Trials that are done are not run again, so a run that was stopped by Ctrl-C continues with the same command.
    With a URL as --out the run works in runs/.remote/ and is uploaded as it goes; the same command on another machine
    continues from the uploaded files.
    """
    from bench.plan.planner import Planner
    from bench.run.sweep import SweepRun
    from bench.sweep.load import load_sweep

    loaded = load_sweep(sweep, scale, overrides)
    planner = Planner(loaded)
    sweep_run = SweepRun(planner, executor_name, address)
    for text in planner.warnings:
        console.warn(text)
    place = run_path(loaded, out)
    run = run_folder(place)
    with run.lock(), mirrored(run, place) as mirror:
        outcome = sweep_run.execute(run)
        summary = _report(run) if outcome.compared else None
    # If the user stopped the tuning there is nothing to compare yet; trials of an earlier call are not shown.
    stored = run.trials() if outcome.compared else []
    problem = upload_problem(mirror)
    failed = problem is not None or any(trial.record.status.broken or not trial.record.status.ended for trial in stored)
    code = INTERRUPTED if outcome.stopped else TRIALS_FAILED if failed else GOOD
    if as_json:
        from bench.results.report import warnings_of  # matplotlib and scipy, which no trial waits for

        uploaded = {"url": mirror.place.url, "not_uploaded": mirror.left()} if mirror else {}
        warnings = [*planner.warnings, *warnings_of(stored), *outcome.left_aside]
        console.say_json({**_as_json(run, stored, summary, code), "warnings": warnings, **uploaded})
    else:
        _print_results(stored, summary, outcome.stopped)
        if mirror and not problem:
            console.say(f"uploaded: {mirror.place}")
    if problem:
        console.error(problem)
    return code


def _report(run: "RunFolder") -> "WrittenReport | None":
    """Writes the report of the trials that have begun; None if no trial has."""
    from bench.results.report import report

    if not any(run.trial(row.trial).path.exists() for row in run.planned()):
        return None
    return report(run)


def _print_results(trials: "list[StoredTrial]", summary: "WrittenReport | None", stopped: bool) -> None:
    for text in summary.damage if summary is not None else ():
        console.warn(text)
    if summary is not None and summary.ranking is not None:
        show_table(summary.ranking)
        console.say(summary.answer)
    for trial in trials:
        status, cause = trial.record.status, trial.record.cause
        if status not in (Status.DONE, Status.PLANNED) or (status == Status.PLANNED and not stopped):
            console.say(f"{trial.key}: {status}" + (f": {cause}" if cause else ""))
    if summary is not None:
        console.say(f"report: {console.shown(summary.files[0])}")
    if stopped:
        console.say(f"stopped{'' if trials else ' while tuning'}; run the same command again to continue")


def _as_json(
    run: "RunFolder", trials: "list[StoredTrial]", summary: "WrittenReport | None", code: int
) -> dict[str, Any]:
    keys = ("trial", "method", "variant", "seed", "status", "cause", "points", "axes")
    return {
        "run": str(run.path),
        "exit_code": code,
        "answer": summary.answer if summary else None,
        "ranking": summary.ranking.records() if summary and summary.ranking else [],
        "report": [str(path) for path in summary.files] if summary else [],
        "damage": summary.damage if summary else [],
        "trials": [{key: row.get(key) for key in keys} for row in (trial.row() for trial in trials)],
    }
