"""Copies of a model's folder with a changed configuration."""

import json
import shutil
from pathlib import Path
from typing import Any


def changed(model: Path, folder: Path, file: str, **values: Any) -> Path:
    """A copy of `model` at `folder` whose JSON `file` has these values; None removes a key."""
    shutil.copytree(model, folder)
    path = folder / file
    merged = {**json.loads(path.read_text()), **values}
    removed = {key for key, value in values.items() if value is None}
    path.write_text(json.dumps({key: value for key, value in merged.items() if key not in removed}))
    return folder


def rescheduled(model: Path, folder: Path, **values: Any) -> Path:
    """A copy with a changed scheduler."""
    return changed(model, folder, "scheduler/scheduler_config.json", **values)
