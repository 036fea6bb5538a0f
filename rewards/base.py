"""The contract of a reward: images and prompts in, one score for each image out.

To add a reward, subclass `Reward`, or pass any callable to `CallableReward`; `rewards/registry.py` lists the built-in
rewards. Rewards are independent of meters, policies and methods: the harness wraps them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from types import FunctionType, MappingProxyType, MethodType, ModuleType

import torch
from torch import Tensor, nn

from rewards.containment import contained

OUTSIDE = 1e-3
"""How far a pixel may lie outside [0, 1]. It allows for the rounding of half precision, not for other value ranges."""


class RewardError(ValueError):
    """A reward was called with inputs that it cannot score, raised an error, or returned something else than scores."""


class Reward(ABC):
    """Scores images for prompts; higher is better.

    A reward gets copies of images and prompts. The global state is restored after every call; `rewards/containment.py`
    lists what cannot be restored.

    Attributes:
        name: the reward's name in sweeps and tables.
        version: a text that changes when the same image would score differently.
        differentiable: whether a method may backpropagate through the reward.
        weights_sha256: hash of the weights file; None for a reward without weights.
        parts: label -> reward, for a reward that is made of others (`rewards/combine.py`).
    """

    name: str
    version: str = "1"
    differentiable: bool = True
    weights_sha256: str | None = None
    parts: Mapping[str, "Reward"] = MappingProxyType({})

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Scores images `[B, 3, H, W]`, float in [0, 1] or uint8, with one prompt for each image: float `[B]`.

        Raises:
            RewardError: the images or prompts are invalid, or `score` raises an error or returns invalid scores.
        """
        return self.explain(images, prompts)[0]

    def explain(self, images: Tensor, prompts: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """The scores `[B]`, and the scores `[B]` of the reward's parts by label; a plain reward has no parts.

        Scores are converted to fp32 (fp64 for images in fp64), whatever precision the reward computes in: with the
        three digits of half precision, advantages, sums and means would be inexact.

        Raises:
            RewardError: as for calling the reward.
        """
        check_inputs(self.name, images, prompts)
        copies = _float_copies(images)
        if copies.requires_grad:
            # The hooks of a combination's parts run first, so the message names the part.
            copies.register_hook(partial(check_gradient, self.name))
        with contained(self.name):
            try:
                scores, parts = self.score_and_parts(copies, list(prompts))
            except (RewardError, torch.OutOfMemoryError):
                raise
            except (Exception, SystemExit) as error:  # sys.exit() would end the run
                raise RewardError(f"Reward {self.name!r} raised {type(error).__name__}: {error}") from error
        check_scores(self, images, scores)
        # Scores are copied, because a reward may write its next scores into the same memory or have computed these in
        # inference mode. They are detached if the caller needs no gradient.
        return (scores if images.requires_grad else scores.detach()).to(precision(images)).clone(), parts

    def score_and_parts(self, images: Tensor, prompts: list[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """The scores `[B]`, and those of the parts by label. `Combination` overrides it to score each part once."""
        return self.score(images, prompts), {}

    @abstractmethod
    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """Scores checked float images `[B, 3, H, W]` for B prompts: `[B]`, on the images' device."""

    def to(self, device: torch.device | str) -> "Reward":
        """Moves the reward's networks to `device`; returns the reward."""
        for module in self.modules():
            module.to(device)
        return self

    def freeze(self) -> "Reward":
        """Puts the reward's networks into evaluation mode and freezes their weights; returns the reward."""
        for module in self.modules():
            module.eval().requires_grad_(False)
        return self

    def modules(self) -> Iterator[nn.Module]:
        """Yields the networks that the reward holds in attributes, lists, mappings and functions."""
        yield from _modules_in(self, set())


class EmbeddingReward(Reward):
    """A reward that also returns image features, which measure how different images are."""

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """L2-normalised features [B, D] of images [B, 3, H, W] in [0, 1]."""


class CallableReward(Reward):
    """A reward from any callable of images and prompts that returns one number for each image.

    Args:
        function: the callable. It may return a tensor, an array or a list of B numbers.
        name: the reward's name; the name of the function by default.
        differentiable: whether the function returns a tensor with a gradient; otherwise it is called without autograd.
        version: a text that changes when the same image would score differently.
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
        dtype, device = precision(images), images.device  # read first, because the function may change `images`
        with torch.no_grad():
            return torch.as_tensor(self.function(images, prompts), dtype=dtype, device=device)


def check_gradient(name: str, gradient: Tensor | None) -> None:
    """Raises `RewardError` if the gradient `[B, 3, H, W]` of a reward's scores holds NaN or infinity.

    Finite scores may have such a gradient, as with a square root, a norm or a logarithm at 0.
    """
    if gradient is None:  # autograd passes None for a zero gradient
        return
    odd = ~gradient.isfinite().flatten(1).all(1)
    if bool(odd.any()):
        text = f"Reward {name!r} has a gradient that is not finite, for {int(odd.sum())} of {len(odd)} images"
        raise RewardError(f"{text}: is there a square root, a norm or a logarithm of 0?")


def features(reward: Reward, images: Tensor) -> Tensor:
    """The features `[B, D]` of images `[B, 3, H, W]` by `reward.embed`, called with the same protection as `score`."""
    with contained(reward.name):
        try:
            # An `EmbeddingReward`, or any other reward with a method `embed`.
            return reward.embed(_float_copies(images)).clone()  # type: ignore[attr-defined]
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            text = f"Reward {reward.name!r} raised {type(error).__name__} in embed(): {error}"
            raise RewardError(text) from error


def _float_copies(images: Tensor) -> Tensor:
    """Copies of images as floats in [0, 1], whose gradient reaches `images`."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.clone()


def precision(images: Tensor) -> torch.dtype:
    """The precision of the scores of `images`: fp32, or fp64 for images in fp64."""
    return torch.promote_types(images.dtype, torch.float32)


def check_inputs(name: str, images: Tensor, prompts: Sequence[str]) -> None:
    """Raises `RewardError` unless images are a non-empty `[B, 3, H, W]`, uint8 or finite in [0, 1], with B prompts."""
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] != 3:
        given = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise RewardError(f"Reward {name!r} needs images of shape [B, 3, H, W], not {given}.")
    if not images.is_floating_point() and images.dtype != torch.uint8:
        raise RewardError(f"Reward {name!r} needs float images in [0, 1] or uint8 images, not {images.dtype}.")
    if isinstance(prompts, str):
        raise RewardError(f"Reward {name!r} needs a list of prompts, one an image, not one string.")
    if images.numel() == 0:
        raise RewardError(f"Reward {name!r} was given an empty batch.")
    if len(prompts) != len(images):
        raise RewardError(f"Reward {name!r} was given {len(images)} images and {len(prompts)} prompts.")
    if images.is_floating_point():
        low, high = (float(value) for value in images.detach().aminmax())
        if not (low >= -OUTSIDE and high <= 1 + OUTSIDE):  # both comparisons are false for NaN
            what = "NaN" if low != low else f"values from {low:.3g} to {high:.3g}"
            raise RewardError(f"Reward {name!r} needs images in [0, 1]; these hold {what}.")


def check_scores(reward: Reward, images: Tensor, scores: Tensor) -> None:
    """Raises `RewardError` unless scores are floats `[B]` on the device of the images.

    If the reward is differentiable and the images require a gradient, the scores must depend on them.
    """
    name = reward.name
    if not isinstance(scores, Tensor) or scores.shape != (len(images),):
        returned = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise RewardError(f"Reward {name!r} must return a tensor of shape ({len(images)},), not {returned}.")
    if not scores.is_floating_point():
        raise RewardError(f"Reward {name!r} must return floats, not {scores.dtype}.")
    if scores.device != images.device:
        raise RewardError(f"Reward {name!r} returned scores on {scores.device} for images on {images.device}.")
    wanted = reward.differentiable and images.requires_grad and torch.is_grad_enabled()
    if wanted and not scores.requires_grad:
        raise RewardError(
            f"Reward {name!r} says it is differentiable, but its scores do not depend on the images: a detach(), "
            "no_grad() or NumPy on the way cuts the gradient."
        )


def _reached_by(function: FunctionType) -> Iterator[object]:
    """Yields the objects that a function may use: closed-over values, defaults, and globals that its body names."""
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # the cell is empty
            yield cell.cell_contents
    yield from function.__defaults__ or ()
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        # Functions of other modules are not followed: through them any object could be reached.
        own = isinstance(value, FunctionType) and value.__module__ == function.__module__
        if own or isinstance(value, nn.Module | partial | dict | list | tuple):
            yield value


def _modules_in(value: object, visited: set[int]) -> Iterator[nn.Module]:
    if id(value) in visited or isinstance(value, str | bytes | Tensor | type | ModuleType):
        return
    visited.add(id(value))
    inside: Iterable[object]
    if isinstance(value, nn.Module):
        yield value
        return
    if isinstance(value, dict):
        inside = value.values()
    elif isinstance(value, list | tuple | set):
        inside = value
    elif isinstance(value, partial):
        inside = (value.func, value.args, value.keywords)
    elif isinstance(value, MethodType):
        inside = (value.__self__,)
    elif isinstance(value, FunctionType):
        inside = _reached_by(value)
    else:
        inside = getattr(value, "__dict__", {}).values()
    for item in inside:
        yield from _modules_in(item, visited)
