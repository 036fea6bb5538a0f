"""The data that trackers show of a trial: its settings, and the numbers and some samples of every point."""

from pathlib import Path

from bench.build.trial_spec import Trial, flat_settings
from bench.store.records import Point
from bench.store.trial_folder import TrialFolder
from bench.sweep.prompts import spread

PICTURES_PER_SPLIT = 4
"""Samples of each split that a tracker shows for a point, spread over the split."""


def scalars(point: Point) -> dict[str, float]:
    """The numbers of a point by name: `train/reward`, `heldout/gold`, `training/loss`, `cost/reward_queries`, …"""
    groups = {**point.values, "training": point.extra or {}, "cost": point.axes}
    flat = {f"{group}/{name}": value for group, values in groups.items() for name, value in values.items()}
    return {name: float(value) for name, value in flat.items() if type(value) in (int, float)}


def pictures(folder: TrialFolder, point: Point) -> dict[str, Path]:
    """Tag (`samples/heldout-a-snail-0`) -> PNG file, for at most `PICTURES_PER_SPLIT` samples of each split."""
    place = folder.samples / f"point-{point.point:04d}"
    of_splits = (sorted(map(str, place.glob(f"{split}-*.png"))) for split in point.values)
    paths = [Path(name) for names in of_splits for name in spread(names, PICTURES_PER_SPLIT)]
    return {f"samples/{path.stem}": path for path in paths}


def configuration(trial: Trial) -> dict[str, str | int | float]:
    """The trial's configuration, flat: `method`, `seed`, `settings.learning_rate`, `sampler.eta`, …"""
    flat = {name: getattr(trial, name) for name in ("sweep", "variant", "method", "seed", "identity")}
    flat |= {"model": trial.model_name, "reward": trial.reward.label, **(flat_settings(trial.model_dump()) or {})}
    limits = {trial.budget.axis: trial.budget.limit, **trial.budget.stops}
    flat |= {f"budget.{axis}": limit for axis, limit in limits.items()}
    return {name: value if isinstance(value, str | int | float) else str(value) for name, value in flat.items()}
