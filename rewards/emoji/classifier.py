"""The independent judge: which animal, on which background, how many.

It has never seen the checkpoint or what it makes: it is trained on renderings of its own seed (`train_classifier.py`).
"""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rewards.base import RewardError
from rewards.emoji.weights import HERE, at_native_size, load_frozen

WEIGHTS = HERE / "classifier.safetensors"
LABELS = HERE / "labels.json"
COUNTS = 4


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


class Judge(nn.Module):
    """A small convolutional network on 64 x 64 images, with three heads on one pooled feature of 128 numbers."""

    def __init__(self, labels: Labels) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            _stage(3, 32, kernel=5, stride=2),
            _stage(32, 64, kernel=3, stride=2),
            _stage(64, 128, kernel=3, stride=2),
            _stage(128, 128, kernel=3, stride=1),
            _stage(128, 128, kernel=3, stride=2),
        )
        # A 4 x 4 grid and not one mean: the count is a matter of where things are.
        self.features = nn.Linear(128 * 16, 128)
        self.animal = nn.Linear(128, len(labels.animals) + 1)
        self.colour = nn.Linear(128, len(labels.colours))
        self.count = nn.Linear(128, COUNTS)

    def embed(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [0, 1] -> features [B, 128], not normalised."""
        grid = self.stages(2 * at_native_size(images) - 1)
        return F.gelu(self.features(grid.flatten(1)))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Logits: `animal` [B, animals + 1], the last being "nothing", `colour` [B, colours], `count` [B, 4]."""
        features = self.embed(images)
        return {"animal": self.animal(features), "colour": self.colour(features), "count": self.count(features)}


def _stage(inputs: int, outputs: int, kernel: int, stride: int) -> nn.Sequential:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.GELU())


class Classifier:
    """The frozen judge, and what rewards ask of it."""

    def __init__(self) -> None:
        self.labels = load_labels()
        self.network = load_frozen(Judge(self.labels), WEIGHTS)

    def animal_probability(self, images: Tensor, prompts: list[str], reward: str) -> Tensor:
        """P(the animal that the prompt names is there): [B], differentiable in the images."""
        wanted = [find_animal(prompt, self.labels, reward) for prompt in prompts]
        probabilities = self.network(images)["animal"].softmax(dim=1)
        return probabilities.gather(1, torch.tensor(wanted, device=images.device)[:, None])[:, 0]

    def embed(self, images: Tensor) -> Tensor:
        """L2-normalised features [B, 128]: near for the same animal, background and count."""
        return F.normalize(self.network.embed(images), dim=1)


def find_animal(prompt: str, labels: Labels, reward: str) -> int:
    """Index of the first animal that the prompt names, singular or plural.

    Raises:
        RewardError: it names none that the classifier knows.
    """
    words = {name: index for index, name in enumerate(labels.plurals)}
    words.update({name: index for index, name in enumerate(labels.animals)})
    for word in re.findall(r"[a-z]+", prompt.lower()):
        if word in words:
            return words[word]
    raise RewardError(
        f"Reward {reward!r} found no animal it knows in the prompt {prompt!r}; "
        f"it knows {len(labels.animals)}, such as {', '.join(labels.animals[:3])} (rewards/emoji/labels.json)."
    )
