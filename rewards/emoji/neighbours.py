"""A second judge of animals without a network: the nearest renderings, by distance of pixels.

The classifier reaches 100 % on images that a person finds smudged. This judge is stricter and independent of it, so the
card reports both. The background, found by the colour of the corners, is masked, so that the judge compares subjects.
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
    """The masked pixels and the mask of uint8 images [N, 3, 64, 64], where background is 0: [N, 4 · 64 · 64]."""
    pixels = as_pixels(images)
    corners = [pixels[:, :, rows, columns].mean((2, 3)) for rows in EDGES for columns in EDGES]
    ground = torch.stack(corners).median(0).values[:, :, None, None]
    mask = ((pixels - ground).abs().sum(1, keepdim=True) > FOREGROUND).float()
    return torch.cat([pixels * mask, mask], dim=1).flatten(1)


def neighbours_accuracy(images: Tensor, columns: dict[str, Any], renderings: Tensor, rendered: dict[str, Any]) -> float:
    """The share of single-animal images whose 5 nearest single-animal renderings mostly show the same animal.

    Args:
        images: uint8 [N, 3, 64, 64].
        columns: labels of the images.
        renderings: uint8 [M, 3, 64, 64].
        rendered: labels of the renderings.
    """
    references = np.flatnonzero(rendered["count"] == 1)[:RENDERINGS]
    judged = np.flatnonzero(columns["count"] == 1)
    distances = torch.cdist(subject(images[judged]), subject(renderings[references]))
    nearest = distances.topk(NEIGHBOURS, largest=False).indices
    predicted = torch.from_numpy(rendered["animal"][references])[nearest].mode(1).values
    return (predicted == torch.from_numpy(columns["animal"][judged])).float().mean().item()
