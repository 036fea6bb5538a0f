"""Random augmentations of batches of images [B, 3, 64, 64] in [0, 1], with parameters drawn for each image."""

import torch
from torch import Tensor
from torch.nn import functional as F


def uniform(images: Tensor, low: float, high: float) -> Tensor:
    """One uniform random number in [low, high) for each image: [B, 1, 1, 1]."""
    return torch.empty(len(images), 1, 1, 1).uniform_(low, high)


def sometimes(images: Tensor, changed: Tensor, chance: float) -> Tensor:
    """Replaces each image by its version in `changed` with probability `chance`."""
    return torch.where(torch.rand(len(images), 1, 1, 1) < chance, changed, images)


def blur(images: Tensor, largest: float) -> Tensor:
    """Blurs images with a Gaussian of σ up to `largest` pixels."""
    sigma = uniform(images, 0.2, largest).view(-1, 1)
    radius = max(1, round(2.5 * largest))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-offsets.square() / (2 * sigma.square()))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, dim=0)
    flat = F.pad(images, (radius,) * 4, mode="replicate").flatten(0, 1)[None]
    flat = F.conv2d(flat, kernel[:, None, :, None], groups=len(kernel))
    flat = F.conv2d(flat, kernel[:, None, None, :], groups=len(kernel))
    return flat.view_as(images)


def noise(images: Tensor, largest: float) -> Tensor:
    """Adds white noise with σ up to `largest`."""
    return images + uniform(images, 0, largest) * torch.randn_like(images)


def shrink(images: Tensor, size: int) -> Tensor:
    """Resizes images to `size` pixels and back, which softens edges as a lossy autoencoder does."""
    return F.interpolate(
        F.interpolate(images, size=size, mode="area"), size=images.shape[-1], mode="bilinear", align_corners=False
    )


def smudge(images: Tensor, largest: float) -> Tensor:
    """Adds noise with σ up to `largest` that is smooth over about 8 pixels, as a denoiser's errors are."""
    coarse = torch.randn(len(images), 3, 9, 9)
    field = F.interpolate(coarse, size=images.shape[-1], mode="bicubic", align_corners=False)
    return images + uniform(images, 0, largest) * field


def tint(images: Tensor, brightness: float, saturation: float, contrast: float) -> Tensor:
    """Scales saturation and contrast by random factors 1 ± the argument, and adds brightness within ± the argument."""
    grey = images.mean(dim=1, keepdim=True)
    images = grey + uniform(images, 1 - saturation, 1 + saturation) * (images - grey)
    centre = images.mean(dim=(2, 3), keepdim=True)
    images = centre + uniform(images, 1 - contrast, 1 + contrast) * (images - centre)
    return images + uniform(images, -brightness, brightness)


def mix_channels(images: Tensor, strength: float) -> Tensor:
    """Changes hues by a random 3 x 3 colour matrix near the identity."""
    matrix = torch.eye(3) + strength * torch.randn(len(images), 3, 3)
    return torch.einsum("bij,bjhw->bihw", matrix / matrix.sum(2, keepdim=True).clamp(min=0.5), images)


def shift(images: Tensor, largest: int) -> Tensor:
    """Moves images by up to `largest` pixels; borders are repeated."""
    padded = F.pad(images, (largest,) * 4, mode="replicate")
    size = images.shape[-1]
    starts = torch.randint(0, 2 * largest + 1, (len(images), 2)).tolist()
    return torch.stack([image[:, y : y + size, x : x + size] for image, (y, x) in zip(padded, starts, strict=True)])


def shuffle_patches(images: Tensor, size: int) -> Tensor:
    """Shuffles squares of `size` pixels, which keeps the colours of an image but not its animal."""
    patches = F.unfold(images, size, stride=size)
    order = torch.rand(len(images), patches.shape[2]).argsort(1)
    patches = patches.gather(2, order[:, None].expand_as(patches))
    return F.fold(patches, images.shape[-2:], size, stride=size)


def colour_blobs(number: int, size: int = 64) -> Tensor:
    """Draws `number` images of random smooth shapes in two or three flat colours, similar to outlines of animals."""
    cells = int(torch.randint(2, 9, ()))
    fields = F.interpolate(torch.randn(number, 2, cells, cells), size=size, mode="bicubic", align_corners=False)
    axis = torch.linspace(-1, 1, size)
    radius = (axis[:, None].square() + axis[None].square()).sqrt()
    disc = uniform(fields, 0.4, 0.9) - radius
    first = torch.sigmoid(12 * (disc + uniform(fields, 0, 0.4) * fields[:, :1]))
    second = torch.sigmoid(12 * (fields[:, 1:] - uniform(fields, 0.5, 2.5)))
    ground, body, mark = torch.rand(3, number, 3, 1, 1)
    return ground * (1 - first) + first * (body * (1 - second) + mark * second)
