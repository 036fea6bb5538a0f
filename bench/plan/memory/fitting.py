"""Changes of a sweep that make a trial smaller, and the first of them with which it fits a card.

A change is offered only if the sweep's schema, the method's settings and what is installed accept it. First come those
that keep the sweep's precision, then those that compute little twice, then those that shard nothing, and of each the
largest micro-batch: only the precision changes what is learned.
"""

import re
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

from pydantic import ValidationError

from bench.build.plugins import load_method
from bench.build.trial_spec import Trial
from bench.errors import BenchError
from bench.plan.memory.prediction import Memory
from bench.plan.preflight import check_deepspeed
from bench.sweep.schema import Resources
from methods.base import TrainingSettings
from methods.common.backprop import LEVELS, BackpropSettings

GIB = 1 << 30
HEADROOM = 0.1
"""Share of a card left free, for CUDA's context, kernels' workspaces and fragmentation. A choice, not a measurement."""


def card_bytes(text: str) -> int:
    """`24GB` as makers of cards count it, in GiB.

    Raises:
        BenchError: it is no size.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mg])(?:i?b)?", text.lower().replace(" ", ""))
    if not found or not float(found[1]):
        raise BenchError(f"{text!r} is no size", "--card", "write 24GB, or 512MB")
    return int(float(found[1]) * (GIB if found[2] == "g" else 1 << 20))


def fit(trial: Trial, card: int, predict: Callable[[Trial], Memory]) -> tuple[Trial, Memory, bool]:
    """The trial as it fits `card` bytes, its memory, and True; the smallest there is, and False, where nothing fits."""
    room = int((1 - HEADROOM) * card)
    found: list[tuple[Trial, Memory]] = []
    for kind in _kinds(trial):
        for each in _micro_batches(kind, room, predict):
            found.append((each, predict(each)))
            if found[-1][1].total <= room:
                return *found[-1], True
    return *min(found, key=lambda pair: pair[1].total), False


def differences(trial: Trial, changed: Trial) -> dict[tuple[str, str], Any]:
    """What differs in the changed trial's sweep: (`settings` of the method or `resources`, name) -> value."""
    return {key: value for key, value in _choices(changed).items() if value != _choices(trial)[key]}


def smaller(trial: Trial) -> dict[tuple[str, str], Any]:
    """Single changes, as `differences` has them, each of which makes a step smaller."""
    changes: list[dict[str, Any]] = [
        {"micro_batch": max(1, trial.settings.get("micro_batch", 1) // 2)},
        {"checkpointing": "step"},
        {"zero": 3 if trial.workers > 1 else trial.zero},
        {"precision": "bf16"},
    ]
    changed = [_changed(trial, **change) for change in changes]
    return {key: value for each in changed if each for key, value in differences(trial, each).items()}


def _choices(trial: Trial) -> dict[tuple[str, str], Any]:
    own = {("settings", name): trial.settings.get(name) for name in ("checkpointing", "micro_batch")}
    return {**own, ("resources", "zero"): trial.zero, ("resources", "precision"): trial.precision}


def _kinds(trial: Trial) -> Iterator[Trial]:
    """The trial in every precision, level of checkpointing and stage of ZeRO, the cheapest first."""
    level = trial.settings.get("checkpointing", "step")
    levels = LEVELS if level == "auto" else LEVELS[LEVELS.index(level) :]
    stages = (trial.zero, 3 if trial.workers > 1 else trial.zero)
    for choice in product(dict.fromkeys((trial.precision, "bf16")), levels, dict.fromkeys(stages)):
        kind = _changed(trial, **dict(zip(("precision", "checkpointing", "zero"), choice, strict=True)))
        if kind is not None:
            yield kind


def _micro_batches(trial: Trial, room: int, predict: Callable[[Trial], Memory]) -> Iterator[Trial]:
    """The trial, then with micro-batches halved down to one; at once with one where not even that fits."""
    size, one = trial.settings.get("micro_batch", 1), _changed(trial, micro_batch=1) or trial
    if predict(trial).total <= room or predict(one).total > room:
        yield trial if predict(trial).total <= room else one
        return
    while size > 1:
        size //= 2
        yield _changed(trial, micro_batch=size) or one


def _changed(trial: Trial, **changes: Any) -> Trial | None:
    """The trial as the sweep would plan it with these settings and resources, those it has; None where it would not."""
    cls = load_method(trial.reference)
    owned = {"micro_batch": TrainingSettings, "checkpointing": BackpropSettings}
    own = {name: value for name, value in changes.items() if name in owned and issubclass(cls.Settings, owned[name])}
    shared = {name: changes.get(name, getattr(trial, name)) for name in ("zero", "precision")}
    try:
        settings = cls.Settings(**{**trial.settings, **own}).model_dump(mode="json")
        Resources(gpus=trial.gpus, workers=trial.workers, offload="cpu" if trial.offload else "none", **shared)
        check_deepspeed(shared["zero"])
    except (ValidationError, BenchError):
        return None
    return trial.model_copy(update={"settings": settings, **shared})
