"""`bench run`: the main verb. Plans a sweep, runs the trials that are not done yet, and writes the report."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench import console, stopping
from bench.commands.shared import (
    debug_option,
    json_option,
    mirrored,
    out_option,
    print_left_aside,
    run_folder,
    run_path,
    show_table,
    shown,
    sweep_options,
    upload_problem,
)
from bench.errors import GOOD, INTERRUPTED, TRIALS_FAILED, BenchError
from bench.run.executors import NAMES
from bench.store.remote.place import Place
from bench.store.status import Status

if TYPE_CHECKING:
    from bench.build.trial_spec import Trial
    from bench.plan.planner import Planner
    from bench.results.report import WrittenReport
    from bench.store.records import TuningRecord
    from bench.store.run_folder import RunFolder, StoredTrial
    from bench.sweep.load import LoadedSweep


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
    from bench.plan.planner import Planner, resolved_sweep
    from bench.plan.preflight import check_deepspeed, check_model
    from bench.run.executors import load_executor
    from bench.run.pending import trials_to_run
    from bench.store.plan_file import describe_run
    from bench.store.provenance import this_command
    from bench.sweep.load import load_sweep, variants_of

    loaded = load_sweep(sweep, scale, overrides)
    planner = Planner(loaded)
    trials = planner.trials()
    check_model(trials[0].model)
    check_deepspeed(trials[0].zero)
    executor = load_executor(executor_name)
    if address and executor_name != "ray":
        raise BenchError("only the ray executor can join a cluster", "--address", "leave out --executor, or --address")
    room = executor.parallel(trials, address)
    for text in planner.warnings:
        console.warn(text)
    place = run_path(loaded, out)
    run = run_folder(place)
    with run.lock(), mirrored(run, place) as mirror:
        command_line = this_command()
        summary: WrittenReport | None = None
        tuning = None
        stopped = False
        aside: tuple[str, ...] = ()
        if loaded.sweep.search is not None:
            tuning = _tune(planner, run, executor, executor_name, command_line, address, room)
            stopped = tuning is None
        if not stopped:
            loaded, record = tuning or (loaded, None)
            if tuning:
                aside += print_left_aside(run.tuning, (), [row.trial for row in run.tuning.planned()])
                trials = planner.trials(variants_of(loaded.sweep, loaded.root))
            todo, at_once = trials_to_run(trials, run), min(room, len(trials))
            about = describe_run(trials, loaded.sweep, command_line, executor_name, at_once, record)
            about["warnings"] = list(planner.warnings)
            aside += print_left_aside(run, trials)
            run.write_plan(resolved_sweep(loaded), trials, **_with_history(about, run, bool(todo)))
            _announce(trials, todo, run, executor_name, at_once)
            stopped = _execute(executor, todo, run, command_line, address)
            summary = _report(run)
    # If the user stopped the tuning there is nothing to compare yet; trials of an earlier call are not shown.
    stored = run.trials() if loaded.sweep.search is None else []
    problem = upload_problem(mirror)
    failed = problem is not None or any(trial.record.status.broken or not trial.record.status.ended for trial in stored)
    code = INTERRUPTED if stopped else TRIALS_FAILED if failed else GOOD
    if as_json:
        from bench.results.report import warnings_of  # matplotlib and scipy, which no trial waits for

        uploaded = {"url": mirror.place.url, "not_uploaded": mirror.left()} if mirror else {}
        warnings = [*planner.warnings, *warnings_of(stored), *aside]
        console.say_json({**_as_json(run, stored, summary, code), "warnings": warnings, **uploaded})
    else:
        _print_results(stored, summary, stopped)
        if mirror and not problem:
            console.say(f"uploaded: {mirror.place}")
    if problem:
        console.error(problem)
    return code


def _tune(
    planner: "Planner",
    run: "RunFolder",
    default_executor: Any,
    executor_name: str,
    command_line: str,
    address: str | None,
    room: int,
) -> "tuple[LoadedSweep, TuningRecord] | None":
    """The sweep with its tuned settings, and the record of the tuning; None if the user stopped the tuning."""
    from bench.run.pending import trials_to_run
    from bench.run.search.tuning import Tuning

    def run_trials(trials: "Sequence[Trial]", run: "RunFolder", at_once: int, executor: Any = None) -> bool:
        todo = trials_to_run(trials, run)
        if not todo:
            return False
        _announce(trials, todo, run, executor_name, at_once)
        if executor is None:
            return _execute(default_executor, todo, run, command_line, address)
        # ASHA's executor compares running trials with the settled ones.
        compared = [trial for trial in trials if run.trial(trial.key).recorded_status() != Status.SKIPPED]
        return _execute(executor, compared, run, command_line, address)

    tuning = Tuning(planner, run, executor_name, command_line, room)
    record = tuning.run(run_trials)
    if record is None:
        return None
    tuning.announce(record)
    return tuning.tuned(record), record


def _with_history(about: dict[str, Any], run: "RunFolder", runs_trials: bool) -> dict[str, Any]:
    """The plan's fields `about`, with those of an earlier call that stay true of the trials it ran.

    The most trials that ran at a time are kept, because seconds depend on them; a call that runs no trial keeps
    command and executor too.
    """
    if not run.exists():
        return about
    try:
        before = run.plan_record()
    except BenchError as error:
        console.warn(f"{error.where} {error.what}; it is written again")
        return about
    for text in before.damage:
        console.warn(text)
        about = {**about, "warnings": [*about["warnings"], f"{text.partition(';')[0]}, and was written again"]}
    kept = {} if runs_trials else before.model_dump(exclude_unset=True, include={"command", "executor"})
    return {**about, **kept, "parallel": max(before.parallel, about["parallel"] if runs_trials else 1)}


def _announce(trials: "Sequence[Trial]", todo: "Sequence[Trial]", run: "RunFolder", name: str, at_once: int) -> None:
    budget = trials[0].budget
    skipped = sum(run.trial(trial.key).recorded_status() == Status.SKIPPED for trial in trials)
    already = len(trials) - len(todo) - skipped
    parts = [console.plural(len(trials), "trial")]
    if already:
        parts.append(f"{already} done already")
    if skipped:
        parts.append(f"{skipped} skipped")
    parts.append(f"{budget.limit:,g} {budget.axis} each")
    if todo:
        parts.append(f"{min(at_once, len(todo))} at a time ({name})")
    where = shown(run.path) if run.label == str(run.path) else f"{run.label}, through {shown(run.path)}"
    console.note(f"{run.plan_record().name}: {', '.join(parts)} → {where}")


def _execute(executor: Any, todo: "Sequence[Trial]", run: "RunFolder", command_line: str, address: str | None) -> bool:
    """Runs the trials; True if the user stopped them."""
    from bench.run.progress import watching
    from bench.run.settle import settled

    stopping.check()
    if not todo:
        return False
    # Ray reports dead processes on standard output, which is kept for the results.
    with redirect_stdout(sys.stderr), _inside(run.path), watching(todo, run):
        try:
            with settled(todo, run), stopping.heeded():
                executor.execute(todo, run, command_line, address)
        except KeyboardInterrupt:
            if stopping.requests() > 1:
                raise
            console.note("stopping and writing the report; press Ctrl-C again to skip the report")
            return True
    return False


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Makes the run's folder the working directory while the block runs.

    Ray's workers put the driver's directory first on their import path, and a user's own `models` package there would
    shadow ours.
    """
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


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
        console.say(f"report: {shown(summary.files[0])}")
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
