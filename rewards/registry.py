"""The built-in rewards by name. The module of a reward is imported only when the reward is built."""

from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from rewards.base import Reward


class Entry(NamedTuple):
    """A built-in reward: `module:Class` of its class, and a summary of one line."""

    target: str
    summary: str


_BUILT_IN: dict[str, Entry] = {
    "aesthetic": Entry(
        "rewards.published.laion:LaionAesthetic", "LAION aesthetic predictor v2 on CLIP ViT-L/14; differentiable"
    ),
    "clipscore": Entry(
        "rewards.published.clipscore:ClipScore", "cosine of image and prompt in CLIP ViT-L/14; differentiable"
    ),
    "colourfulness": Entry(
        "rewards.colour:Colourfulness", "Hasler-Süsstrunk colourfulness; differentiable, no weights"
    ),
    "compressibility": Entry(
        "rewards.jpeg:Compressibility", "minus the kilobytes as JPEG, quality 95 (DDPO); no gradient"
    ),
    "compressibility-proxy": Entry(
        "rewards.jpeg:CompressibilityProxy",
        "minus the kilobytes as JPEG, estimated from its coefficients; differentiable",
    ),
    "emoji-aesthetic": Entry(
        "rewards.emoji.aesthetic:EmojiAesthetic", "small LAION-like aesthetic predictor, about 1 to 10; differentiable"
    ),
    "emoji-aesthetic-gold": Entry(
        "rewards.emoji.gold:EmojiAestheticGold", "the true preference rule times P(the prompted animal is there)"
    ),
    "hpsv2": Entry(
        "rewards.published.hps:HPSv2", "Human Preference Score v2.0, cosine in a tuned CLIP ViT-H/14; differentiable"
    ),
    "hpsv2.1": Entry(
        "rewards.published.hps:HPSv21", "Human Preference Score v2.1, not comparable with v2.0; differentiable"
    ),
    "imagereward": Entry(
        "rewards.published.imagereward:ImageReward",
        "ImageReward v1.0, people's preference (BLIP ViT-L/16); differentiable",
    ),
    "incompressibility": Entry("rewards.jpeg:Incompressibility", "kilobytes as JPEG, quality 95 (DDPO); no gradient"),
    "incompressibility-proxy": Entry(
        "rewards.jpeg:IncompressibilityProxy", "kilobytes as JPEG, estimated from its coefficients; differentiable"
    ),
    "emoji-alignment": Entry(
        "rewards.emoji.alignment:EmojiAlignment", "small dual encoder's cosine of image and prompt; differentiable"
    ),
    "emoji-alignment-gold": Entry(
        "rewards.emoji.gold:EmojiAlignmentGold", "an independent classifier's P(animal) P(count) P(background)"
    ),
    "emoji-count": Entry(
        "rewards.emoji.count:EmojiCount",
        "minus the distance of a small counter's count from the prompt's; differentiable",
    ),
    "emoji-count-gold": Entry("rewards.emoji.gold:EmojiCountGold", "an independent classifier's P(the prompt's count)"),
    "emoji-animal": Entry(
        "rewards.emoji.gold:EmojiAnimal", "an independent classifier's P(the prompted animal); differentiable"
    ),
    "object-count": Entry(
        "rewards.published.detection:ObjectCount",
        "-|expected count - wanted count| of an object, by OWL-ViT or YOLOS; differentiable",
    ),
    "object-removal": Entry(
        "rewards.published.detection:ObjectRemoval", "1 - P(object) by OWL-ViT or YOLOS; differentiable"
    ),
    "pickscore": Entry(
        "rewards.published.pickscore:PickScore", "PickScore v1, scaled cosine in a tuned CLIP ViT-H/14; differentiable"
    ),
}


def names() -> list[str]:
    """Names of the built-in rewards, sorted."""
    return sorted(_BUILT_IN)


def summaries() -> dict[str, str]:
    """Name of each built-in reward -> its summary of one line."""
    return {name: _BUILT_IN[name].summary for name in names()}


def target(name: str) -> str:
    """The class of a built-in reward as `module:Class`.

    Raises:
        KeyError: there is no built-in reward of this name; the message lists all names.
    """
    if name not in _BUILT_IN:
        raise KeyError(f"There is no reward {name!r}; there are {', '.join(names())}.")
    return _BUILT_IN[name].target


def build(name: str, **kwargs: Any) -> Reward:
    """Builds a built-in reward with the options `kwargs` of its class.

    Raises:
        KeyError: there is no built-in reward of this name; the message lists all names.
    """
    module, _, attribute = target(name).partition(":")
    factory: Callable[..., Reward] = getattr(import_module(module), attribute)
    return factory(**kwargs)
