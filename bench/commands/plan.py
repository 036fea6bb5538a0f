"""`bench plan`: lists the trials of a sweep and their expected cost, and runs nothing."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bench import console
from bench.commands.shared import RUNS, debug_option, json_option, out_option, run_path, sweep_options
from bench.store.remote.place import Place
from bench.store.status import Status

if TYPE_CHECKING:
    from bench.build.trial_spec import Trial
    from bench.plan.estimate import Estimate
    from bench.plan.planner import Planner
    from bench.store.run_folder import RunFolder
    from bench.sweep.load import LoadedSweep
    from bench.sweep.schema import Sampler


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
    from bench.plan.memory.fitting import card_bytes
    from bench.plan.planner import Planner
    from bench.store.left_aside import print_left_aside
    from bench.store.remote.fetching import RECORDS, fetch_copy
    from bench.store.run_folder import RunFolder
    from bench.sweep.load import load_sweep

    loaded = load_sweep(sweep, scale, overrides)
    where = run_path(loaded, out)
    run = fetch_copy(where, RUNS, RECORDS) if isinstance(where, Place) else RunFolder(where)
    tuned = ""
    planner = Planner(loaded)
    trials = planner.trials()
    if loaded.sweep.search is not None:
        loaded, trials, tuned = _tuned(planner, run, trials)
    for text in planner.warnings:
        console.warn(text)
    if loaded.sweep.search is None:  # a tuning decides which trials there are
        print_left_aside(run, trials)
    size = card_bytes(card) if card else None
    rows = [_row(trial, run) for trial in trials]
    memory = plan_memory.predictions(loaded, [trial for trial in trials if not trial.skip], size) if dry or size else {}
    if as_json:
        predicted = {variant: each.as_dict() for variant, each in memory.items()}
        console.say_json([row.as_dict(predicted.get(row.trial.variant, {})) for row in rows])
        return
    _print_trials(loaded.sweep.name, rows)
    if tuned:
        console.say(tuned)
    _print_totals(rows)
    plan_memory.print_predictions(trials, memory, size)
    options = [*(("--scale", scale) if scale else ()), *(part for text in overrides for part in ("--set", text))]
    options += ["--out", str(out)] if out is not None else []
    console.say(f"run it: {shlex.join(['bench', 'run', str(sweep), *options])}")


@dataclass(frozen=True)
class PlanRow:
    """A planned trial with its status in the run's folder and the most that it will cost.

    Attributes:
        cause: why the trial will be skipped; None if it will not.
    """

    trial: "Trial"
    cost: "Estimate"
    status: Status
    cause: str | None

    def as_dict(self, memory: dict[str, Any]) -> dict[str, Any]:
        """The row for `--json`, with the predicted `memory` of the trial's method."""
        own = {"trial": self.trial.key, "status": self.status, "cause": self.cause, "estimate": self.cost.as_dict()}
        return {**own, **memory, **self.trial.model_dump(mode="json")}


def _row(trial: "Trial", run: "RunFolder") -> PlanRow:
    from bench.plan.estimate import estimate
    from bench.plan.preflight import reason_to_skip

    status = run.trial(trial.key).read().status
    cause = None if status.settled else reason_to_skip(trial)
    # A trial that an earlier call skipped runs once its requirement is met.
    shown = Status.SKIPPED if cause else Status.PLANNED if status == Status.SKIPPED else status
    return PlanRow(trial, estimate(trial), shown, cause)


def _print_trials(name: str, rows: Sequence[PlanRow]) -> None:
    first = rows[0].trial
    stops = "".join(f", at most {limit:,g} {axis}" for axis, limit in first.budget.stops.items())
    budget = f"{first.budget.limit:,g} {first.budget.axis}{stops}"
    what = f"model {first.model_name}, reward {first.reward.label}"
    console.say(f"{name}: {console.plural(len(rows), 'trial')}, each {budget}; {what}")
    console.table(
        ["trial", "status", "sampler", "steps", "queries", "denoiser rows", "points", "eval images", "eval rows"],
        [
            (
                row.trial.key,
                row.status,
                _sampler_text(row.trial.sampler),
                console.number(row.cost.steps),
                console.number(row.cost.reward_queries),
                console.number(row.cost.nfe),
                row.cost.points,
                console.number(row.cost.eval_images),
                console.number(row.cost.eval_nfe),
            )
            for row in rows
        ],
        right=("steps", "queries", "denoiser rows", "points", "eval images", "eval rows"),
    )
    for variant, cause in dict.fromkeys((row.trial.variant, row.cause) for row in rows):
        if cause:
            console.say(f"{variant}: skipped: {cause}")


def _sampler_text(sampler: "Sampler") -> str:
    spacing = f" {sampler.spacing}" if sampler.spacing else ""
    return f"T={sampler.steps} w={sampler.guidance:g} η={sampler.eta:g}{spacing}"


def _print_totals(rows: Sequence[PlanRow]) -> None:
    training = [row.cost.nfe for row in rows]
    known = sum(count for count in training if count is not None)
    evaluation = sum(row.cost.eval_nfe for row in rows)
    unknown = f" and {training.count(None)} unknown" if None in training else ""
    console.say(f"total: {known:,} denoiser rows of training{unknown}, {evaluation:,} of evaluation, at most")


def _tuned(planner: "Planner", run: "RunFolder", trials: "list[Trial]") -> "tuple[LoadedSweep, list[Trial], str]":
    """The sweep and its trials, with tuned settings where the tuning is done, and what to say about the tuning."""
    from bench.run.search.tuning import Tuning

    tuning = Tuning(planner, run, "ray")
    record = tuning.kept_record()
    if record is not None:
        left = console.plural(record.unfinished, "configuration")
        again = f"; first, {left} that failed will be tried again" if record.unfinished else ""
        what = f"tuned already: the trials have the tuned settings{again}"
        return tuning.tuned(record), tuning.compared(record), what
    search = tuning.search
    configurations = [search.samples]
    if search.finals is not None:
        configurations.append(min(search.samples, search.finals.best * len(search.criteria)))
    lines = [_stage(stage, count) for stage, count in zip(tuning.examples(), configurations, strict=True)]
    rows = f"; up to {console.plural(len(search.space), 'variant')} more by gold" if "gold" in search.criteria else ""
    what = f"tuned first by {search.algorithm}: {lines[0]}; the trials above then have other settings, and other names"
    finals = f"\nthen finals: {lines[1]}" if len(lines) > 1 else ""
    return planner.loaded, trials, what + rows + finals


def _stage(trials: "Sequence[Trial]", configurations: int) -> str:
    """The cost of a stage of the tuning in words; `trials` are those of one configuration of every method."""
    from bench.plan.estimate import estimate

    costs = [estimate(trial) for trial in trials]
    known = sum((cost.nfe or 0) + cost.eval_nfe for cost in costs) * configurations
    unknown = " and others that cannot be predicted" if any(cost.nfe is None for cost in costs) else ""
    methods = len({trial.variant for trial in trials})
    each = f"{configurations} configurations of {console.plural(methods, 'method')}"
    return f"{each}, {console.plural(len(trials) * configurations, 'trial')}, at most {known:,} denoiser rows{unknown}"
