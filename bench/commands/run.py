"""`bench run`: the main verb. Plans a sweep, runs what is not done yet, and reports."""

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
    run_folder,
    run_path,
    show_table,
    shown,
    sweep_options,
    tell_left_aside,
    upload_problem,
)
from bench.errors import GOOD, INTERRUPTED, TRIALS_FAILED, BenchError
from bench.run.executors import NAMES
from bench.store.status import Status

if TYPE_CHECKING:
    from bench.build.trial_spec import Trial
    from bench.plan.planner import Planner
    from bench.results.report import WrittenReport
    from bench.store.remote.place import Place
    from bench.store.run_folder import RunFolder, StoredTrial
    from bench.sweep.load import LoadedSweep


@click.command("run", short_help="Run a sweep: train, evaluate, report.")
@sweep_options
@out_option
@click.option(
    "--executor", "executor_name", type=click.Choice(NAMES), default="ray", show_default=True, help="Where trials run."
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
    out: "Path | Place | None",
    executor_name: str,
    address: str | None,
    as_json: bool,
) -> int:
    """Run SWEEP: train every method on every seed, evaluate along the way, and write the comparison report.

    SWEEP is a YAML file, or the name of a sweep that `bench list sweeps` lists.

    Trials that are done already are not run again, so Ctrl-C and the same command continue where it stopped.
    With a URL as --out the run works in runs/.remote/ and is uploaded as it goes; the same command on another machine
    continues from what is there.
    """
    from bench.plan.planner import Planner, resolved_sweep
    from bench.plan.preflight import check_deepspeed, check_model
    from bench.run.executors import executor
    from bench.store.plan_file import describe_run
    from bench.store.provenance import this_command
    from bench.sweep.load import load_sweep, variants_of

    loaded = load_sweep(sweep, scale, overrides)
    planner = Planner(loaded)
    trials = planner.trials()
    check_model(trials[0].model)
    check_deepspeed(trials[0].zero)
    chosen = executor(executor_name)
    if address and executor_name != "ray":
        raise BenchError("a cluster is Ray's", "--address", "leave out --executor, or --address")
    room = chosen.parallel(trials, address)
    for text in planner.warnings:
        console.warn(text)
    place = run_path(loaded, out)
    run = run_folder(place)
    with run.lock(), mirrored(run, place) as mirror:
        line = this_command()
        summary: WrittenReport | None = None
        tuning = None
        stopped = False
        aside: tuple[str, ...] = ()
        if loaded.sweep.search is not None:
            tuning = _tune(planner, run, chosen, executor_name, line, address, room)
            stopped = tuning is None
        if not stopped:
            loaded, record = tuning or (loaded, None)
            if record:
                aside += tell_left_aside(run.tuning, (), [row.trial for row in run.tuning.planned()])
            if tuning:
                trials = planner.trials(variants_of(loaded.sweep, loaded.root))
            todo, at_once = _todo(trials, run), min(room, len(trials))
            about = describe_run(trials, loaded.sweep, line, executor_name, at_once, record)
            about["warnings"] = list(planner.warnings)
            aside += tell_left_aside(run, trials)
            run.write_plan(resolved_sweep(loaded), trials, **_with_history(about, run, bool(todo)))
            _announce(trials, todo, run, executor_name, at_once)
            stopped = _execute(chosen, todo, run, line, address)
            summary = _report(run)
    # There is nothing to compare yet where the user stopped the tuning; what a run before it left is not shown.
    stored = run.trials() if loaded.sweep.search is None else []
    problem = upload_problem(mirror)
    broken = problem is not None or any(trial.record.status.broken or not trial.record.status.ended for trial in stored)
    code = INTERRUPTED if stopped else TRIALS_FAILED if broken else GOOD
    if as_json:
        from bench.results.report import warnings_of  # matplotlib and scipy, which no trial waits for

        uploaded = {"url": mirror.place.url, "not_uploaded": mirror.left()} if mirror else {}
        warnings = [*planner.warnings, *warnings_of(stored), *aside]
        console.say_json({**_as_json(run, stored, summary, code), "warnings": warnings, **uploaded})
    else:
        _tell(stored, summary, stopped)
        if mirror and not problem:
            console.say(f"uploaded: {mirror.place}")
    if problem:
        console.error(problem)
    return code


def _tune(
    planner: "Planner",
    run: "RunFolder",
    chosen: Any,
    executor_name: str,
    line: str,
    address: str | None,
    room: int,
) -> "tuple[LoadedSweep, dict[str, Any]] | None":
    """The sweep with its tuned settings, and the record of the tuning; None where the user stopped it."""
    from bench.run.search.tuning import Tuning

    def go(trials: "Sequence[Trial]", run: "RunFolder", at_once: int, executor: Any = None) -> bool:
        todo = _todo(trials, run)
        if not todo:
            return False
        _announce(trials, todo, run, executor_name, at_once)
        # Who acts on running trials must know how the settled ones did.
        known = [trial for trial in trials if run.trial(trial.key).recorded_status() != Status.SKIPPED]
        return _execute(executor or chosen, known if executor else todo, run, line, address)

    tuning = Tuning(planner, run, executor_name, line, room)
    record = tuning.run(go)
    if record is None:
        return None
    tuning.announce(record)
    return tuning.tuned(record), record


def _todo(trials: "Sequence[Trial]", run: "RunFolder") -> "list[Trial]":
    """What is left to run: a finished trial is not run again, and a diverged one would only diverge again.

    A trial whose method needs what is not installed is recorded as skipped, before anything runs. Damaged files are
    mended here, or their trials run again.
    """
    from bench.plan.preflight import reason_to_skip
    from bench.run.worker import mended, record_skipped

    todo = []
    for trial in trials:
        folder = run.trial(trial.key)
        for text in mended(trial, folder):
            console.warn(f"{trial.key}: {text}")
        if folder.read().status.settled:
            continue
        reason = reason_to_skip(trial)
        if reason:
            record_skipped(trial, folder, reason)
        else:
            todo.append(trial)
    return todo


def _with_history(about: dict[str, Any], run: "RunFolder", anything: bool) -> dict[str, Any]:
    """How trials of an earlier call ran stays true: their seconds were taken beside others, under that command."""
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
    kept = {} if anything else before.model_dump(exclude_unset=True, include={"command", "executor"})
    return {**about, **kept, "parallel": max(before.parallel, about["parallel"] if anything else 1)}


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
    where = shown(run.path) if run.label == str(run.path) else f"{run.label}, by way of {shown(run.path)}"
    console.note(f"{run.plan_record().name}: {', '.join(parts)} → {where}")


def _execute(chosen: Any, todo: "Sequence[Trial]", run: "RunFolder", line: str, address: str | None) -> bool:
    """Runs the trials; True if the user stopped them."""
    from bench.run.progress import watching
    from bench.run.settle import settled

    stopping.check()
    if not todo:
        return False
    # Ray tells of a process that died on standard output, which is the answer's.
    with redirect_stdout(sys.stderr), _inside(run.path), watching(todo, run):
        try:
            with settled(todo, run), stopping.heeded():
                chosen.execute(todo, run, line, address)
        except KeyboardInterrupt:
            if stopping.requests() > 1:
                raise
            console.note("stopping, with a report of what there is; Ctrl-C again leaves it out")
            return True
    return False


@contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Works in the run's folder: Ray's workers put the driver's directory first on their import path, and a user's own
    `models` package there would shadow ours.
    """
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _report(run: "RunFolder") -> "WrittenReport | None":
    """The report of whatever there is; none before the first point of any trial."""
    from bench.results.report import report

    if not any(run.trial(row.trial).path.exists() for row in run.planned()):
        return None
    return report(run)


def _tell(trials: "list[StoredTrial]", summary: "WrittenReport | None", stopped: bool) -> None:
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
