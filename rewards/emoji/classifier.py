"""The independent classifier of an image's animal, background colour and count.

It is independent of the checkpoint, because it is trained on renderings of its own seed (`train_classifier.py`).
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
        # The 4 x 4 grid is not averaged, because counting needs positions.
        self.features = nn.Linear(128 * 16, 128)
        self.animal = nn.Linear(128, len(labels.animals) + 1)
        self.colour = nn.Linear(128, len(labels.colours))
        self.count = nn.Linear(128, COUNTS)

    def embed(self, images: Tensor) -> Tensor:
        """The features [B, 128] of images [B, 3, H, W] in [0, 1], not normalised."""
        grid = self.stages(2 * at_native_size(images) - 1)
        return F.gelu(self.features(grid.flatten(1)))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The logits `animal` [B, animals + 1], the last for "nothing", `colour` [B, colours] and `count` [B, 4]."""
        features = self.embed(images)
        return {"animal": self.animal(features), "colour": self.colour(features), "count": self.count(features)}


def _probability(logits: Tensor, classes: Sequence[int | None]) -> Tensor:
    """The probability `[B]` of each row's class under logits `[B, C]`; 1 for the class None."""
    indices = torch.tensor([index or 0 for index in classes], device=logits.device)
    given = torch.tensor([index is not None for index in classes], device=logits.device)
    probabilities = logits.softmax(dim=1).gather(1, indices[:, None])[:, 0]
    return torch.where(given, probabilities, torch.ones_like(probabilities))


class Classifier:
    """The frozen classifier, with the probabilities that rewards are made of."""

    def __init__(self) -> None:
        self.labels = load_labels()
        self.network = load_frozen(Judge(self.labels), WEIGHTS)

    def animal_probability(self, images: Tensor, prompts: list[str], reward: str) -> Tensor:
        """P(the image shows the animal that the prompt names): [B], differentiable in the images.

        Args:
            images: [B, 3, H, W] in [0, 1].
            prompts: B prompts.
            reward: name of the reward, for error messages.

        Raises:
            RewardError: a prompt names no known animal.
        """
        wanted = [read_prompt(prompt, self.labels, reward).animal for prompt in prompts]
        return _probability(self.network(images)["animal"], wanted)

    def count_probability(self, images: Tensor, prompts: list[str], reward: str) -> Tensor:
        """P(the image shows the count that the prompt names): [B]; arguments and errors as `animal_probability`.

        A prompt with a plural but without a number is an error as well.
        """
        wanted = [wanted_count(prompt, self.labels, reward) - 1 for prompt in prompts]
        return _probability(self.network(images)["count"], wanted)

    def prompt_probability(self, images: Tensor, prompts: list[str], reward: str) -> Tensor:
        """P(animal) · P(count) · P(background colour), without the factors that the prompt does not name: [B].

        Arguments and errors are as for `animal_probability`.
        """
        logits = self.network(images)
        wanted = [read_prompt(prompt, self.labels, reward) for prompt in prompts]
        probability = _probability(logits["animal"], [one.animal for one in wanted])
        counts = [one.count - 1 if one.count is not None else None for one in wanted]
        probability = probability * _probability(logits["count"], counts)
        return probability * _probability(logits["colour"], [one.colour for one in wanted])

    def embed(self, images: Tensor) -> Tensor:
        """L2-normalised features [B, 128]: near for the same animal, background and count."""
        return F.normalize(self.network.embed(images), dim=1)
