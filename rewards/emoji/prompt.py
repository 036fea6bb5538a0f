"""Reads animal, count and background colour from a prompt, in the words of the scenes' captions.

The order of words does not matter, and unknown words are skipped: "two dogs in a blue background" means the same as
"two dogs on a blue background".
"""

import re
from dataclasses import dataclass

from rewards.base import RewardError
from rewards.emoji.labels import Labels

NUMBERS = ("one", "two", "three", "four")


@dataclass(frozen=True)
class Wanted:
    """The animal, count and colour that a prompt names.

    Attributes:
        animal: index of the first animal, singular or plural, in the labels.
        count: 1 to 4, from a number word, or 1 for a singular; None for a plural without a number.
        colour: index of the first colour in the labels; None if the prompt names none.
    """

    animal: int
    count: int | None
    colour: int | None


def read_prompt(prompt: str, labels: Labels, reward: str) -> Wanted:
    """Reads a prompt.

    Args:
        prompt: the prompt.
        labels: names of animals and colours.
        reward: name of the reward, for the error message.

    Raises:
        RewardError: the prompt names no known animal.
    """
    words = re.findall(r"[a-z]+", prompt.lower())
    singular = {name: index for index, name in enumerate(labels.animals)}
    plural = {name: index for index, name in enumerate(labels.plurals)}
    animal = next((word for word in words if word in singular or word in plural), None)
    if animal is None:
        raise RewardError(
            f"Reward {reward!r} found no animal it knows in the prompt {prompt!r}; "
            f"it knows {len(labels.animals)}, such as {', '.join(labels.animals[:3])} (rewards/emoji/labels.json)."
        )
    number = next((NUMBERS.index(word) + 1 for word in words if word in NUMBERS), None)
    # "sheep" is singular and plural: it counts as singular only after an article.
    alone = animal in singular and (animal not in plural or bool({"a", "an"} & set(words)))
    colour = next((labels.colours.index(word) for word in words if word in labels.colours), None)
    index = singular.get(animal, plural.get(animal, -1))
    return Wanted(index, number if number is not None else (1 if alone else None), colour)


def wanted_count(prompt: str, labels: Labels, reward: str) -> int:
    """The count that the prompt names, 1 to 4; arguments as `read_prompt`.

    Raises:
        RewardError: the prompt names no known animal, or a plural without a number.
    """
    count = read_prompt(prompt, labels, reward).count
    if count is None:
        raise RewardError(
            f"Reward {reward!r} found no count in the prompt {prompt!r}; it reads {', '.join(NUMBERS)}, or a singular."
        )
    return count
