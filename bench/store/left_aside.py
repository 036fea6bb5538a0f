"""Trials of earlier plans that lie in a run's folder and are in its plan no more, and what has changed since."""

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
"""Trials, and changes, that are named; the others are counted."""

SPLITS = {"prompts_train": "prompts.train", "prompts_heldout": "prompts.heldout"}
RESOURCES = ("precision", "workers", "zero")
SAME = "the source of its method, or of what that is made of, has changed"


@dataclass(frozen=True)
class LeftAside:
    """Sentences about trials that an earlier plan had and this one has not.

    Attributes:
        unfinished: a sentence for all that were left in the middle for the same reason.
        finished: one for all that have an end, or none.
    """

    unfinished: tuple[str, ...]
    finished: tuple[str, ...]


def left_aside(run: RunFolder, trials: Sequence[Trial], planned: Collection[str] = ()) -> LeftAside:
    """Describes the trials in the folder of `run` that are none of `trials`.

    Args:
        run: the folder; a trial that is being written just now is left out.
        trials: of the plan; none where only their names are known, as in a tuning.
        planned: names of trials that belong to it too.
    """
    unfinished: dict[str, list[str]] = {}
    finished: dict[str, list[str]] = {}
    known = {trial.key for trial in trials} | set(planned)
    for path in sorted(run.trials_path.glob("*/trial.json")):
        folder = TrialFolder(path.parent)
        if folder.key in known:
            continue
        record = folder.read()
        if record.status in (Status.DONE, Status.DIVERGED):
            finished.setdefault(_why(record, trials), []).append(folder.key)
        elif record.status == Status.INTERRUPTED or (record.status == Status.FAILED and folder.curve_path.exists()):
            unfinished.setdefault(_why(record, trials), []).append(folder.key)
    place = f"{run.path.name}/{run.trials_path.name}/"
    sentences = tuple(
        f"{console.plural(len(names), 'unfinished trial')} of an earlier plan left aside ({_some(names)}): {why}; "
        f"kept in {place}, and continued only where that is as it was"
        for why, names in unfinished.items()
    )
    ended = [name for names in finished.values() for name in names]
    why = f": {next(iter(finished))}" if len(finished) == 1 else ""
    kept = f"{console.plural(len(ended), 'finished trial')} of an earlier plan kept in {place}, not in the report"
    return LeftAside(sentences, (f"{kept} ({_some(ended)}){why}",) if ended else ())


def _some(texts: Sequence[str]) -> str:
    more = f" and {len(texts) - NAMED} more" if len(texts) > NAMED else ""
    return ", ".join(texts[:NAMED]) + more


def _why(record: TrialRecord, trials: Sequence[Trial]) -> str:
    """Why a trial is not the plan's trial of its variant and seed."""
    if not trials:
        return "another search"
    like = [trial for trial in trials if trial.variant == record.variant]
    same = [trial for trial in like if trial.seed == record.seed]
    if not like:
        return f"{record.variant} is no longer in the sweep"
    if not same:
        return f"seed {record.seed} is no longer in the sweep"
    if record.spec is None:
        return "its settings were others"
    return _some(list(_changes(record.spec, same[0].model_dump(mode="json")))) or SAME


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What decides a trial's numbers and differs, by the names that the sweep has for it."""
    if before.get("method") != now["method"]:
        yield f"method {before.get('method')} → {now['method']}"
    then, new = dict(_named(before)), dict(_named(now))
    for name in dict.fromkeys([*then, *new]):
        if then.get(name) != new.get(name):
            yield f"{name} {_shown(then.get(name))} → {_shown(new.get(name))}"
    for field, name in SPLITS.items():
        was, is_ = before.get(field) or (), now[field]
        if list(was) != list(is_):
            yield f"{name}, {console.plural(len(was), 'prompt')} → {len(is_)}" if len(was) != len(is_) else name
    for field, name in (("reward", "reward"), ("rewards", "evaluate.rewards"), ("gold", "evaluate.gold")):
        was, is_ = _prints(before.get(field)), _prints(now[field])
        if was != is_:
            old, own = (", ".join(label for label, _ in each) or "none" for each in (was, is_))
            yield f"{name} {old} → {own}" if old != own else f"the source or the weights of {name} {old}"
    if (before.get("weights") or {}).get("model") != now["weights"].get("model"):
        same = before.get("model_name") == now["model_name"]
        yield "the model's weights" if same else f"model {before.get('model_name')} → {now['model_name']}"


def _named(spec: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Each single setting by the sweep's name for it."""
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
            yield from ((f"evaluate.{key}.{each}", found) for each, found in value.items())
        else:
            yield f"evaluate.{key}", value


def _prints(found: Any) -> list[tuple[str, str]]:
    """Label and fingerprint of each reward."""
    rewards = found if isinstance(found, list) else [found] if found else []
    return [(reward["label"], reward["fingerprint"]) for reward in rewards]


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
