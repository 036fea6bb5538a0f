"""The part of `bench plan` behind `--dry` and `--card`: each method's memory, and settings that fit a GPU."""

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
class MethodMemory:
    """A method's memory as a dry pass predicts it.

    Attributes:
        memory: one worker's, with the sweep's settings; None if it cannot be predicted.
        fitted: one worker's, with `changes`; None without a card.
        fits: whether the card has room for `fitted`; if not, `fitted` is the smallest that was found.
        changes: `PATH=VALUE` for `--set`.
    """

    memory: "Memory | None"
    fitted: "Memory | None" = None
    fits: bool = False
    changes: Sequence[str] = ()

    def as_dict(self) -> dict[str, Any]:
        """The fields `memory` and `fit` of `bench plan --json`."""
        fit = {"fits": self.fits, "set": self.changes, "bytes": self.fitted.total} if self.fitted else None
        return {"memory": self.memory.as_dict() if self.memory else None, "fit": fit}


def predictions(loaded: "LoadedSweep", trials: "Sequence[Trial]", card: int | None) -> dict[str, MethodMemory]:
    """Variant -> its predicted memory, which all seeds of a variant share; `card` is a GPU's bytes."""
    from bench.build.objects import quieten
    from bench.plan.memory.fitting import differences, fit
    from bench.plan.memory.prediction import build_rewards, predict
    from bench.sweep.load import variants_of
    from bench.sweep.variants import variant_name

    quieten()
    rewards = build_rewards(trials[0])
    entries = {each.name: loaded.sweep.methods[int(each.path[1])] for each in variants_of(loaded.sweep, loaded.root)}
    known: dict[str, Memory | None] = {}

    def predicted(trial: "Trial") -> Any:
        key = trial.model_dump_json()
        if key not in known:
            known[key] = predict(trial, rewards)
        return known[key]

    found: dict[str, MethodMemory] = {}
    for variant, trial in {trial.variant: trial for trial in trials}.items():
        memory = predicted(trial)
        if memory is None or card is None:
            found[variant] = MethodMemory(memory)
            continue
        changed, fitted, fits = fit(trial, card, predicted)
        entry = entries[variant]
        places = {"settings": f"methods.{variant_name(entry.name, entry.variant)}.settings", "resources": "resources"}
        changes = [f"{places[place]}.{key}={value}" for (place, key), value in differences(trial, changed).items()]
        found[variant] = MethodMemory(memory, fitted, fits, changes)
    return found


def print_predictions(trials: "Sequence[Trial]", found: dict[str, MethodMemory], card: int | None) -> None:
    """Prints a table of the predictions and how each method fits the card; nothing without predictions."""
    if not found:
        return
    titles = ["method", "parameters", "gradients", "optimiser", "activations", "evaluation", "total"]
    workers = console.plural(trials[0].workers, "worker")
    console.say(f"predicted for each worker ({workers}, ZeRO stage {trials[0].zero}, {trials[0].precision}):")
    console.table(titles, [(variant, *_cells(each.memory)) for variant, each in found.items()], right=titles[1:])
    if card is not None:
        console.say(f"on a card of {size(card)}, a tenth of it left free:")
        for variant, each in found.items():
            console.say(f"{variant}: {_fit_text(each)}")


def _fit_text(found: MethodMemory) -> str:
    if found.fitted is None:
        return "unknown"
    options = shlex.join(part for change in found.changes for part in ("--set", change))
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
