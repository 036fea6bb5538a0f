"""Trains the dual encoder on scenes and captions: contrasts a batch's own captions and captions wrong in one attribute.

A caption fits all images of the batch that show what it names, so the loss counts all of them as positives. For each
image there are three more captions with one attribute changed (animal, count or background), without which the encoder
learns counts and backgrounds late. Images without an animal fit no caption.
"""

from pathlib import Path
from typing import Any

import torch
from scipy.stats import spearmanr
from torch import Tensor

from rewards.emoji.alignment import WEIGHTS, DualEncoder
from rewards.emoji.classifier import Classifier
from rewards.emoji.labels import Labels
from rewards.emoji.prompt import NUMBERS
from rewards.emoji.train_classifier import labels_of, soften, without_animal
from rewards.emoji.training import as_pixels, fit, load_images, write_weights

BATCH = 64
NOTHING = 8
RATE = 2e-3
STEPS = 2500
LARGEST_SCALE = 4.6  # e^4.6 = 100, CLIP's bound
KINDS = ("animal", "count", "colour")


def words(caption: list[int], labels: Labels) -> str:
    """The words of a caption (animal, count, colour): its number, its noun and, unless it is -1, its colour."""
    animal, count, colour = caption
    subject = labels.animals[animal] if count == 1 else f"{NUMBERS[count - 1]} {labels.plurals[animal]}"
    return subject if colour < 0 else f"{subject} {labels.colours[colour]}"


def alter(captions: Tensor, kind: int, labels: Labels) -> Tensor:
    """Changes one attribute of captions `[N, 3]` (animal, count, colour or -1) to a random wrong value.

    A changed colour is always named, also if it was -1.
    """
    sizes = (len(labels.animals), len(NUMBERS), len(labels.colours))
    changed = captions.clone()
    column, size = changed[:, kind], sizes[kind]
    first = 1 if KINDS[kind] == "count" else 0
    changed[:, kind] = (column.clamp(min=first) - first + torch.randint(1, size, column.shape)) % size + first
    return changed


def fits(images: Tensor, captions: Tensor) -> Tensor:
    """Whether each image shows what each caption names: bool `[N, M]` from labels `[N, 3]` and captions `[M, 3]`."""
    same = images[:, None] == captions[None]
    same[..., 2] |= captions[None, :, 2] < 0
    return same.all(2)


def contrast(logits: Tensor, right: Tensor) -> Tensor:
    """The contrastive loss: −log of the softmax probability of the right columns, averaged over rows.

    Args:
        logits: `[N, M]`.
        right: bool `[N, M]`; rows without a right column are left out.
    """
    rows = right.any(1)
    logits, right = logits[rows], right[rows]
    return (logits.logsumexp(1) - logits.masked_fill(~right, -torch.inf).logsumexp(1)).mean()


def attributes_of(columns: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """The attributes (animal, count, colour) `[N, 3]` of images and of their captions; -1 for an unnamed colour."""
    shown = torch.stack([torch.from_numpy(columns[key]) for key in KINDS], dim=1)
    named = shown.clone()
    named[~torch.from_numpy(columns["named"]), 2] = -1
    return shown, named


def train_alignment(scenes: Path, held_out: Path, build: Path, steps: int = STEPS) -> None:
    """Trains for `steps` steps, resuming from `build/alignment.pt`, and writes the weights into this folder."""
    torch.manual_seed(0)
    images, columns = load_images(scenes)
    checked, checked_columns = load_images(held_out)
    labels = labels_of(columns)
    shown, named = attributes_of(columns)
    network = DualEncoder(labels)

    def embed(captions: Tensor) -> Tensor:
        return network.embed_prompts([words(row, labels) for row in captions.tolist()])

    def loss() -> Tensor:
        rows = torch.randint(len(images), (BATCH,))
        pixels = as_pixels(images[rows])
        embedded = network.embed_images(torch.cat([soften(pixels), without_animal(pixels[:NOTHING])]))
        own = named[rows]
        near = torch.cat([alter(own, kind, labels) for kind in range(len(KINDS))])
        captions = torch.cat([own, near])
        logits = network.log_scale.clamp(max=LARGEST_SCALE).exp() * embedded @ embed(captions).T
        right = fits(shown[rows], captions)
        of_captions = torch.cat([right[:, :BATCH], torch.zeros(NOTHING, BATCH, dtype=torch.bool)]).T
        return contrast(logits[:BATCH], right) + contrast(logits[:, :BATCH].T, of_captions)

    def check() -> dict[str, float]:
        return agreement(network, checked[:500], checked_columns, labels)

    fit(network, loss, check, steps, RATE, build / "alignment")
    write_weights(network, WEIGHTS)


@torch.no_grad()
@torch.random.fork_rng(devices=[])
def agreement(network: DualEncoder, images: Tensor, columns: dict[str, Any], labels: Labels) -> dict[str, float]:
    """The dual encoder's accuracy on uint8 images [N, 3, 64, 64], with right captions and captions with one error.

    Returns:
        animal, count, colour: share of images whose own caption scores above a caption with this attribute wrong.
        gold: Spearman's rank correlation with the classifier's probability over these pairs, with half of the images
            augmented.
    """
    torch.manual_seed(3)
    shown = attributes_of(columns)[0][: len(images)]
    pixels = as_pixels(images)
    half = len(pixels) // 2
    pixels = torch.cat([pixels[:half], soften(without_some(pixels[half:]))])
    classifier, embedded = Classifier(), network.embed_images(pixels)
    sets = [shown, *(alter(shown, kind, labels) for kind in range(3))]
    texts = [[words(row, labels) for row in captions.tolist()] for captions in sets]
    scores = torch.stack([(embedded * network.embed_prompts(text)).sum(1) for text in texts])
    gold = torch.stack([classifier.prompt_probability(pixels, text, "emoji-alignment-gold") for text in texts])
    figures = {kind: (scores[0] > scores[k + 1])[:half].float().mean().item() for k, kind in enumerate(KINDS)}
    return figures | {"gold": float(spearmanr(scores.flatten(), gold.flatten()).statistic)}


def without_some(images: Tensor) -> Tensor:
    """Removes the animal from the first quarter of the images."""
    return torch.cat([without_animal(images[: len(images) // 4]), images[len(images) // 4 :]])
