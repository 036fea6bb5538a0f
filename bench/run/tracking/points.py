"""What trackers are told of a trial: its settings, and of every point numbers and a few pictures."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bench.build.trial_spec import Trial
from bench.store.trial_folder import TrialFolder

PICTURES_PER_SPLIT = 4
"""Of the samples that are kept of a point, spread over the split."""

Point = dict[str, Any]
"""A line of `curve.jsonl`: point, axes, values, extra."""


class Curve:
    """A curve that another thread or process is writing, read as it grows."""

    def __init__(self, folder: TrialFolder):
        self.path = folder.curve_path
        self._read = b""
        self._stamp: tuple[int, int, int] | None = None

    def news(self) -> tuple[bool, list[Point]]:
        """Whether the curve was written anew since the last call, and the points since then (all, if it was)."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return False, []
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        if stamp == self._stamp:
            return False, []
        content = self.path.read_bytes()
        content = content[: content.rfind(b"\n") + 1]  # a last line without an end is still being written
        anew = not content.startswith(self._read)
        lines = content[0 if anew else len(self._read) :].splitlines()
        self._read, self._stamp = content, stamp
        return anew, [json.loads(line) for line in lines if line.strip()]


def step_of(point: Point) -> int:
    """The method's steps, the meter's count."""
    return int(point["axes"].get("steps", point["point"]))


def scalars(point: Point) -> dict[str, float]:
    """`train/reward`, `heldout/gold`, …; `training/loss`, …; `cost/reward_queries` and every other axis."""
    found = {
        f"{split}/{metric}": value for split, metrics in point["values"].items() for metric, value in metrics.items()
    }
    found |= {f"training/{name}": value for name, value in point.get("extra", {}).items()}
    found |= {f"cost/{axis}": value for axis, value in point["axes"].items()}
    return {name: float(value) for name, value in found.items() if _is_number(value)}


def pictures(folder: TrialFolder, point: Point) -> dict[str, Path]:
    """`samples/heldout-a-snail-0` -> its PNG file, `PICTURES_PER_SPLIT` of each split."""
    from bench.sweep.prompts import spread

    place = folder.samples / f"point-{point['point']:04d}"
    names = sorted(path.name for path in place.glob("*.png"))
    of_splits = ([name for name in names if name.startswith(f"{split}-")] for split in point["values"])
    chosen = [name for of_split in of_splits for name in spread(of_split, PICTURES_PER_SPLIT)]
    return {f"samples/{name.removesuffix('.png')}": place / name for name in chosen}


def configuration(trial: Trial) -> dict[str, str | int | float | bool]:
    """What decides the trial's numbers, flat: `method`, `seed`, `settings.learning_rate`, `sampler.eta`, ..."""
    told = {
        "sweep": trial.sweep,
        "variant": trial.variant,
        "method": trial.method,
        "seed": trial.seed,
        "model": trial.model_name,
        "reward": trial.reward.label,
        "identity": trial.identity,
        "precision": trial.precision,
        "workers": trial.workers,
        "zero": trial.zero,
        "settings": trial.settings,
        "sampler": trial.sampler.model_dump(),
        "lora": trial.lora.model_dump(),
        "budget": {trial.budget.axis: trial.budget.limit, **trial.budget.stops},
    }
    return dict(_flat(told))


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str | int | float | bool]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value if isinstance(value, str | int | float) else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
