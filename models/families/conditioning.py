"""What a denoiser is told of its prompts: tensors with a row for each prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Conditioning:
    """The conditioning of B rows.

    Attributes:
        tensors: the inputs of the denoiser that depend on the prompt, `[B, ...]` each, in the family's order.
        pooled: one vector for each prompt, `[B, D]`, for networks of a method's own.
    """

    tensors: tuple[Tensor, ...]
    pooled: Tensor

    def __len__(self) -> int:
        return len(self.pooled)

    def __getitem__(self, rows: Any) -> "Conditioning":
        """Some of the rows: a slice, a mask or row numbers, which may repeat."""
        return Conditioning(tuple(tensor[rows] for tensor in self.tensors), self.pooled[rows])

    def repeat(self, times: int) -> "Conditioning":
        """All rows, `times` times one after another."""
        return join([self] * times)


def join(parts: Sequence[Conditioning]) -> Conditioning:
    """The rows of all parts, one part after another."""
    tensors = zip(*(part.tensors for part in parts), strict=True)
    return Conditioning(tuple(map(torch.cat, tensors)), torch.cat([part.pooled for part in parts]))
