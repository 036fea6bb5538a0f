"""What a reward is: images and prompts in, one number an image out.

To add one, subclass `Reward`, or hand any callable to `CallableReward`; rewards that ship with the package are listed
in `rewards/registry.py`. Rewards know nothing of meters, policies or methods: the harness wraps them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


class RewardError(ValueError):
    """A reward was called with something it cannot score, or gave something that is no score."""


class Reward(ABC):
    """Scores images for prompts; higher is better.

    Attributes:
        name: what sweeps and tables call it.
        version: changes when the same image would score differently.
        differentiable: may a method backpropagate through it?
        weights_sha256: hash of the weights file, None for a reward without weights.
    """

    name: str
    version: str = "1"
    differentiable: bool = True
    weights_sha256: str | None = None

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Score float images [B, 3, H, W] in [0, 1], one prompt each: float [B]."""
        check_inputs(self.name, images, prompts)
        scores = self.score(images, list(prompts))
        if not isinstance(scores, Tensor) or scores.shape != (len(images),):
            found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
            raise RewardError(f"Reward {self.name!r} must return a tensor of shape ({len(images)},), not {found}.")
        return scores

    @abstractmethod
    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """What subclasses write: checked images [B, 3, H, W] and B prompts -> [B], on the images' device."""

    def to(self, device: torch.device | str) -> "Reward":
        """Move the weights, where there are any; returns itself."""
        return self


class EmbeddingReward(Reward):
    """A reward that also has features, for measuring how different images are."""

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [0, 1] -> L2-normalised features [B, D]."""


class CallableReward(Reward):
    """Any callable `(images, prompts) -> one number an image` as a reward.

    The numbers may come as a tensor, an array or a list. It is called without autograd unless `differentiable` is said.
    """

    def __init__(
        self,
        function: Callable[[Tensor, list[str]], Tensor | Sequence[float]],
        name: str | None = None,
        differentiable: bool = False,
        version: str = "1",
    ) -> None:
        self.function = function
        self.name = name or str(getattr(function, "__name__", type(function).__name__))
        self.differentiable = differentiable
        self.version = version

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        if self.differentiable:
            scores = self.function(images, prompts)
            if not isinstance(scores, Tensor):
                raise RewardError(
                    f"Reward {self.name!r} says it is differentiable, so it must return a tensor, "
                    f"not {type(scores).__name__}."
                )
            return scores
        with torch.no_grad():
            return torch.as_tensor(self.function(images, prompts), dtype=images.dtype, device=images.device)


def check_inputs(name: str, images: Tensor, prompts: Sequence[str]) -> None:
    """Raise `RewardError` unless images are a non-empty float [B, 3, H, W] with B prompts."""
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] != 3:
        found = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise RewardError(f"Reward {name!r} needs images of shape [B, 3, H, W], not {found}.")
    if not images.is_floating_point():
        raise RewardError(f"Reward {name!r} needs float images in [0, 1], not {images.dtype}.")
    if isinstance(prompts, str):
        raise RewardError(f"Reward {name!r} needs a list of prompts, one an image, not one string.")
    if len(images) == 0:
        raise RewardError(f"Reward {name!r} was given an empty batch.")
    if len(prompts) != len(images):
        raise RewardError(f"Reward {name!r} was given {len(images)} images and {len(prompts)} prompts.")
