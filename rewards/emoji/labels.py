"""The names that the embedded networks' outputs stand for."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from rewards.emoji.weights import HERE

LABELS = HERE / "labels.json"


@dataclass(frozen=True)
class Labels:
    """What the outputs stand for; `held_out` are the animals that no alignment prompt names."""

    animals: tuple[str, ...]
    plurals: tuple[str, ...]
    colours: tuple[str, ...]
    held_out: tuple[str, ...]

    @property
    def nothing(self) -> int:
        """Index of the output for "no animal to be recognised"."""
        return len(self.animals)


@lru_cache
def load_labels(file: Path = LABELS) -> Labels:
    """The labels the committed weights were trained with."""
    fields = json.loads(file.read_text(encoding="utf-8"))
    return Labels(**{key: tuple(value) for key, value in fields.items()})
