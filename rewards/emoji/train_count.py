"""Trains the counting network on scenes, half of them recoloured, so that it counts shapes and not colours."""

from pathlib import Path
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn import functional as F

from rewards.emoji.classifier import Classifier
from rewards.emoji.count import MOST, WEIGHTS, Counter
from rewards.emoji.train_classifier import recolour, soften, without_animal
from rewards.emoji.training import as_pixels, fit, load_images, write_weights

BATCH = 64
NOTHING = 8
RATE = 2e-3
STEPS = 1500


def train_count(scenes: Path, held_out: Path, build: Path, steps: int = STEPS) -> None:
    """Trains for `steps` steps, resuming from `build/count.pt`, and writes the weights into this folder."""
    torch.manual_seed(0)
    images, columns = load_images(scenes)
    checked, checked_columns = load_images(held_out)
    counts = torch.from_numpy(columns["count"]) - 1
    several = torch.nonzero(counts > 0)[:, 0]
    network = Counter()

    def loss() -> Tensor:
        # Two thirds of the scenes show one animal; of the rows drawn here a quarter does.
        rows = torch.cat(
            [torch.randint(len(images), (BATCH // 3,)), several[torch.randint(len(several), (2 * BATCH // 3,))]]
        )
        rows = rows[torch.randperm(len(rows))]
        pixels = as_pixels(images[rows])
        half = len(rows) // 2
        batch = torch.cat(
            [soften(torch.cat([pixels[:half], recolour(pixels[half:])])), without_animal(pixels[:NOTHING])]
        )
        targets = torch.cat([F.one_hot(counts[rows], MOST).float(), torch.full((NOTHING, MOST), 1 / MOST)])
        return F.cross_entropy(network(batch), targets, label_smoothing=0.02)

    def check() -> dict[str, float]:
        return agreement(network, checked[:500], checked_columns)

    fit(network, loss, check, steps, RATE, build / "count")
    write_weights(network, WEIGHTS)


@torch.no_grad()
@torch.random.fork_rng(devices=[])
def agreement(network: Counter, images: Tensor, columns: dict[str, Any]) -> dict[str, float]:
    """The accuracy of the counting network on uint8 images [N, 3, 64, 64].

    Returns:
        accuracy: share of images whose most likely count is right.
        error: mean distance of the expected count from the right one.
        gold: Spearman's rank correlation of the score with the classifier's probability over all four counts, with half
            of the images augmented.
    """
    torch.manual_seed(3)
    pixels = as_pixels(images)
    counts = torch.from_numpy(columns["count"])[: len(images)]
    accuracy = (network(pixels).argmax(1) + 1 == counts).float().mean().item()
    error = (network.expected(pixels) - counts).abs().mean().item()
    half = len(pixels) // 2
    pixels = torch.cat([pixels[:half], soften(pixels[half:])])
    numbers = torch.arange(1, MOST + 1)
    scores = -(network.expected(pixels)[:, None] - numbers).abs()
    gold = Classifier().network(pixels)["count"].softmax(1)
    return {"accuracy": accuracy, "error": error, "gold": float(spearmanr(scores.flatten(), gold.flatten()).statistic)}
