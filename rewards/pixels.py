"""Images as bytes and as Pillow's."""

from PIL import Image
from torch import Tensor


def to_bytes(images: Tensor) -> Tensor:
    """Float images in [0, 1] -> uint8, rounded to the nearest level, as they are saved."""
    return images.detach().float().mul(255).round().clamp(0, 255).byte()


def to_pillow(image: Tensor) -> Image.Image:
    """uint8 `[3, H, W]` -> an RGB image."""
    return Image.fromarray(image.permute(1, 2, 0).cpu().numpy(), "RGB")
