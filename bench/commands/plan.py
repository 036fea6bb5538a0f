"""`bench plan`: lists the trials of a sweep and their expected cost, and runs nothing."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bench import console
from bench.commands.shared import RUNS, debug_option, json_option, out_option, print_left_aside, run_path, sweep_options
from bench.store.remote.place import Place
from bench.store.status import Status

if TYPE_CHECKING:
    from bench.plan.planner import Planner
    from bench.store.run_folder import RunFolder
    from bench.sweep.load import LoadedSweep


@click.command("plan", short_help="List a sweep's trials and their cost; run nothing.")
@sweep_options
@out_option
@click.option("--dry", is_flag=True, help="Predict each method's memory by a dry pass, which takes seconds.")
@click.option(
    "--card",
    metavar="SIZE",
    help="Find settings that fit a GPU of this size, such as 24GB, which takes a minute for each method.",
)
@json_option
@debug_option
def command(
    sweep: Path,
    scale: str | None,
    overrides: tuple[str, ...],
    out: Path | Place | None,
    dry: bool,
    card: str | None,
    as_json: bool,
) -> None:
    """List the trials of SWEEP and the most that they will cost, where their methods can predict it; run nothing.

    SWEEP is a YAML file, or the name of a sweep that `bench list sweeps` lists.
    """
    from bench.commands import plan_memory
    from bench.plan.estimate import estimate
    from bench.plan.memory.fitting import card_bytes
    from bench.plan.planner import Planner
    from bench.plan.preflight import reason_to_skip
    from bench.store.remote.fetching import fetch_copy, records
    from bench.store.run_folder import RunFolder
    from bench.sweep.load import load_sweep, variants_of

    loaded = load_sweep(sweep, scale, overrides)
    where = run_path(loaded, out)
    run = fetch_copy(where, RUNS, records) if isinstance(where, Place) else RunFolder(where)
    tuned = ""
    planner = Planner(loaded)
    if loaded.sweep.search is not None:
        loaded, tuned = _tuned(planner, run)
    trials = planner.trials(variants_of(loaded.sweep, loaded.root))
    for text in planner.warnings:
        console.warn(text)
    if loaded.sweep.search is None:  # a tuning decides which trials there are
        print_left_aside(run, trials)
    size = card_bytes(card) if card else None
    estimates = [estimate(trial) for trial in trials]
    statuses, causes = [], []
    for trial in trials:
        status = run.trial(trial.key).read().status
        cause = None if status.settled else reason_to_skip(trial)
        # A trial that an earlier call skipped runs once its requirement is met.
        statuses.append(Status.SKIPPED if cause else Status.PLANNED if status == Status.SKIPPED else status)
        causes.append(cause)
    memory = plan_memory.predictions(loaded, trials, size) if dry or size else {}
    if as_json:
        rows = [
            {
                "trial": trial.key,
                "status": status,
                "cause": cause,
                "estimate": cost.as_dict(),
                **(memory[trial.variant].as_dict() if memory else {}),
                **trial.model_dump(mode="json"),
            }
            for trial, cost, status, cause in zip(trials, estimates, statuses, causes, strict=True)
        ]
        console.say_json(rows)
        return
    first = trials[0]
    stops = "".join(f", at most {limit:,g} {axis}" for axis, limit in first.budget.stops.items())
    budget = f"{first.budget.limit:,g} {first.budget.axis}{stops}"
    what = f"model {first.model_name}, reward {first.reward.label}"
    console.say(f"{loaded.sweep.name}: {console.plural(len(trials), 'trial')}, each {budget}; {what}")
    console.table(
        ["trial", "status", "sampler", "steps", "queries", "denoiser rows", "points", "eval images", "eval rows"],
        [
            (
                trial.key,
                status,
                f"T={trial.sampler.steps} w={trial.sampler.guidance:g} η={trial.sampler.eta:g}",
                console.number(cost.steps),
                console.number(cost.reward_queries),
                console.number(cost.nfe),
                cost.points,
                console.number(cost.eval_images),
                console.number(cost.eval_nfe),
            )
            for trial, cost, status in zip(trials, estimates, statuses, strict=True)
        ],
        right=("steps", "queries", "denoiser rows", "points", "eval images", "eval rows"),
    )
    for variant, cause in dict.fromkeys((trial.variant, cause) for trial, cause in zip(trials, causes, strict=True)):
        if cause:
            console.say(f"{variant}: skipped: {cause}")
    training = [cost.nfe for cost in estimates]
    known = sum(rows for rows in training if rows is not None)
    evaluation = sum(cost.eval_nfe for cost in estimates)
    unknown = f" and {training.count(None)} unknown" if None in training else ""
    if tuned:
        console.say(tuned)
    console.say(f"total: {known:,} denoiser rows of training{unknown}, {evaluation:,} of evaluation, at most")
    plan_memory.print_predictions(trials, memory, size)
    options = [*(("--scale", scale) if scale else ()), *(part for text in overrides for part in ("--set", text))]
    options += ["--out", str(out)] if out is not None else []
    console.say(f"run it: {shlex.join(['bench', 'run', str(sweep), *options])}")


def _tuned(planner: "Planner", run: "RunFolder") -> "tuple[LoadedSweep, str]":
    """The sweep, with tuned settings where the tuning is done, and a line on the tuning for the user."""
    from bench.plan.estimate import estimate
    from bench.run.search.tuning import Tuning

    tuning = Tuning(planner, run, "ray")
    record = tuning.kept_record()
    if record is not None:
        left = tuning.unfinished(record)
        again = f"; first, {console.plural(left, 'configuration')} that failed will be tried again" if left else ""
        return tuning.tuned(record), f"tuned already: the trials have the tuned settings{again}"
    search = tuning.search
    count = len(search.space) * search.samples * len(search.seeds)
    first = [trial for name in search.space for trial in tuning.candidates.make(name, 0, {}).trials]
    costs = [estimate(trial) for trial in first]
    known = sum((cost.nfe or 0) + cost.eval_nfe for cost in costs) * search.samples
    unknown = " and others that cannot be predicted" if any(cost.nfe is None for cost in costs) else ""
    each = f"{search.samples} configurations of {console.plural(len(search.space), 'method')}"
    what = (
        f"tuned first by {search.algorithm}: {each}, {console.plural(count, 'trial')}, at most {known:,} denoiser "
        f"rows{unknown}; the trials above then have other settings, and other names"
    )
    return planner.loaded, what
