"""Trains the aesthetic predictor on the rule's values for scenes and samples of the checkpoint, plain and augmented.

No image shows a held-out animal. A third of each batch is outside of the distribution of scenes (shapes of any colours,
shuffled patches, smooth and white noise), so that such images are harder to exploit in alignment.
"""

from pathlib import Path

import torch
from scipy.stats import spearmanr
from torch import Tensor
from torch.nn import functional as F

from rewards.emoji import augment
from rewards.emoji.aesthetic import WEIGHTS, Predictor
from rewards.emoji.rule import preference
from rewards.emoji.training import as_pixels, fit, load_images, write_weights

BATCH = 64
RATE = 2e-3
STEPS = 2000


def restyle(images: Tensor) -> Tensor:
    """Changes colour, contrast, blur, noise and position of images far beyond the range of scenes."""
    images = augment.shift(images, 8)
    images = augment.sometimes(images, augment.mix_channels(images, 0.35), 0.4)
    images = augment.sometimes(images, augment.tint(images, 0.25, 1.0, 0.8), 0.5)
    images = augment.sometimes(images, augment.tint(images, 0.0, 1.0, 0.0) * 1.2 - 0.1, 0.3)
    images = augment.sometimes(images, augment.blur(images, 3.0), 0.3)
    images = augment.sometimes(images, augment.smudge(images, 0.25), 0.4)
    return augment.sometimes(images, augment.noise(images, 0.25), 0.3).clamp(0, 1)


def strange(number: int) -> Tensor:
    """Draws `number` images unlike scenes: shapes, smooth colour fields, white noise, tiles."""
    shapes = augment.colour_blobs(number)
    fields = augment.smudge(torch.rand(number, 3, 1, 1).expand(-1, -1, 64, 64), 0.6)
    grain = augment.noise(torch.rand(number, 3, 1, 1).expand(-1, -1, 64, 64), 0.6)
    tiles = F.interpolate(torch.rand(number, 3, 4, 4), size=64, mode="nearest")
    kinds = torch.randint(6, (number, 1, 1, 1))
    images = torch.where(kinds == 3, fields, shapes)
    images = torch.where(kinds == 4, grain, images)
    return torch.where(kinds == 5, tiles, images).clamp(0, 1)


def draw(scenes: Tensor, samples: Tensor) -> Tensor:
    """Draws a batch of scenes and samples, of which 60 % are restyled; a third of the batch is unlike both."""
    odd = BATCH // 3
    own = (BATCH - odd) // 2
    pictures = torch.cat(
        [
            as_pixels(scenes[torch.randint(len(scenes), (own,))]),
            as_pixels(samples[torch.randint(len(samples), (BATCH - odd - own,))]),
        ]
    )
    pictures = augment.sometimes(pictures, restyle(pictures), 0.6)
    patches = augment.shuffle_patches(pictures[:2], 8)
    return torch.cat([pictures, patches, strange(odd - 2)])


def split(images: Tensor) -> tuple[Tensor, Tensor]:
    """Splits images into those for training and the last tenth, which is held out."""
    cut = len(images) - len(images) // 10
    return images[:cut], images[cut:]


def train_aesthetic(scenes: Path, samples: list[Path], build: Path, steps: int = STEPS) -> None:
    """Trains for `steps` steps, resuming from `build/aesthetic.pt`, and writes the weights into this folder."""
    torch.manual_seed(0)
    drawn, columns = load_images(scenes)
    forbidden = set(columns["held_out"].tolist())
    if forbidden & set(columns["animals"][columns["animal"]].tolist()):
        raise SystemExit(f"{scenes} shows held-out animals: render it with --trained-only.")
    made = []
    for file in samples:
        images, columns = load_images(file)
        if forbidden & set(columns["animals"][columns["animal"]].tolist()):
            raise SystemExit(f"{file} shows held-out animals: sample it with --trained-only.")
        made.append(split(images))
    scenes_fit, scenes_kept = split(drawn)
    samples_fit, samples_kept = (torch.cat(parts) for parts in zip(*made, strict=True))
    network = Predictor()

    def loss() -> Tensor:
        images = draw(scenes_fit, samples_fit)
        return F.smooth_l1_loss(network(images), preference(images), beta=0.5)

    torch.manual_seed(1)
    kinds = {
        "scenes": as_pixels(scenes_kept[:600]),
        "samples": as_pixels(samples_kept[:600]),
        "restyled": restyle(as_pixels(samples_kept[:600])),
        "strange": strange(600),
    }

    def check() -> dict[str, float]:
        return agreement(network, kinds)

    fit(network, loss, check, steps, RATE, build / "aesthetic")
    write_weights(network, WEIGHTS)


@torch.no_grad()
def agreement(network: Predictor, kinds: dict[str, Tensor]) -> dict[str, float]:
    """The predictor's agreement with the rule.

    Args:
        network: the predictor.
        kinds: kind of images -> images [N, 3, 64, 64] in [0, 1].

    Returns:
        Spearman's rank correlation for each kind, and `all` for all images; `error`, the mean absolute error.
    """
    scores = {kind: network(images) for kind, images in kinds.items()}
    targets = {kind: preference(images) for kind, images in kinds.items()}
    figures = {kind: float(spearmanr(scores[kind], targets[kind]).statistic) for kind in kinds}
    all_scores, all_targets = torch.cat(list(scores.values())), torch.cat(list(targets.values()))
    figures["all"] = float(spearmanr(all_scores, all_targets).statistic)
    figures["error"] = float((all_scores - all_targets).abs().mean())
    return figures
