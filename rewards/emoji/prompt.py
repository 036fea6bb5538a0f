"""What a prompt asks for, in the words that the scenes' captions are made of.

The order of words does not matter, and words that are not known are passed over: "two dogs in a blue background" asks
for what "two dogs on a blue background" does.
"""

import re
from dataclasses import dataclass

from rewards.base import RewardError
from rewards.emoji.labels import Labels

NUMBERS = ("one", "two", "three", "four")


@dataclass(frozen=True)
class Wanted:
    """What a prompt names, as indices into the labels.

    Attributes:
        animal: the first animal, singular or plural.
        count: 1 to 4: a number word, else 1 for a singular; None where a plural comes without a number.
        colour: the first colour, None where none is named.
    """

    animal: int
    count: int | None
    colour: int | None


def read_prompt(prompt: str, labels: Labels, reward: str) -> Wanted:
    """What the prompt asks for.

    Raises:
        RewardError: it names no animal that is known.
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
    # "sheep" is both: alone it takes an article where one is meant.
    alone = animal in singular and (animal not in plural or bool({"a", "an"} & set(words)))
    colour = next((labels.colours.index(word) for word in words if word in labels.colours), None)
    index = singular.get(animal, plural.get(animal, -1))
    return Wanted(index, number if number is not None else (1 if alone else None), colour)


def wanted_count(prompt: str, labels: Labels, reward: str) -> int:
    """How many the prompt asks for, 1 to 4.

    Raises:
        RewardError: it names no animal that is known, or a plural without a number.
    """
    count = read_prompt(prompt, labels, reward).count
    if count is None:
        raise RewardError(
            f"Reward {reward!r} found no count in the prompt {prompt!r}; it reads {', '.join(NUMBERS)}, or a singular."
        )
    return count
