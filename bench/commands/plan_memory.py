"""What `bench plan --dry` and `--card` add: the memory of each method, and what of it fits a card."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench import console

if TYPE_CHECKING:
    from bench.build.trial_spec import Trial
    from bench.plan.memory.prediction import Memory
    from bench.sweep.load import LoadedSweep

MIB, GIB = 1 << 20, 1 << 30


@dataclass(frozen=True)
class Look:
    """What a dry pass finds of a method.

    Attributes:
        memory: a worker's; None where it cannot be known.
        fitted: a worker's as it fits the card, or the smallest there is; None where there is no card.
        fits: whether the card has room for that.
        changes: `PATH=VALUE` for `--set`, with which it does.
    """

    memory: "Memory | None"
    fitted: "Memory | None" = None
    fits: bool = False
    changes: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        fit = {"fits": self.fits, "set": self.changes, "bytes": self.fitted.total} if self.fitted else None
        return {"memory": self.memory.as_dict() if self.memory else None, "fit": fit}


def look(loaded: "LoadedSweep", trials: "Sequence[Trial]", card: int | None) -> dict[str, Look]:
    """Variant -> what a dry pass finds; all seeds of a variant are alike."""
    from bench.build.objects import quieten
    from bench.plan.memory.fitting import differences, fit
    from bench.plan.memory.prediction import build_rewards, predict
    from bench.sweep.load import variants_of
    from bench.sweep.variants import variant_name

    quieten()
    rewards = build_rewards(trials[0])
    entries = {each.name: loaded.sweep.methods[int(each.path[1])] for each in variants_of(loaded.sweep, loaded.root)}
    known: dict[str, Memory | None] = {}

    def remembered(trial: "Trial") -> Any:
        key = trial.model_dump_json()
        if key not in known:
            known[key] = predict(trial, rewards)
        return known[key]

    found: dict[str, Look] = {}
    for variant, trial in {trial.variant: trial for trial in trials}.items():
        memory = remembered(trial)
        if memory is None or card is None:
            found[variant] = Look(memory)
            continue
        changed, fitted, fits = fit(trial, card, remembered)
        entry = entries[variant]
        places = {"settings": f"methods.{variant_name(entry.name, entry.variant)}.settings", "resources": "resources"}
        changes = [f"{places[place]}.{key}={value}" for (place, key), value in differences(trial, changed).items()]
        found[variant] = Look(memory, fitted, fits, changes)
    return found


def tell(trials: "Sequence[Trial]", found: dict[str, Look], card: int | None) -> None:
    """Prints it; nothing where nothing was looked at."""
    if not found:
        return
    titles = ["method", "parameters", "gradients", "optimiser", "activations", "evaluation", "in all"]
    workers = console.plural(trials[0].workers, "worker")
    console.say(f"predicted for each worker ({workers}, ZeRO stage {trials[0].zero}, {trials[0].precision}):")
    console.table(titles, [(variant, *_cells(each.memory)) for variant, each in found.items()], right=titles[1:])
    if card is not None:
        console.say(f"on a card of {size(card)}, a tenth of it left free:")
        for variant, each in found.items():
            console.say(f"{variant}: {_words(each)}")


def _words(found: Look) -> str:
    if found.fitted is None:
        return "unknown"
    options = shlex.join(word for change in found.changes for word in ("--set", change))
    how, total = f"with {options}" if options else "as it is", size(found.fitted.total)
    if found.fits:
        return f"fits {how} ({total})"
    what = "an evaluation" if found.fitted.evaluating > found.fitted.training else "a step"
    return f"does not fit; the smallest, {how}, has {total} in {what}"


def _cells(memory: "Memory | None") -> list[str]:
    if memory is None:
        return ["unknown", *["–"] * 5]
    parts = (memory.gradients, memory.optimiser, memory.activations, memory.evaluation, memory.total)
    return [size(sum(memory.parameters.values())), *map(size, parts)]


def size(count: int) -> str:
    """`9.5 MiB`, `12.3 GiB`; a dash for nothing."""
    if not count:
        return "–"
    return f"{count / GIB:.1f} GiB" if count >= GIB else f"{count / MIB:.1f} MiB"
