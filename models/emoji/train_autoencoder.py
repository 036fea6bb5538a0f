"""Stage one of the recipe: trains the autoencoder on mean squared error, absolute error and a small KL term."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from models.emoji.networks import build_autoencoder
from models.emoji.training import Course, save_atomically

RATE = 2e-3
BATCH = 16
ABSOLUTE_WEIGHT = 0.1  # keeps plain backgrounds uniform
KL_WEIGHT = 5e-5  # for the mean over latent dimensions; enough to bound the scale of latents


def to_pixels(images: np.ndarray) -> Tensor:
    """uint8 [N, 64, 64, 3] -> float [N, 3, 64, 64] in [-1, 1]."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).contiguous().float() / 127.5 - 1


@torch.no_grad()
def psnr(autoencoder: Any, images: np.ndarray) -> float:
    """The mean PSNR in dB of reconstructions from the latent mean, for images on the 0-1 scale."""
    values = []
    for batch in np.array_split(images, max(1, len(images) // 50)):
        pixels = to_pixels(batch)
        decoded = autoencoder.decode(autoencoder.encode(pixels).latent_dist.mode()).sample.clamp(-1, 1)
        errors = ((decoded - pixels) / 2).square().mean(dim=(1, 2, 3))
        values.append(-10 * errors.log10())
    return float(torch.cat(values).mean())


@torch.no_grad()
def encode_all(autoencoder: Any, images: np.ndarray) -> tuple[Tensor, Tensor]:
    """The means and standard deviations of the latents of uint8 images [N, 64, 64, 3], [N, 4, 16, 16] each."""
    moments = [autoencoder.encode(to_pixels(batch)).latent_dist for batch in np.array_split(images, len(images) // 50)]
    return torch.cat([m.mean for m in moments]), torch.cat([m.std for m in moments])


def train_autoencoder(scenes: Path, held_out: Path, build: Path, steps: int, minutes: float) -> None:
    """Trains until `steps` or `minutes` are over, resuming from `build/autoencoder.pt`.

    Figures are logged to `build/autoencoder.jsonl`.
    """
    torch.manual_seed(0)
    images = np.load(scenes)["images"]
    checked = np.load(held_out)["images"][:400]
    autoencoder = build_autoencoder()
    optimizer = torch.optim.AdamW(autoencoder.parameters(), lr=RATE, weight_decay=1e-4, fused=True)
    course = Course(build / "autoencoder.jsonl", RATE, steps, minutes)
    checkpoint = build / "autoencoder.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        autoencoder.load_state_dict(state["autoencoder"])
        optimizer.load_state_dict(state["optimizer"])
        course.load_state_dict(state["course"])
    generator = np.random.default_rng(course.step)
    running = 0.0

    def save() -> None:
        state = {
            "autoencoder": autoencoder.state_dict(),
            "optimizer": optimizer.state_dict(),
            "course": course.state_dict(),
        }
        save_atomically(state, checkpoint)
        course.write(mse=running, psnr=psnr(autoencoder, checked))

    for _step in course.run(optimizer):
        pixels = to_pixels(images[generator.integers(len(images), size=BATCH)])
        posterior = autoencoder.encode(pixels).latent_dist
        decoded = autoencoder.decode(posterior.sample()).sample
        error = F.mse_loss(decoded, pixels)
        loss = error + ABSOLUTE_WEIGHT * F.l1_loss(decoded, pixels) + KL_WEIGHT * posterior.kl().mean() / 1024
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(autoencoder.parameters(), 1.0)
        optimizer.step()
        running = error.item() if running == 0.0 else 0.98 * running + 0.02 * error.item()
        if course.due():
            save()
    save()
