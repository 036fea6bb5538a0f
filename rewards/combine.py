"""Rewards made of other rewards: a weighted sum, an ensemble, a clipped reward.

Each part is scored once, and its scores are reported under its label with those of the whole. A combination is
differentiable if all its parts are.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from rewards.base import Reward


class Combination(Reward):
    """A reward that is computed from the scores of other rewards, its parts.

    Args:
        parts: label -> reward.
        name: the reward's name in tables.
    """

    def __init__(self, parts: Mapping[str, Reward], name: str) -> None:
        if not parts:
            raise ValueError("it needs at least one part")
        self.parts = dict(parts)
        self.name = name
        self.differentiable = all(part.differentiable for part in parts.values())
        self.version = ",".join(part.version for part in parts.values())

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        return self.score_and_parts(images, prompts)[0]

    def score_and_parts(self, images: Tensor, prompts: list[str]) -> tuple[Tensor, dict[str, Tensor]]:
        scores: dict[str, Tensor] = {}
        nested: dict[str, Tensor] = {}
        for label, part in self.parts.items():
            scores[label], scores_below = part.explain(images, prompts)
            nested |= scores_below
        return self.combine(torch.stack(list(scores.values()))), scores | nested

    @abstractmethod
    def combine(self, scores: Tensor) -> Tensor:
        """Combines the parts' scores `[parts, B]` to scores `[B]`."""

    def to(self, device: torch.device | str) -> "Combination":
        for part in self.parts.values():
            part.to(device)
        return self

    def modules(self) -> Iterator[nn.Module]:
        for part in self.parts.values():
            yield from part.modules()


class Sum(Combination):
    """The weighted sum of its parts, Σ weight · part.

    Args:
        parts, name: as for `Combination`.
        weights: a weight for each part, in their order; any sign.
    """

    def __init__(self, parts: Mapping[str, Reward], name: str, weights: Sequence[float]) -> None:
        super().__init__(parts, name)
        if len(weights) != len(parts):
            raise ValueError(f"{len(parts)} parts and {len(weights)} weights")
        self.weights = tuple(float(weight) for weight in weights)

    def combine(self, scores: Tensor) -> Tensor:
        return (scores.new_tensor(self.weights)[:, None] * scores).sum(0)


class Ensemble(Combination):
    """The mean over its parts minus k standard deviations, which is high only if the parts agree.

    Coste et al. 2023, arXiv 2310.02743, penalise the variance ("uncertainty-weighted optimization"). The standard
    deviation, that of the population, is in the reward's own units, so that k has the same meaning for any scale.

    Args:
        parts, name: as for `Combination`; at least two parts.
        k: number of standard deviations; 0 gives the mean.
    """

    def __init__(self, parts: Mapping[str, Reward], name: str, k: float = 1.0) -> None:
        super().__init__(parts, name)
        if len(parts) < 2:
            raise ValueError("an ensemble needs at least two parts")
        if k < 0:
            raise ValueError(f"k must be at least 0, not {k:g}")
        self.k = float(k)

    def combine(self, scores: Tensor) -> Tensor:
        mean = scores.mean(0)
        # The square root has no gradient at 0, where all parts agree; the penalty's gradient is taken as 0 there.
        variance = (scores - mean).square().mean(0)
        spread = torch.where(variance > 0, variance, torch.ones_like(variance)).sqrt()
        return mean - self.k * torch.where(variance > 0, spread, torch.zeros_like(spread))


class Clip(Combination):
    """A reward clipped to bounds. Outside of them it is constant and has no gradient.

    Args:
        parts, name: as for `Combination`; one part.
        min: lower bound, none by default.
        max: upper bound, none by default.
    """

    def __init__(
        self,
        parts: Mapping[str, Reward],
        name: str,
        min: float | None = None,
        max: float | None = None,
    ) -> None:
        super().__init__(parts, name)
        if min is None and max is None:
            raise ValueError("clip needs `min` or `max`")
        if min is not None and max is not None and not min < max:
            raise ValueError(f"min {min:g} must be below max {max:g}")
        self.low, self.high = min, max

    def combine(self, scores: Tensor) -> Tensor:
        return scores[0].clamp(self.low, self.high)
