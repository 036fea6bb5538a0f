"""Loads the frozen networks whose weights lie in this folder."""

from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

HERE = Path(__file__).parent
SIZE = 64

Network = TypeVar("Network", bound=nn.Module)


def load_frozen(network: Network, file: Path) -> Network:
    """Loads weights from `file` into `network`; returns it in evaluation mode, with frozen weights.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not file.exists():
        raise FileNotFoundError(f"{file} is missing: train it with `python -m rewards.emoji.train`.")
    network.load_state_dict({key: value.float() for key, value in load_file(file).items()})
    return network.eval().requires_grad_(False)


def at_native_size(images: Tensor) -> Tensor:
    """Resizes images [B, 3, H, W] to [B, 3, 64, 64], fp32; images of that size keep their pixels."""
    images = images.to(torch.float32)
    if images.shape[-2:] == (SIZE, SIZE):
        return images
    return F.interpolate(images, size=(SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
