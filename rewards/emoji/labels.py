"""The names of the embedded networks' outputs."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from rewards.emoji.weights import HERE

LABELS = HERE / "labels.json"


@dataclass(frozen=True)
class Labels:
    """The names of the networks' outputs. `held_out` are the animals that no alignment prompt names."""

    animals: tuple[str, ...]
    plurals: tuple[str, ...]
    colours: tuple[str, ...]
    held_out: tuple[str, ...]

    @property
    def nothing(self) -> int:
        """The index of the output for an image without an animal."""
        return len(self.animals)


@lru_cache
def load_labels(file: Path = LABELS) -> Labels:
    """The labels with which the committed weights were trained."""
    fields = json.loads(file.read_text(encoding="utf-8"))
    return Labels(**{key: tuple(value) for key, value in fields.items()})
