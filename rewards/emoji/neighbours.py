"""A second opinion on animals that is no network: the nearest renderings, pixel by pixel.

The classifier is forgiving and reaches 100 % on pictures a person finds smudged; this judge is stricter and independent
of it, so the card reports both. The background is taken off by the corners' colour, so that it judges the subject.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from rewards.emoji.training import as_pixels

NEIGHBOURS = 5
RENDERINGS = 6000
FOREGROUND = 0.25  # summed difference from the background's colour
EDGES = (slice(0, 3), slice(-3, None))


def subject(images: Tensor) -> Tensor:
    """uint8 [N, 3, 64, 64] -> the pixels that are not background, and where they are, flat."""
    pixels = as_pixels(images)
    corners = [pixels[:, :, rows, columns].mean((2, 3)) for rows in EDGES for columns in EDGES]
    ground = torch.stack(corners).median(0).values[:, :, None, None]
    mask = ((pixels - ground).abs().sum(1, keepdim=True) > FOREGROUND).float()
    return torch.cat([pixels * mask, mask], dim=1).flatten(1)


def neighbours_accuracy(images: Tensor, columns: dict[str, Any], renderings: Tensor, rendered: dict[str, Any]) -> float:
    """Share of single-animal images whose 5 nearest single-animal renderings mostly show the wanted animal."""
    known = np.flatnonzero(rendered["count"] == 1)[:RENDERINGS]
    asked = np.flatnonzero(columns["count"] == 1)
    distances = torch.cdist(subject(images[asked]), subject(renderings[known]))
    nearest = distances.topk(NEIGHBOURS, largest=False).indices
    found = torch.from_numpy(rendered["animal"][known])[nearest].mode(1).values
    return (found == torch.from_numpy(columns["animal"][asked])).float().mean().item()
