"""Trials in a run's folder that its current plan no longer has, and the changes of the sweep that caused it."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench import console
from bench.build.trial_spec import Trial
from bench.store.records import TrialRecord
from bench.store.run_folder import RunFolder
from bench.store.status import Status
from bench.store.trial_folder import TrialFolder

NAMED = 3
"""The number of trials, and of changes, that a sentence names; the others are counted."""

SPLITS = {"prompts_train": "prompts.train", "prompts_heldout": "prompts.heldout"}
RESOURCES = ("precision", "workers", "zero")
SOURCE_CHANGED = "the source of its method, or of a module that the method uses, has changed"


@dataclass(frozen=True)
class LeftAside:
    """Sentences about trials that an earlier plan had and the current plan has not.

    Attributes:
        unfinished: one sentence per reason, about all unfinished trials that were left aside for it.
        finished: one sentence about all finished trials; empty if there are none.
    """

    unfinished: tuple[str, ...]
    finished: tuple[str, ...]


def left_aside(run: RunFolder, trials: Sequence[Trial], planned: Collection[str] = ()) -> LeftAside:
    """Describes the trials in the folder of `run` that are not planned.

    Args:
        run: the run's folder; a trial that a process is training now is not described.
        trials: the planned trials; empty if only their names are known, as in a tuning.
        planned: names of further planned trials.
    """
    unfinished: dict[str, list[str]] = {}
    finished: dict[str, list[str]] = {}
    names_planned = {trial.key for trial in trials} | set(planned)
    for path in sorted(run.trials_path.glob("*/trial.json")):
        folder = TrialFolder(path.parent)
        if folder.key in names_planned:
            continue
        record = folder.read()
        if record.status in (Status.DONE, Status.DIVERGED):
            finished.setdefault(_why(record, trials), []).append(folder.key)
        elif record.status == Status.INTERRUPTED or (record.status == Status.FAILED and folder.curve_path.exists()):
            unfinished.setdefault(_why(record, trials), []).append(folder.key)
    place = f"{run.path.name}/{run.trials_path.name}/"
    sentences = tuple(
        f"{console.plural(len(names), 'unfinished trial')} of an earlier plan left aside ({_some(names)}): {why}; "
        f"kept in {place}; undo the change to continue"
        for why, names in unfinished.items()
    )
    ended = [name for names in finished.values() for name in names]
    why = f": {next(iter(finished))}" if len(finished) == 1 else ""
    kept = f"{console.plural(len(ended), 'finished trial')} of an earlier plan kept in {place}, not in the report"
    return LeftAside(sentences, (f"{kept} ({_some(ended)}){why}",) if ended else ())


def print_left_aside(run: RunFolder, trials: Sequence[Trial], planned: Collection[str] = ()) -> tuple[str, ...]:
    """Prints the sentences of `left_aside`, and returns those about unfinished trials, which are warnings."""
    aside = left_aside(run, trials, planned)
    for text in aside.unfinished:
        console.warn(text)
    for text in aside.finished:
        console.note(text)
    return aside.unfinished


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - NAMED} more" if len(texts) > NAMED else ""
    return ", ".join(texts[:NAMED]) + more


def _why(record: TrialRecord, trials: Sequence[Trial]) -> str:
    """Why a trial is not the plan's trial of its variant and seed."""
    if not trials:
        return "another search"
    of_variant = [trial for trial in trials if trial.variant == record.variant]
    of_seed = [trial for trial in of_variant if trial.seed == record.seed]
    if not of_variant:
        return f"{record.variant} is no longer in the sweep"
    if not of_seed:
        return f"seed {record.seed} is no longer in the sweep"
    if record.spec is None:
        return "its settings have changed"
    return _some(list(_changes(record.spec, of_seed[0].model_dump(mode="json")))) or SOURCE_CHANGED


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """The differences in settings that decide a trial's numbers, under the sweep's names for them."""
    if before.get("method") != now["method"]:
        yield f"method {before.get('method')} → {now['method']}"
    old_settings, new_settings = dict(_named_settings(before)), dict(_named_settings(now))
    for name in dict.fromkeys([*old_settings, *new_settings]):
        old, new = old_settings.get(name), new_settings.get(name)
        if old != new:
            yield f"{name} {_shown(old)} → {_shown(new)}"
    for field, name in SPLITS.items():
        old, new = before.get(field) or (), now[field]
        if list(old) != list(new):
            yield f"{name}, {console.plural(len(old), 'prompt')} → {len(new)}" if len(old) != len(new) else name
    for field, name in (("reward", "reward"), ("rewards", "evaluate.rewards"), ("gold", "evaluate.gold")):
        old, new = _fingerprints(before.get(field)), _fingerprints(now[field])
        if old != new:
            old_labels, new_labels = (", ".join(label for label, _ in rewards) or "none" for rewards in (old, new))
            changed = f"{name} {old_labels} → {new_labels}"
            yield changed if old_labels != new_labels else f"the source or the weights of {name} {old_labels}"
    if (before.get("weights") or {}).get("model") != now["weights"].get("model"):
        same_name = before.get("model_name") == now["model_name"]
        yield "the model's weights" if same_name else f"model {before.get('model_name')} → {now['model_name']}"


def _named_settings(spec: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every setting of a trial, as pairs of the sweep's name and the value."""
    own = f"methods.{spec.get('variant')}.settings"
    for part in ("settings", "sampler", "lora"):
        for key, value in (spec.get(part) or {}).items():
            yield f"{own if part == 'settings' else part}.{key}", value
    for key in RESOURCES:
        yield f"resources.{key}", spec.get(key)
    budget = spec.get("budget") or {}
    yield f"budget.{budget.get('axis')}", budget.get("limit")
    for axis, limit in (budget.get("stops") or {}).items():
        yield f"budget.{axis}", limit
    for key, value in (spec.get("evaluate") or {}).items():
        if isinstance(value, Mapping):
            yield from ((f"evaluate.{key}.{name}", setting) for name, setting in value.items())
        else:
            yield f"evaluate.{key}", value


def _fingerprints(field: Any) -> list[tuple[str, str]]:
    """Label and fingerprint of every reward in a field of a trial: a list of rewards, one reward, or None."""
    rewards = field if isinstance(field, list) else [field] if field else []
    return [(reward["label"], reward["fingerprint"]) for reward in rewards]


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
