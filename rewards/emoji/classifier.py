"""The independent judge: which animal, on which background, how many.

It has never seen the checkpoint or what it makes: it is trained on renderings of its own seed (`train_classifier.py`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rewards.emoji.labels import Labels, load_labels
from rewards.emoji.networks import stage
from rewards.emoji.prompt import read_prompt, wanted_count
from rewards.emoji.weights import HERE, at_native_size, load_frozen

WEIGHTS = HERE / "classifier.safetensors"
COUNTS = 4


class Judge(nn.Module):
    """A small convolutional network on 64 x 64 images, with three heads on one pooled feature of 128 numbers."""

    def __init__(self, labels: Labels) -> None:
        super().__init__()
        self.stages = nn.Sequential(
            stage(3, 32, kernel=5, stride=2),
            stage(32, 64, kernel=3, stride=2),
            stage(64, 128, kernel=3, stride=2),
            stage(128, 128, kernel=3, stride=1),
            stage(128, 128, kernel=3, stride=2),
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


def _probability(logits: Tensor, wanted: Sequence[int | None]) -> Tensor:
    """Each row's probability of what is wanted, `[B]`; 1 where nothing is."""
    indices = torch.tensor([index or 0 for index in wanted], device=logits.device)
    asked = torch.tensor([index is not None for index in wanted], device=logits.device)
    found = logits.softmax(dim=1).gather(1, indices[:, None])[:, 0]
    return torch.where(asked, found, torch.ones_like(found))


class Classifier:
    """The frozen judge, and what rewards ask of it."""

    def __init__(self) -> None:
        self.labels = load_labels()
        self.network = load_frozen(Judge(self.labels), WEIGHTS)

    def animal_probability(self, images: Tensor, prompts: list[str], reward: str) -> Tensor:
        """P(the animal that the prompt names is there): [B], differentiable in the images."""
        wanted = [read_prompt(prompt, self.labels, reward).animal for prompt in prompts]
        return _probability(self.network(images)["animal"], wanted)

    def count_probability(self, images: Tensor, prompts: list[str], reward: str) -> Tensor:
        """P(there are as many as the prompt asks for): [B]."""
        wanted = [wanted_count(prompt, self.labels, reward) - 1 for prompt in prompts]
        return _probability(self.network(images)["count"], wanted)

    def prompt_probability(self, images: Tensor, prompts: list[str], reward: str) -> Tensor:
        """P(animal) · P(count) · P(background's colour), each as far as the prompt names it: [B]."""
        logits = self.network(images)
        wanted = [read_prompt(prompt, self.labels, reward) for prompt in prompts]
        found = _probability(logits["animal"], [one.animal for one in wanted])
        counts = [one.count - 1 if one.count is not None else None for one in wanted]
        found = found * _probability(logits["count"], counts)
        return found * _probability(logits["colour"], [one.colour for one in wanted])

    def embed(self, images: Tensor) -> Tensor:
        """L2-normalised features [B, 128]: near for the same animal, background and count."""
        return F.normalize(self.network.embed(images), dim=1)
