"""Gold rewards of the embedded proxies, on the independent classifier and the preference rule."""

from torch import Tensor

from rewards.base import EmbeddingReward
from rewards.emoji.classifier import WEIGHTS, Classifier
from rewards.emoji.rule import preference
from rewards.hashing import file_sha256


class EmojiAnimal(EmbeddingReward):
    """P(the image shows the prompted animal) by the classifier, in [0, 1]."""

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
    """The gold of `emoji-aesthetic`: the preference rule (1 to 10) times P(the image shows the prompted animal).

    A colourful image without the animal scores near 0.
    """

    name = "emoji-aesthetic-gold"

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        return preference(images.float()) * super().score(images, prompts)


class EmojiAlignmentGold(EmojiAnimal):
    """The gold of `emoji-alignment`: P(animal) · P(count) · P(background), for those that the prompt names."""

    name = "emoji-alignment-gold"

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        return self.classifier.prompt_probability(images, prompts, self.name)


class EmojiCountGold(EmojiAnimal):
    """The gold of `emoji-count`: P(the image shows the prompt's count), in [0, 1]."""

    name = "emoji-count-gold"

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        return self.classifier.count_probability(images, prompts, self.name)
