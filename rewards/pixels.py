"""Converts images to bytes and to Pillow's images."""

from PIL import Image
from torch import Tensor


def to_bytes(images: Tensor) -> Tensor:
    """Converts float images in [0, 1] to uint8, rounded to the nearest level, as for saving."""
    return images.detach().float().mul(255).round().clamp(0, 255).byte()


def to_pillow(image: Tensor) -> Image.Image:
    """Converts a uint8 image `[3, H, W]` to Pillow's RGB image."""
    return Image.fromarray(image.permute(1, 2, 0).cpu().numpy(), "RGB")
