"""`emoji-alignment`: how well an image shows what its prompt says, by a small contrastive dual encoder (CLIP's scheme).

An image tower and a text tower give unit vectors; the score is their cosine, in [-1, 1]. The text tower is a bag of the
captions' words, so the order of words and words outside of the vocabulary have no effect. The encoder learned from
scenes and their captions (Radford et al. 2021, arXiv 2103.00020). Its gold is `emoji-alignment-gold`.
"""

import re
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rewards.base import EmbeddingReward, RewardError
from rewards.emoji.labels import Labels, load_labels
from rewards.emoji.networks import trunk
from rewards.emoji.prompt import NUMBERS
from rewards.emoji.weights import HERE, at_native_size, load_frozen
from rewards.hashing import file_sha256

WEIGHTS = HERE / "alignment.safetensors"
WIDTH = 64


def vocabulary(labels: Labels) -> tuple[str, ...]:
    """The words with a meaning in captions: animals, plurals, colours and numbers."""
    return tuple(dict.fromkeys((*labels.animals, *labels.plurals, *labels.colours, *NUMBERS)))


class DualEncoder(nn.Module):
    """An image tower (`networks.trunk`) and a text tower (sum of word embeddings, one hidden layer) to 64 numbers."""

    def __init__(self, labels: Labels) -> None:
        super().__init__()
        self.words = {word: index for index, word in enumerate(vocabulary(labels))}
        self.image = trunk(24, WIDTH)
        self.embedding = nn.EmbeddingBag(len(self.words), 2 * WIDTH, mode="sum")
        self.text = nn.Sequential(nn.Linear(2 * WIDTH, 2 * WIDTH), nn.GELU(), nn.Linear(2 * WIDTH, WIDTH))
        self.log_scale = nn.Parameter(torch.tensor(2.5))

    def embed_images(self, images: Tensor) -> Tensor:
        """Unit vectors [B, 64] of images [B, 3, H, W] in [0, 1]."""
        return F.normalize(self.image(2 * at_native_size(images) - 1), dim=1)

    def embed_prompts(self, prompts: Sequence[str]) -> Tensor:
        """Unit vectors [B, 64] of B prompts."""
        tokens = [self.tokens(prompt) for prompt in prompts]
        starts = torch.tensor([0, *(len(indices) for indices in tokens[:-1])]).cumsum(0)
        device = self.log_scale.device
        flat = torch.tensor([index for indices in tokens for index in indices], dtype=torch.int64, device=device)
        return F.normalize(self.text(self.embedding(flat, starts.to(device))), dim=1)

    def tokens(self, prompt: str) -> list[int]:
        """The vocabulary indices of the prompt's words, in their order; other words are skipped."""
        words = re.findall(r"[a-z]+", prompt.lower())
        # No caption contains "one" (a singular noun replaces it), so its embedding was never trained.
        return [self.words[word] for word in words if word in self.words and word != NUMBERS[0]]


class EmojiAlignment(EmbeddingReward):
    """The cosine of the image's and the prompt's embeddings, in [-1, 1]."""

    name = "emoji-alignment"

    def __init__(self) -> None:
        self.network = load_frozen(DualEncoder(load_labels()), WEIGHTS)
        self.weights_sha256 = file_sha256(WEIGHTS)

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        unknown = next((prompt for prompt in prompts if not self.network.tokens(prompt)), None)
        if unknown is not None:
            raise RewardError(
                f"Reward {self.name!r} knows no word of the prompt {unknown!r} (rewards/emoji/labels.json)."
            )
        return (self.embed(images) * self.network.embed_prompts(prompts)).sum(1)

    def embed(self, images: Tensor) -> Tensor:
        return self.network.embed_images(images)
