"""What of a sweep fits a card: stage of ZeRO, precision, checkpointing and micro-batch, the cheapest first.

Cheap means: first the sweep's own precision, then as little recomputation as possible, then as little sharding, then
micro-batches as large as possible, up to the sweep's. Only the precision changes what is learned.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bench.build.plugins import load_method
from bench.build.trial_spec import Trial
from bench.errors import BenchError
from bench.plan.memory.prediction import (
    LEVELS,
    build_rewards,
    dry,
    dry_score,
    evaluation_bytes,
    gathered_bytes,
    held_by,
    largest_step,
    rollout_bytes,
    rows_of_step,
    with_gathered,
)

if TYPE_CHECKING:
    from methods.base import Method
    from models.policy import Policy
    from rewards.base import Reward

GIB = 1 << 30
HEADROOM = 0.1
"""Share of a card left free, for CUDA's context, kernels' workspaces and fragmentation. A choice, not a measurement."""

WORTHWHILE = 0.95
"""Share of the memory of the choice before it that a dearer one may need at most, to be worth a line."""

CARDS = {
    "t4": 16, "v100": 32, "rtx3090": 24, "rtx4080": 16, "rtx4090": 24, "rtx5090": 32, "l4": 24, "a10": 24, "l40s": 48,
    "a6000": 48, "a100": 80, "a100-40": 40, "h100": 80, "h200": 141,
}  # fmt: skip
"""GiB of cards by name."""


@dataclass(frozen=True)
class Fit:
    """A choice that fits, or the smallest there is.

    Attributes:
        bytes: the trial's peak on each worker.
        evaluation: whether evaluating takes more than training.
    """

    zero: int
    precision: str
    checkpointing: str | None
    micro_batch: int | None
    bytes: int
    evaluation: bool = False

    def overrides(self, trial: Trial) -> list[str]:
        """`PATH=VALUE` for `--set`, of what differs from the sweep."""
        settings, place = trial.settings, f"methods.{trial.variant}.settings"
        wanted = {
            "resources.zero": (trial.zero, self.zero),
            "resources.precision": (trial.precision, self.precision),
            f"{place}.checkpointing": (settings.get("checkpointing"), self.checkpointing),
            f"{place}.micro_batch": (settings.get("micro_batch"), self.micro_batch),
        }
        return [f"{path}={new}" for path, (old, new) in wanted.items() if new is not None and new != old]


def card_bytes(text: str) -> int:
    """`24GB` (as makers count, GiB), or a card's name.

    Raises:
        BenchError: it is neither.
    """
    name = re.sub(r"^nvidia[ -]?|[ _]", "", text.lower())
    if name in CARDS:
        return CARDS[name] * GIB
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mg])(?:i?b)?", name)
    if not found or not float(found[1]):
        what = f"{text!r} is neither a size nor a card's name"
        raise BenchError(what, "--card", f"write 24GB, or one of {', '.join(CARDS)}")
    return int(float(found[1]) * (GIB if found[2] == "g" else 1 << 20))


def fits(trial: Trial, card: int, most: int = 3) -> tuple[list[Fit], Fit | None]:
    """Choices that fit `card` bytes, the cheapest first, at most `most`; and the smallest choice where none does.

    Of choices that differ in the micro-batch only, the largest; a dearer one has to need less memory.
    Nothing at all where a method brings a trainer of its own.

    Raises:
        MissingModelError: the model's configuration is not here.
    """
    if not load_method(trial.reference).exact:
        return [], None
    room = int((1 - HEADROOM) * card)
    found: list[Fit] = []
    smallest: Fit | None = None
    seen: set[tuple[int, str, str | None]] = set()
    for choice in _choices(trial, build_rewards(trial)):
        if choice.bytes <= room:
            kind = (choice.zero, choice.precision, choice.checkpointing)
            worth = not found or choice.bytes <= WORTHWHILE * found[-1].bytes
            new, seen = kind not in seen, seen | {kind}
            if not new or not worth:
                continue
            found.append(choice)
            if len(found) == most:
                break
        elif smallest is None or choice.bytes < smallest.bytes:
            smallest = choice
    return found, None if found else smallest


def _choices(trial: Trial, rewards: "Sequence[Reward]") -> Iterator[Fit]:
    """Every choice, the cheapest first."""
    cls = load_method(trial.reference)
    levels = LEVELS if cls.trains and "checkpointing" in trial.settings else (None,)
    stages = range(4) if cls.trains and trial.workers > 1 else (trial.zero,)
    score = dry_score(rewards[0])[0]
    for precision in dict.fromkeys((trial.precision, "bf16")):
        base = trial.model_copy(update={"precision": precision})
        with dry(base) as policy:
            evaluation = evaluation_bytes(base, policy, score)
            for level in levels:
                step = largest_step(_one_row(base, level), cls, policy, score).stored
                step -= rollout_bytes(base, cls, policy)
                for stage in stages:
                    yield from _batches(_at(base, stage), cls, policy, rewards, level, step, evaluation)


def _batches(
    trial: Trial,
    cls: "type[Method]",
    policy: "Policy",
    rewards: "Sequence[Reward]",
    level: str | None,
    row: int,
    evaluation: int,
) -> Iterator[Fit]:
    """A choice for each micro-batch from the sweep's on down; a step's bytes are proportional to its rows.

    Args:
        row: activations of a step with one row a worker, without what its rollout keeps.
        evaluation: and of an evaluation.
    """
    held = held_by(trial, cls, policy, rewards).total
    kept = rollout_bytes(trial, cls, policy)
    evaluating, live = held + evaluation, gathered_bytes(trial, cls, policy)
    size = trial.settings.get("micro_batch") if cls.trains else None
    rows = min(size or 1, -(-rows_of_step(trial, cls) // trial.workers))
    while True:
        step = kept + row * rows
        peak = held + with_gathered(step, live)
        yield Fit(trial.zero, trial.precision, level, size, max(peak, evaluating), evaluating > peak)
        if rows == 1 or evaluating > peak:  # smaller batches would not help
            return
        rows //= 2
        size = rows


def _one_row(trial: Trial, level: str | None) -> Trial:
    changes: dict[str, Any] = {"checkpointing": level} if level else {}
    if "micro_batch" in trial.settings:
        changes["micro_batch"] = 1
    return trial.model_copy(update={"settings": {**trial.settings, **changes}})


def _at(trial: Trial, stage: int) -> Trial:
    return trial.model_copy(update={"zero": stage})
