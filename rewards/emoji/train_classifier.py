"""Trains the classifier on augmented renderings of its own seed, with a class "nothing" for images without an animal.

Half of each batch keeps its colours and trains all three heads. The other half has other hues and saturation and trains
animal and count only, so that a recoloured lion is classified as a lion. Another eighth shows no animal (colour blobs,
shuffled patches, strongly blurred images): without it the softmax classifies an orange blob as a cat with 0.9.
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
    """The names of labels in the columns of a file of scenes."""
    return Labels(**{key: tuple(columns[key].tolist()) for key in ("animals", "plurals", "colours", "held_out")})


def soften(images: Tensor) -> Tensor:
    """Augments images without changing animal, colour and count: blur, rescaling, noise, small tints and shifts."""
    images = augment.shift(images, 3)
    images = augment.sometimes(images, augment.tint(images, 0.03, 0.12, 0.12), 0.7)
    images = augment.sometimes(images, augment.blur(images, 1.8), 0.5)
    images = augment.sometimes(images, augment.shrink(images, int(torch.randint(18, 40, ()))), 0.3)
    images = augment.sometimes(images, augment.smudge(images, 0.05), 0.4)
    return augment.sometimes(images, augment.noise(images, 0.08), 0.5).clamp(0, 1)


def recolour(images: Tensor) -> Tensor:
    """Changes hue, saturation and contrast of images, so that animals remain recognisable."""
    images = augment.sometimes(images, augment.mix_channels(images, 0.15), 0.7)
    return augment.tint(images, 0.1, 0.6, 0.35).clamp(0, 1)


def without_animal(images: Tensor) -> Tensor:
    """Replaces images by images without an animal: colour blobs, shuffled patches or a strong blur, at random."""
    kinds = torch.randint(3, (len(images), 1, 1, 1))
    shuffled = augment.shuffle_patches(images, 8)
    erased = F.interpolate(F.interpolate(images, size=5, mode="area"), size=64, mode="bicubic", align_corners=False)
    return torch.where(kinds == 0, augment.colour_blobs(len(images)), torch.where(kinds == 1, shuffled, erased))


def train_classifier(scenes: Path, held_out: Path, build: Path, steps: int = STEPS) -> None:
    """Trains for `steps` steps, resuming from `build/classifier.pt`, and writes weights and labels into this folder."""
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
    """The accuracy for animal, background colour and count on uint8 images [N, 3, 64, 64]."""
    logits = [network(as_pixels(batch)) for batch in images.split(250)]
    predicted = {key: torch.cat([part[key] for part in logits]).argmax(1) for key in ("animal", "colour", "count")}
    targets = {key: torch.from_numpy(columns[key]) for key in predicted}
    targets["count"] = targets["count"] - 1
    return {key: (predicted[key] == targets[key]).float().mean().item() for key in predicted}
