"""JPEG size as a reward: the exact size, and a differentiable estimate of it.

DDPO (Black et al. 2023, arXiv 2305.13301) rewards small or large files: kilobytes (1000 bytes) of the image as JPEG at
quality 95. The codec has no gradient. The proxy follows baseline JPEG up to the entropy coder (ITU-T T.81: YCbCr,
4:2:0 chroma, 8 × 8 DCT, the standard tables scaled for quality 95, DC as differences) and counts the bits of its
coefficients as

    Σ log2(1 + |c| / q),

which is 0 for a coefficient of 0 and grows by one bit when a large coefficient doubles, as the magnitude categories of
JPEG's code do. Two fitted numbers convert bits to kilobytes. Coefficients are not rounded, so they have a gradient.
"""

import io
import math
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from rewards.base import Reward
from rewards.pixels import to_bytes, to_pillow

QUALITY = 95
"""DDPO's JPEG quality, at which libjpeg scales its quantisation tables by a tenth."""

BYTES_PER_KB = 1000.0

# The quantisation tables of ITU-T T.81, annex K, for quality 50.
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))  # JFIF, ITU-R BT.601
BLOCK = 8
UNIT = 16
"""Side in pixels of JPEG's coding units with 4:2:0 chroma."""


def jpeg_kilobytes(images: Tensor) -> Tensor:
    """The kilobytes (1000 bytes) `[B]` of images `[B, 3, H, W]` in [0, 1], written as JPEG at quality 95 by Pillow."""
    sizes = []
    for image in to_bytes(images).cpu():
        file = io.BytesIO()
        to_pillow(image).save(file, format="JPEG", quality=QUALITY)
        sizes.append(file.tell() / BYTES_PER_KB)
    return torch.tensor(sizes, dtype=torch.float32, device=images.device)


class Compressibility(Reward):
    """Minus the kilobytes of the image as JPEG at quality 95 (DDPO's compressibility); no gradient."""

    name = "compressibility"
    differentiable = False

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        return -jpeg_kilobytes(images)


class Incompressibility(Reward):
    """The kilobytes of the image as JPEG at quality 95 (DDPO's incompressibility); no gradient."""

    name = "incompressibility"
    differentiable = False

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        return jpeg_kilobytes(images)


SLOPE, HEADER_KB = 2.546, 0.631
"""Kilobytes = SLOPE · code length / 8000 + HEADER_KB, fitted by least squares on 800 samples of emoji-v1 at 64 pixels
(`python -m rewards.emoji.measure --jpeg`). The headers of such a file have 623 bytes."""


class CompressibilityProxy(Reward):
    """Minus the kilobytes that the image would take as JPEG at quality 95, estimated; differentiable."""

    name = "compressibility-proxy"

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        return -estimated_kilobytes(images)


class IncompressibilityProxy(Reward):
    """The kilobytes that the image would take as JPEG at quality 95, estimated; differentiable."""

    name = "incompressibility-proxy"

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        return estimated_kilobytes(images)


def estimated_kilobytes(images: Tensor) -> Tensor:
    """An estimate `[B]` of `jpeg_kilobytes`, within a few per cent on photographs and scenes; differentiable."""
    return SLOPE * code_length(images) / (8 * BYTES_PER_KB) + HEADER_KB


def code_length(images: Tensor) -> Tensor:
    """The bits Σ log2(1 + |c| / q) over the coefficients of JPEG at quality 95: `[B]`, differentiable."""
    pixels = _whole_units(images if images.dtype == torch.float64 else images.float()) * 255
    luma, blue, red = torch.einsum("ij,bjhw->bihw", pixels.new_tensor(YCBCR), pixels).split(1, dim=1)
    planes = (luma - 128, F.avg_pool2d(blue, 2), F.avg_pool2d(red, 2))
    tables = (LUMINANCE, CHROMINANCE, CHROMINANCE)
    return sum(
        (_plane_length(plane, table) for plane, table in zip(planes, tables, strict=True)),
        pixels.new_zeros(len(pixels)),
    )


def _whole_units(images: Tensor) -> Tensor:
    """Pads images to whole coding units by repeating their right and lower borders, as JPEG encoders do."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % UNIT, 0, -height % UNIT), mode="replicate")


def _plane_length(plane: Tensor, table: tuple[tuple[int, ...], ...]) -> Tensor:
    blocks = plane[:, 0].unfold(1, BLOCK, BLOCK).unfold(2, BLOCK, BLOCK)  # [B, rows, columns, 8, 8]
    basis = _basis().to(plane)
    levels = basis @ blocks @ basis.T / plane.new_tensor(scaled(table))
    coefficients = levels.flatten(1, 2)
    constant = coefficients[..., 0, 0]
    # JPEG codes the mean of a block as its difference from the mean of the previous block.
    steps = torch.diff(constant, dim=1, prepend=torch.zeros_like(constant[:, :1]))
    others = _bits(coefficients).sum((1, 2, 3)) - _bits(constant).sum(1)
    return others + _bits(steps).sum(1)


def _bits(levels: Tensor) -> Tensor:
    return torch.log1p(levels.abs()) / math.log(2)


def scaled(table: tuple[tuple[int, ...], ...]) -> list[list[int]]:
    """A quantisation table at quality 95, as libjpeg scales it."""
    percent = 200 - 2 * QUALITY
    return [[max(1, min(255, (entry * percent + 50) // 100)) for entry in row] for row in table]


@lru_cache
def _basis() -> Tensor:
    """The orthonormal DCT-II of 8 points, as a matrix `[frequency, position]`."""
    position, frequency = torch.arange(BLOCK, dtype=torch.float64), torch.arange(BLOCK, dtype=torch.float64)
    waves = torch.cos((2 * position[None] + 1) * frequency[:, None] * math.pi / (2 * BLOCK)) * math.sqrt(2 / BLOCK)
    waves[0] /= math.sqrt(2)
    return waves
