"""`emoji-count`: whether an image shows the number of animals that its prompt names, by a small counting network.

The network gives P(1) to P(4). The score is minus the distance of the expected count from the prompt's count, in
[-3, 0], as `object-count` defines it for detectors. Its gold is `emoji-count-gold`, by the independent classifier.
"""

import torch
from torch import Tensor, nn

from rewards.base import Reward
from rewards.emoji.labels import load_labels
from rewards.emoji.networks import trunk
from rewards.emoji.prompt import wanted_count
from rewards.emoji.weights import HERE, at_native_size, load_frozen
from rewards.hashing import file_sha256

WEIGHTS = HERE / "count.safetensors"
MOST = 4


class Counter(nn.Module):
    """A network from images [B, 3, H, W] in [0, 1] to logits [B, 4] of one to four animals."""

    def __init__(self) -> None:
        super().__init__()
        self.features = trunk(24, 64)
        self.head = nn.Sequential(nn.GELU(), nn.Linear(64, MOST))

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(2 * at_native_size(images) - 1))

    def expected(self, images: Tensor) -> Tensor:
        """The expected count [B], 1 to 4, differentiable."""
        numbers = torch.arange(1, MOST + 1, device=images.device, dtype=torch.float32)
        return self(images).softmax(1) @ numbers


class EmojiCount(Reward):
    """The score −|expected count − prompt's count|, in [-3, 0], for any kind of animal."""

    name = "emoji-count"

    def __init__(self) -> None:
        self.network = load_frozen(Counter(), WEIGHTS)
        self.weights_sha256 = file_sha256(WEIGHTS)

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        labels = load_labels()
        wanted = [wanted_count(prompt, labels, self.name) for prompt in prompts]
        return -(self.network.expected(images) - torch.tensor(wanted, device=images.device)).abs()
