"""The dual encoder's recipe: scenes and their captions, contrasted with each other and with captions that miss by one.

A caption fits every image of the batch that shows what it names, so the loss takes them all as positives. For each
image three more captions are changed in one thing (animal, count or background), without which counts and backgrounds
would be learned late; images without any animal fit no caption.
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
    """A caption's words: number and plural or singular, and the background's colour where that is not -1."""
    animal, count, colour = caption
    subject = labels.animals[animal] if count == 1 else f"{NUMBERS[count - 1]} {labels.plurals[animal]}"
    return subject if colour < 0 else f"{subject} {labels.colours[colour]}"


def alter(things: Tensor, kind: int, labels: Labels) -> Tensor:
    """Captions `[N, 3]` (animal, count, colour or -1) wrong in one thing; a background that was not named is named."""
    sizes = (len(labels.animals), len(NUMBERS), len(labels.colours))
    changed = things.clone()
    column, size = changed[:, kind], sizes[kind]
    first = 1 if KINDS[kind] == "count" else 0
    changed[:, kind] = (column.clamp(min=first) - first + torch.randint(1, size, column.shape)) % size + first
    return changed


def fits(images: Tensor, captions: Tensor) -> Tensor:
    """Does an image show what a caption names? Labels `[N, 3]` and `[M, 3]` -> bool `[N, M]`."""
    same = images[:, None] == captions[None]
    same[..., 2] |= captions[None, :, 2] < 0
    return same.all(2)


def contrast(logits: Tensor, right: Tensor) -> Tensor:
    """−log of the share of the softmax over a row's columns that falls on right ones; rows without any are left out."""
    rows = right.any(1)
    logits, right = logits[rows], right[rows]
    return (logits.logsumexp(1) - logits.masked_fill(~right, -torch.inf).logsumexp(1)).mean()


def things_of(columns: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """What images show `[N, 3]`, and what their captions name, with -1 for a background that is not named."""
    shown = torch.stack([torch.from_numpy(columns[key]) for key in KINDS], dim=1)
    named = shown.clone()
    named[~torch.from_numpy(columns["named"]), 2] = -1
    return shown, named


def train_alignment(scenes: Path, held_out: Path, build: Path, steps: int = STEPS) -> None:
    """Train to the end, resuming from `build/alignment.pt`, and write the weights beside this file."""
    torch.manual_seed(0)
    images, columns = load_images(scenes)
    checked, checked_columns = load_images(held_out)
    labels = labels_of(columns)
    shown, named = things_of(columns)
    network = DualEncoder(labels)

    def embed(captions: Tensor) -> Tensor:
        return network.embed_prompts([words(row, labels) for row in captions.tolist()])

    def loss() -> Tensor:
        rows = torch.randint(len(images), (BATCH,))
        pixels = as_pixels(images[rows])
        seen = network.embed_images(torch.cat([soften(pixels), without_animal(pixels[:NOTHING])]))
        own = named[rows]
        near = torch.cat([alter(own, kind, labels) for kind in range(len(KINDS))])
        captions = torch.cat([own, near])
        logits = network.log_scale.clamp(max=LARGEST_SCALE).exp() * seen @ embed(captions).T
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
    """How the score of uint8 images [N, 3, 64, 64] judges right captions and captions that are wrong in one thing.

    Returns:
        animal, count, colour: the share of images whose own caption scores above one that is wrong in this.
        gold: Spearman's rank correlation with the classifier's opinion over these pairs, half of the images damaged.
    """
    torch.manual_seed(3)
    shown = things_of(columns)[0][: len(images)]
    pixels = as_pixels(images)
    half = len(pixels) // 2
    pixels = torch.cat([pixels[:half], soften(without_some(pixels[half:]))])
    classifier, seen = Classifier(), network.embed_images(pixels)
    sets = [shown, *(alter(shown, kind, labels) for kind in range(3))]
    texts = [[words(row, labels) for row in captions.tolist()] for captions in sets]
    scores = torch.stack([(seen * network.embed_prompts(text)).sum(1) for text in texts])
    gold = torch.stack([classifier.prompt_probability(pixels, text, "emoji-alignment-gold") for text in texts])
    figures = {kind: (scores[0] > scores[k + 1])[:half].float().mean().item() for k, kind in enumerate(KINDS)}
    return figures | {"gold": float(spearmanr(scores.flatten(), gold.flatten()).statistic)}


def without_some(images: Tensor) -> Tensor:
    """Every fourth image loses its animal."""
    return torch.cat([without_animal(images[: len(images) // 4]), images[len(images) // 4 :]])
