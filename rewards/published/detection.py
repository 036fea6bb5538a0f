"""`object-count` and `object-removal`: differentiable rewards on the detections of an object detector.

The option `detector` chooses a detector of `detectors.py`; `counting.py` counts its finds. AlignProp (arXiv 2310.03739)
removes concepts with OWL-ViT, VADER (arXiv 2407.08737) with YOLOS.
"""

import math
import re
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from rewards.base import Reward, RewardError
from rewards.hashing import file_sha256
from rewards.published.counting import expected_count, soft_maximum, soft_threshold
from rewards.published.detectors import DETECTORS, OWLVIT, YOLOS

NUMBERS = {
    "a": 1,
    "an": 1,
    "one": 1,
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
}
PLURALS = {
    "child": "children",
    "foot": "feet",
    "goose": "geese",
    "man": "men",
    "mouse": "mice",
    "ox": "oxen",
    "person": "people",
    "tooth": "teeth",
    "woman": "women",
}


# -- prompts ---------------------------------------------------------------------------------------------------


def words_of(text: str) -> list[str]:
    """The words and numbers of a text, in lower case."""
    return re.findall(r"[a-z0-9]+", text.lower())


def find_object(prompt: str, names: Sequence[str]) -> tuple[str, int] | None:
    """The first object that a prompt names, singular or plural, and the index of its first word; None if it names none.

    If two objects begin at the same word, the longer one is returned.
    """
    words = words_of(prompt)
    matches = [
        (place, -len(form), name)
        for name in names
        for form in _forms(words_of(name))
        for place in range(len(words) - len(form) + 1)
        if words[place : place + len(form)] == form
    ]
    if not matches:
        return None
    place, _, name = min(matches)
    return name, place


def find_number(prompt: str, place: int) -> int | None:
    """The last number before the word with index `place`; None if there is none.

    In "a photo of three red cats" it is 3 for the index of "cats".
    """
    for word in reversed(words_of(prompt)[:place]):
        if word in NUMBERS or word.isdigit():
            return NUMBERS[word] if word in NUMBERS else int(word)
    return None


def _forms(words: list[str]) -> list[list[str]]:
    *before, last = words
    ends = {last, last + "s", last + "es", PLURALS.get(last, last)}
    ends |= {last[:-1] + "ies"} if last.endswith("y") else set()
    ends |= {re.sub("fe?$", "ves", last)}
    return [[*before, end] for end in sorted(ends)]


# -- rewards ---------------------------------------------------------------------------------------------------


class DetectionReward(Reward):
    """A reward on a detector that looks for one object in each image.

    Args:
        detector: `owlvit` or `yolos`.
        model: a local folder or another hub id in the same layout (`google/owlvit-large-patch14`,
            `hustvl/yolos-small`); OWL-ViT base or YOLOS tiny unless given.
        object: the object to look for in all images.
        objects: instead of `object`, a list of objects: the detector looks for the first one that the prompt names.

    Raises:
        FileNotFoundError: weights are neither on this machine nor can be fetched; the message says what to fetch.
        ValueError: an option is invalid.
    """

    needs: ClassVar = (OWLVIT, YOLOS)  # one of them, by `detector`

    def __init__(
        self,
        detector: str = "owlvit",
        model: str | None = None,
        object: str | None = None,
        objects: Sequence[str] | None = None,
    ):
        if detector not in DETECTORS:
            raise ValueError(f"detector: expected {' or '.join(DETECTORS)}, not {detector!r}")
        if (object is None) == (objects is None):
            raise ValueError("give either `object`, or `objects` to look for in the prompts")
        names = [object] if objects is None else objects
        if isinstance(names, str) or not names or not all(isinstance(name, str) and words_of(name) for name in names):
            which = "object: expected a name" if objects is None else "objects: expected a list of names"
            raise ValueError(f"{which}, not {object if objects is None else objects!r}")
        self._names = [" ".join(str(name).lower().split()) for name in names]
        self._given = objects is None
        kind = DETECTORS[detector]
        self._detector = kind(kind.needs.find(self.name, model))
        for name in self._names:
            self._detector.check(name)
        self.weights_sha256 = file_sha256(self._detector.weights)

    def to(self, device: torch.device | str) -> "DetectionReward":
        self._detector.device = torch.device(device)
        self._detector.model = None
        return self

    def _object_in(self, prompt: str) -> str:
        if self._given:
            return self._names[0]
        match = find_object(prompt, self._names)
        if match is None:
            raise RewardError(f"Reward {self.name!r}: {prompt!r} names none of the objects {', '.join(self._names)}.")
        return match[0]


class ObjectRemoval(DetectionReward):
    """The score 1 − P(object), in [0, 1]: 1 if the detector does not find the object.

    Args:
        detector, model, object, objects: as for `DetectionReward`.
        reduce: how P(object) follows from the boxes' probabilities. `max`: their soft maximum (`soft_maximum`).
            `mean`: the mean of those above the threshold, 0 if there are none, as in VADER; it has no gradient if
            nothing is found, and a further weak find lowers it. VADER's code leaves out a box whose likeliest class is
            another; here any box above the threshold counts.
        temperature: temperature of the soft maximum, in units of probability.
        threshold: threshold of the mean, in (0, 1); 0.2, as in VADER's code, unless given.
    """

    name = "object-removal"

    def __init__(
        self,
        detector: str = "owlvit",
        model: str | None = None,
        object: str | None = None,
        objects: Sequence[str] | None = None,
        reduce: str = "max",
        temperature: float = 0.01,
        threshold: float = 0.2,
    ):
        if reduce not in ("max", "mean"):
            raise ValueError(f"reduce: expected max or mean, not {reduce!r}")
        self._reduce = reduce
        self._temperature = _positive("temperature", temperature)
        self._threshold = _fraction("threshold", threshold)
        super().__init__(detector, model, object, objects)

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        likely = self._detector.detect(images, [self._object_in(prompt) for prompt in prompts]).log_odds.sigmoid()
        if self._reduce == "max":
            return 1 - soft_maximum(likely, self._temperature).clamp(0, 1)  # only rounding can leave [0, 1]
        above = (likely > self._threshold).to(likely.dtype)
        return 1 - (likely * above).sum(1) / above.sum(1).clamp(min=1)


class ObjectCount(DetectionReward):
    """The score −|expected count − wanted count|, 0 at best (`soft_threshold`, then `expected_count`).

    Args:
        detector, model, object, objects: as for `DetectionReward`.
        count: the wanted count. Unless given, it is the last number before the object in the prompt: a, an, one to ten,
            or digits.
        threshold: probability from which on a box is a find, in (0, 1); the detector's own unless given, which is 0.1
            for OWL-ViT and 0.5 for YOLOS.
        temperature: temperature of that threshold, in log-odds; a larger one is softer.
    """

    name = "object-count"

    def __init__(
        self,
        detector: str = "owlvit",
        model: str | None = None,
        object: str | None = None,
        objects: Sequence[str] | None = None,
        count: int | None = None,
        threshold: float | None = None,
        temperature: float = 0.5,
    ):
        if count is not None and (isinstance(count, bool) or not isinstance(count, int) or count < 0):
            raise ValueError(f"count: expected a whole number from 0 on, not {count!r}")
        self._count = count
        self._temperature = _positive("temperature", temperature)
        self._threshold = None if threshold is None else _fraction("threshold", threshold)
        super().__init__(detector, model, object, objects)

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        names = [self._object_in(prompt) for prompt in prompts]
        wanted = [self._wanted(prompt, name) for prompt, name in zip(prompts, names, strict=True)]
        count = self.count(images, names)
        return -(count - torch.tensor(wanted, dtype=count.dtype, device=count.device)).abs()

    def count(self, images: Tensor, names: Sequence[str]) -> Tensor:
        """The expected count `[B]` of the named object in each image, of images `[B, 3, H, W]` in [0, 1], B names."""
        log_odds, boxes = self._detector.detect(images, names)
        threshold = self._detector.threshold if self._threshold is None else self._threshold
        return expected_count(soft_threshold(log_odds, threshold, self._temperature), boxes)

    def _wanted(self, prompt: str, name: str) -> int:
        if self._count is not None:
            return self._count
        match = find_object(prompt, [name])
        number = find_number(prompt, match[1]) if match else None
        if number is None:
            raise RewardError(
                f"Reward {self.name!r}: {prompt!r} does not say how many of {name!r}; give `count`, or prompts that do."
            )
        return number


def _positive(option: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"{option}: expected a number above 0, not {value!r}")
    return float(value)


def _fraction(option: str, value: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1:
        raise ValueError(f"{option}: expected a number between 0 and 1, not {value!r}")
    return float(value)
