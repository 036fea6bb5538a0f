"""The classifier's recipe: renderings of its own seed, damaged in many ways, and a "nothing" class.

Half of each batch keeps its colours and teaches all three heads; the other half has its hues and saturation changed and
teaches animal and count only, so that a recoloured lion is still a lion. An eighth more shows no animal (colour blobs,
shuffled patches, what a strong blur leaves): without it a softmax calls an orange blob a cat with 0.9.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from rewards.emoji import augment
from rewards.emoji.classifier import WEIGHTS, Judge
from rewards.emoji.labels import LABELS, Labels
from rewards.emoji.training import as_pixels, fit, load_images, write_weights

BATCH = 64
NOTHING = 8
RATE = 2e-3
STEPS = 4000


def labels_of(columns: dict[str, Any]) -> Labels:
    """The label names that a scenes file carries."""
    return Labels(**{key: tuple(columns[key].tolist()) for key in ("animals", "plurals", "colours", "held_out")})


def soften(images: Tensor) -> Tensor:
    """Damage that keeps animal, colour and count: blur, rescaling, noise, small tints and shifts."""
    images = augment.shift(images, 3)
    images = augment.sometimes(images, augment.tint(images, 0.03, 0.12, 0.12), 0.7)
    images = augment.sometimes(images, augment.blur(images, 1.8), 0.5)
    images = augment.sometimes(images, augment.shrink(images, int(torch.randint(18, 40, ()))), 0.3)
    images = augment.sometimes(images, augment.smudge(images, 0.05), 0.4)
    return augment.sometimes(images, augment.noise(images, 0.08), 0.5).clamp(0, 1)


def recolour(images: Tensor) -> Tensor:
    """Changes of hue, saturation and contrast that leave the animal recognisable."""
    images = augment.sometimes(images, augment.mix_channels(images, 0.15), 0.7)
    return augment.tint(images, 0.1, 0.6, 0.35).clamp(0, 1)


def without_animal(images: Tensor) -> Tensor:
    """What is left when the animal is gone: as many images as given, of three kinds."""
    kinds = torch.randint(3, (len(images), 1, 1, 1))
    shuffled = augment.shuffle_patches(images, 8)
    erased = F.interpolate(F.interpolate(images, size=5, mode="area"), size=64, mode="bicubic", align_corners=False)
    return torch.where(kinds == 0, augment.colour_blobs(len(images)), torch.where(kinds == 1, shuffled, erased))


def train_classifier(scenes: Path, held_out: Path, build: Path, steps: int = STEPS) -> None:
    """Train to the end, resuming from `build/classifier.pt`, and write weights and labels beside this file."""
    torch.manual_seed(0)
    images, columns = load_images(scenes)
    checked, checked_columns = load_images(held_out)
    labels = labels_of(columns)
    targets = {key: torch.from_numpy(columns[key]) for key in ("animal", "colour", "count")}
    network = Judge(labels)

    def loss() -> Tensor:
        rows = torch.randint(len(images), (BATCH,))
        pixels = as_pixels(images[rows])
        half = BATCH // 2
        empty = without_animal(pixels[-NOTHING:])
        pixels = soften(torch.cat([pixels[:half], recolour(pixels[half:]), empty]))
        logits = network(pixels)
        animals = torch.cat([targets["animal"][rows], torch.full((NOTHING,), labels.nothing)])
        return (
            F.cross_entropy(logits["animal"], animals, label_smoothing=0.02)
            + 0.5 * F.cross_entropy(logits["colour"][:half], targets["colour"][rows[:half]])
            + 0.5 * F.cross_entropy(logits["count"][:BATCH], targets["count"][rows] - 1)
        )

    def check() -> dict[str, float]:
        return accuracy(network, checked, checked_columns)

    fit(network, loss, check, steps, RATE, build / "classifier")
    write_weights(network, WEIGHTS)
    LABELS.write_text(json.dumps(asdict(labels), indent=1) + "\n")


@torch.no_grad()
def accuracy(network: Judge, images: Tensor, columns: dict[str, Any]) -> dict[str, float]:
    """Shares of uint8 images [N, 3, 64, 64] whose animal, background colour and count come out right."""
    logits = [network(as_pixels(batch)) for batch in images.split(250)]
    found = {key: torch.cat([part[key] for part in logits]).argmax(1) for key in ("animal", "colour", "count")}
    wanted = {key: torch.from_numpy(columns[key]) for key in found}
    wanted["count"] = wanted["count"] - 1
    return {key: (found[key] == wanted[key]).float().mean().item() for key in found}
