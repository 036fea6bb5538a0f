"""What `bench plan --dry` and `--card` add: memory and time of each method, and what of it fits a card."""

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bench import console

if TYPE_CHECKING:
    from bench.build.trial_spec import Trial
    from bench.plan.estimate import Estimate
    from bench.plan.memory.fitting import Fit
    from bench.plan.memory.prediction import Memory

MIB, GIB = 1 << 20, 1 << 30


@dataclass(frozen=True)
class Look:
    """What was found for a variant.

    Attributes:
        memory: a worker's; None where it cannot be told.
        seconds: of a trial on this machine; None likewise.
        fits: what fits the card, the cheapest first.
        smallest: the smallest there is, where nothing fits.
        asked: whether there is a card at all.
    """

    memory: "Memory | None"
    seconds: float | None
    fits: "list[Fit]" = field(default_factory=list)
    smallest: "Fit | None" = None
    asked: bool = False

    def as_dict(self, trial: "Trial") -> dict[str, Any]:
        """For `--json`."""
        found: dict[str, Any] = {"memory": self.memory.as_dict() if self.memory else None, "seconds": self.seconds}
        if self.asked:
            found["fits"] = [{**vars(fit), "set": fit.overrides(trial)} for fit in self.fits]
            found["smallest"] = vars(self.smallest) if self.smallest else None
        return found


def look(trials: "Sequence[Trial]", estimates: "Sequence[Estimate]", card: int | None) -> dict[str, Look]:
    """Variant -> what a dry pass says of it; all seeds of a variant are alike."""
    from bench.build.objects import quieten
    from bench.plan.memory.fitting import fits
    from bench.plan.memory.pace import measure
    from bench.plan.memory.prediction import predict
    from models.loading import MissingModelError

    quieten()
    memory, pace = predict(trials), measure(trials[0])
    found: dict[str, Look] = {}
    for trial, cost in zip(trials, estimates, strict=True):
        if trial.variant in found:
            continue
        choices: list[Fit] = []
        smallest: Fit | None = None
        if card:
            with suppress(MissingModelError):  # said by its memory, which is unknown
                choices, smallest = fits(trial, card)
        seconds = pace.seconds(trial, cost) if pace else None
        found[trial.variant] = Look(memory[trial.variant], seconds, choices, smallest, card is not None)
    return found


def tell(trials: "Sequence[Trial]", found: Mapping[str, Look], card: int | None) -> None:
    """Prints it; nothing where nothing was looked at."""
    if not found:
        return
    specs = {trial.variant: trial for trial in reversed(trials)}
    titles = ["method", "parameters", "gradients", "optimiser", "activations", "in all", "kept", "a trial"]
    rows = [(variant, *_cells(each)) for variant, each in found.items()]
    workers = trials[0].workers
    console.say(f"predicted for each worker ({console.plural(workers, 'worker')}, ZeRO stage {trials[0].zero}):")
    console.table(titles, rows, right=titles[1:])
    if any(each.memory is not None and not each.memory.scored for each in found.values()):
        console.say("without the activations of the reward, which is not ours to call before a trial runs")
    if card:
        console.say(f"on a card of {size(card)}, a tenth of it left free:")
        for variant, each in found.items():
            _tell_fits(specs[variant], each)


def _tell_fits(trial: "Trial", found: Look) -> None:
    if found.memory is None:
        console.say(f"{trial.variant}: unknown")
    elif not found.fits:
        assert found.smallest is not None
        what = "evaluation" if found.smallest.evaluation else "a step"
        console.say(f"{trial.variant}: nothing fits; the smallest, {_words(found.smallest)}, {what} of it takes that")
    for place, fit in enumerate(found.fits):
        console.say(f"{trial.variant if not place else ' ' * len(trial.variant)}  {_words(fit)}")
    if found.fits:
        options = [word for change in found.fits[0].overrides(trial) for word in ("--set", change)]
        if options:
            console.say(f"{' ' * len(trial.variant)}  {shlex.join(options)}")


def _words(fit: "Fit") -> str:
    parts = [f"ZeRO {fit.zero}", fit.precision]
    parts += [f"checkpointing {fit.checkpointing}"] if fit.checkpointing else []
    parts += [f"micro-batch {fit.micro_batch}"] if fit.micro_batch else []
    return f"{', '.join(parts)}: {size(fit.bytes)}"


def _cells(found: Look) -> list[str]:
    memory = found.memory
    took = "unknown" if found.seconds is None else console.duration(found.seconds)
    if memory is None:
        return ["unknown", *["–"] * 4, "", took]
    figures = (sum(memory.parameters.values()), memory.gradients, memory.optimiser, memory.activations, memory.total)
    kept = f"{memory.kept_steps}, {memory.checkpointing}" if memory.kept_steps else ""
    return [*map(size, figures), kept, took]


def size(count: int) -> str:
    """`9.5 MiB`, `12.3 GiB`; a dash for nothing."""
    if not count:
        return "–"
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.1f} MiB"
