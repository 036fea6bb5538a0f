"""Loading the frozen networks that lie in this folder."""

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
    """Weights from `file` into `network`, in evaluation mode, without gradients of its own."""
    if not file.exists():
        raise FileNotFoundError(f"{file} is missing: train it with `python -m rewards.emoji.train`.")
    network.load_state_dict({key: value.float() for key, value in load_file(file).items()})
    return network.eval().requires_grad_(False)


def at_native_size(images: Tensor) -> Tensor:
    """Images [B, 3, H, W] -> [B, 3, 64, 64], untouched if they have that size."""
    images = images.to(torch.float32)
    if images.shape[-2:] == (SIZE, SIZE):
        return images
    return F.interpolate(images, size=(SIZE, SIZE), mode="bilinear", antialias=True, align_corners=False)
