"""What a reward is: images and prompts in, one number an image out.

To add one, subclass `Reward`, or hand any callable to `CallableReward`; rewards that ship with the package are listed
in `rewards/registry.py`. Rewards know nothing of meters, policies or methods: the harness wraps them.
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
"""How far a pixel may lie outside [0, 1]: rounding of half precision, not a forgotten rescaling."""


class RewardError(ValueError):
    """A reward was called with something it cannot score, failed, or gave something that is no score."""


class Reward(ABC):
    """Scores images for prompts; higher is better.

    It is given images and prompts of its own, and what it does to the global state is undone after every call
    (`rewards/containment.py` says what cannot be).

    Attributes:
        name: what sweeps and tables call it.
        version: changes when the same image would score differently.
        differentiable: may a method backpropagate through it?
        weights_sha256: hash of the weights file, None for a reward without weights.
        parts: the rewards it is made of, by label (`rewards/combine.py`).
    """

    name: str
    version: str = "1"
    differentiable: bool = True
    weights_sha256: str | None = None
    parts: Mapping[str, "Reward"] = MappingProxyType({})

    def __call__(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Scores images `[B, 3, H, W]`, float in [0, 1] or uint8, one prompt each: float `[B]`.

        Raises:
            RewardError: the images or prompts are no input, or `score` raises or returns no scores.
        """
        return self.explain(images, prompts)[0]

    def explain(self, images: Tensor, prompts: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """The scores `[B]`, and what they are made of: label -> scores `[B]`; nothing for a plain reward.

        Whatever precision a reward computes in, its scores are in fp32 from here on (fp64 for images in fp64): half
        precision has three digits, and advantages, sums and means would be computed in them.
        """
        check_inputs(self.name, images, prompts)
        own = _own(images)
        if own.requires_grad:
            own.register_hook(partial(check_gradient, self.name))  # its parts' come first, and are named
        with contained(self.name):
            try:
                scores, parts = self.score_and_parts(own, list(prompts))
            except (RewardError, torch.OutOfMemoryError):
                raise
            except (Exception, SystemExit) as error:  # sys.exit() would end the run
                raise RewardError(f"Reward {self.name!r} raised {type(error).__name__}: {error}") from error
        check_scores(self, images, scores)
        # A copy, as it may write its next scores into the same memory, or have made them in inference mode; without
        # the graph of what only the reward itself wanted to differentiate.
        return (scores if images.requires_grad else scores.detach()).to(precision(images)).clone(), parts

    def score_and_parts(self, images: Tensor, prompts: list[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """What rewards made of others write, which score their parts once for both."""
        return self.score(images, prompts), {}

    @abstractmethod
    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        """What subclasses write: checked float images `[B, 3, H, W]`, B prompts -> `[B]`, on the images' device."""

    def to(self, device: torch.device | str) -> "Reward":
        """Moves the weights, where there are any; returns itself."""
        for module in self.modules():
            module.to(device)
        return self

    def freeze(self) -> "Reward":
        """Puts every network of the reward into evaluation mode, without gradients of its own; returns itself."""
        for module in self.modules():
            module.eval().requires_grad_(False)
        return self

    def modules(self) -> Iterator[nn.Module]:
        """The networks that the reward holds, in attributes, lists, mappings and functions."""
        yield from _modules_in(self, set())


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
        dtype, device = precision(images), images.device  # the function may do as it likes with its images
        with torch.no_grad():
            return torch.as_tensor(self.function(images, prompts), dtype=dtype, device=device)


def check_gradient(name: str, gradient: Tensor | None) -> None:
    """Raises `RewardError` if the gradient `[B, 3, H, W]` of a reward's scores holds NaN or infinity.

    Scores that were finite say nothing of it: a square root, a norm or a logarithm at 0 has none.
    """
    if gradient is None:  # autograd's word for a zero
        return
    odd = ~gradient.isfinite().flatten(1).all(1)
    if bool(odd.any()):
        text = f"Reward {name!r} has a gradient that is not finite, for {int(odd.sum())} of {len(odd)} images"
        raise RewardError(f"{text}: is there a square root, a norm or a logarithm of 0?")


def features(reward: Reward, images: Tensor) -> Tensor:
    """`reward.embed` of images `[B, 3, H, W]`, contained as its scores are: `[B, D]`."""
    with contained(reward.name):
        try:
            return reward.embed(_own(images)).clone()  # type: ignore[attr-defined]  # asked of those that have it
        except torch.OutOfMemoryError:
            raise
        except Exception as error:
            text = f"Reward {reward.name!r} raised {type(error).__name__} in embed(): {error}"
            raise RewardError(text) from error


def _own(images: Tensor) -> Tensor:
    """Floats of its own for a reward; their gradient reaches `images`."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.clone()


def precision(images: Tensor) -> torch.dtype:
    """Of the scores of images: fp32, or fp64 where the images are."""
    return torch.promote_types(images.dtype, torch.float32)


def check_inputs(name: str, images: Tensor, prompts: Sequence[str]) -> None:
    """Raises `RewardError` unless images are a non-empty `[B, 3, H, W]`, uint8 or finite in [0, 1], with B prompts."""
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[1] != 3:
        found = tuple(images.shape) if isinstance(images, Tensor) else type(images).__name__
        raise RewardError(f"Reward {name!r} needs images of shape [B, 3, H, W], not {found}.")
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
        if not (low >= -OUTSIDE and high <= 1 + OUTSIDE):  # NaN is neither
            what = "NaN" if low != low else f"values from {low:.3g} to {high:.3g}"
            raise RewardError(f"Reward {name!r} needs images in [0, 1]; these hold {what}.")


def check_scores(reward: Reward, images: Tensor, scores: Tensor) -> None:
    """Raises `RewardError` unless scores are floats `[B]` beside the images, with a gradient where one is promised."""
    name = reward.name
    if not isinstance(scores, Tensor) or scores.shape != (len(images),):
        found = tuple(scores.shape) if isinstance(scores, Tensor) else type(scores).__name__
        raise RewardError(f"Reward {name!r} must return a tensor of shape ({len(images)},), not {found}.")
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
    """What a function may use: what it closes over, its defaults, and the globals that its body names."""
    for cell in function.__closure__ or ():
        with suppress(ValueError):  # not filled yet
            yield cell.cell_contents
    yield from function.__defaults__ or ()
    for name in function.__code__.co_names:
        found = function.__globals__.get(name)
        # Only what may hold a network of the author's: a library's functions would lead anywhere.
        own = isinstance(found, FunctionType) and found.__module__ == function.__module__
        if own or isinstance(found, nn.Module | partial | dict | list | tuple):
            yield found


def _modules_in(value: object, seen: set[int]) -> Iterator[nn.Module]:
    if id(value) in seen or isinstance(value, str | bytes | Tensor | type | ModuleType):
        return
    seen.add(id(value))
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
        yield from _modules_in(item, seen)
