"""What the independent classifier says: alone, times the preference rule, and about everything a prompt asks for."""

from torch import Tensor

from rewards.base import EmbeddingReward
from rewards.emoji.classifier import WEIGHTS, Classifier
from rewards.emoji.rule import preference
from rewards.hashing import file_sha256


class EmojiAnimal(EmbeddingReward):
    """The classifier's probability that the prompted animal is there, in [0, 1]."""

    name = "emoji-animal"

    def __init__(self) -> None:
        self.classifier = Classifier()
        self.weights_sha256 = file_sha256(WEIGHTS)

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        return self.classifier.animal_probability(images, prompts, self.name)

    def embed(self, images: Tensor) -> Tensor:
        """The classifier's L2-normalised features [B, 128]."""
        return self.classifier.embed(images)


class EmojiAestheticGold(EmojiAnimal):
    """The true preference rule (1 to 10) times P(the prompted animal is there): what `emoji-aesthetic` stands in for.

    A picture that is colourful and no longer shows the animal scores near 0.
    """

    name = "emoji-aesthetic-gold"

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        return preference(images.float()) * super().score(images, prompts)


class EmojiAlignmentGold(EmojiAnimal):
    """P(animal) · P(count) · P(background), as far as the prompt names them: what `emoji-alignment` stands for."""

    name = "emoji-alignment-gold"

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        return self.classifier.prompt_probability(images, prompts, self.name)


class EmojiCountGold(EmojiAnimal):
    """P(there are as many as the prompt asks for), in [0, 1]: what `emoji-count` stands for."""

    name = "emoji-count-gold"

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        return self.classifier.count_probability(images, prompts, self.name)
