"""CLIP's preprocessing, differentiable: shorter side to size by antialiased bicubic, centre crop, normalisation."""

import torch
from torch import Tensor
from torch.nn import functional as F

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """Images in [0, 1] at another size: Pillow's bicubic to within 1/255, differentiable; as they are at their own."""
    if images.shape[-2:] == (height, width):
        return images
    found = F.interpolate(images, size=(height, width), mode="bicubic", antialias=True, align_corners=False)
    return found.clamp(0, 1)


def normalise(images: Tensor) -> Tensor:
    """CLIP's mean and standard deviation."""
    mean, std = (torch.tensor(values, device=images.device, dtype=images.dtype) for values in (MEAN, STD))
    return (images - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)


def preprocess(images: Tensor, size: int) -> Tensor:
    """CLIP's pixels `[B, 3, size, size]` from images `[B, 3, H, W]` in [0, 1]; differentiable."""
    height, width = images.shape[2:]
    scale = size / min(height, width)
    high, wide = max(size, int(height * scale)), max(size, int(width * scale))
    resized = resize(images, high, wide)
    top, left = (high - size) // 2, (wide - size) // 2
    return normalise(resized[:, :, top : top + size, left : left + size])
