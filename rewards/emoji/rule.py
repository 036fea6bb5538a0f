"""The preference rule for colourful, contrasty and centred images: `emoji-aesthetic` learns it, its gold computes it.

    rule = 1 + 9 (0.6 colour + 0.2 contrast + 0.2 centredness), in [1, 10], with each part in [0, 1]:

- colour: Hasler-Süsstrunk colourfulness (2003, see `rewards/colour.py`) through 1 - exp(-C / 0.75).
- contrast: the standard deviation of luminance (root-mean-square contrast; Peli, "Contrast in complex images", JOSA A,
  1990) through 1 - exp(-σ / 0.15).
- centredness: people prefer a single subject in the middle of the frame (Palmer, Gardner & Wickens, "Aesthetic issues
  in spatial composition", Spatial Vision, 2008). Saliency is a pixel's squared colour distance from the image's mean
  (frequency-tuned saliency; Achanta et al., CVPR 2009). Centredness is exp(-d² / (2·0.25²)), with d the
  root-mean-square distance of the saliency from the middle, in frame widths.

The parts saturate, so no image scores above 10.
"""

import torch
from torch import Tensor

from rewards.colour import colourfulness

LUMINANCE = (0.2126, 0.7152, 0.0722)  # ITU-R BT.709
COLOUR_SCALE = 0.75
CONTRAST_SCALE = 0.15
DISTANCE_SCALE = 0.25
SALIENCY_FLOOR = 1e-3  # makes the saliency of an image without a subject uniform instead of 0/0


def colour(images: Tensor) -> Tensor:
    """The colourfulness [B] in [0, 1) of images [B, 3, H, W] in [0, 1], saturating."""
    return 1 - torch.exp(-colourfulness(images) / COLOUR_SCALE)


def contrast(images: Tensor) -> Tensor:
    """The root-mean-square contrast of luminance [B] in [0, 1) of images [B, 3, H, W] in [0, 1], saturating."""
    luminance = torch.einsum("bchw,c->bhw", images, images.new_tensor(LUMINANCE)).flatten(1)
    return 1 - torch.exp(-(luminance.var(1, unbiased=False) + 1e-8).sqrt() / CONTRAST_SCALE)


def centredness(images: Tensor) -> Tensor:
    """The centredness [B] in [0, 1] of the salient pixels; a flat image has uniform saliency."""
    height, width = images.shape[-2:]
    saliency = (images - images.mean(dim=(2, 3), keepdim=True)).square().sum(1) + SALIENCY_FLOOR
    weights = saliency / saliency.sum(dim=(1, 2), keepdim=True)
    rows = (torch.arange(height, device=images.device, dtype=images.dtype) + 0.5) / height - 0.5
    columns = (torch.arange(width, device=images.device, dtype=images.dtype) + 0.5) / width - 0.5
    squared = rows[:, None].square() + columns[None, :].square()
    return torch.exp(-(weights * squared).sum(dim=(1, 2)) / (2 * DISTANCE_SCALE**2))


def preference(images: Tensor) -> Tensor:
    """The rule's score [B], in [1, 10], of images [B, 3, H, W] in [0, 1]."""
    return 1 + 9 * (0.6 * colour(images) + 0.2 * contrast(images) + 0.2 * centredness(images))
