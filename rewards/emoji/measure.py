"""Measures how well the images in a file fit their captions, by the independent classifier and other judges.

    python -m rewards.emoji.measure build/emoji/samples.npz --renderings build/emoji/classifier-scenes.npz
    python -m rewards.emoji.measure --aesthetic build/emoji/aesthetic-scenes.npz build/emoji/aesthetic-samples.npz
    python -m rewards.emoji.measure --alignment build/emoji/alignment-heldout.npz build/emoji/samples.npz
    python -m rewards.emoji.measure --count build/emoji/alignment-heldout.npz build/emoji/samples.npz
    python -m rewards.emoji.measure --jpeg build/emoji/samples.npz

The first command takes files of `python -m models.emoji.sample` (or `.scenes`). It reports the accuracy of animals over
captions of one animal, of backgrounds over captions that name one, and of counts over all captions. `animal_by_chance`
is the accuracy of animals with shuffled captions. `--renderings` adds a stricter judge of animals (`neighbours.py`).
`--aesthetic` reports the aesthetic predictor's rank correlation with the rule on the tenth of each file that its
training left out. `--alignment` and `--count` report how the dual encoder and the counter judge files that they were
not trained on, and `--jpeg` how far the JPEG estimate is from Pillow's size.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from rewards.emoji import train_alignment, train_count
from rewards.emoji.aesthetic import WEIGHTS as AESTHETIC_WEIGHTS
from rewards.emoji.aesthetic import Predictor
from rewards.emoji.alignment import WEIGHTS as ALIGNMENT_WEIGHTS
from rewards.emoji.alignment import DualEncoder
from rewards.emoji.classifier import Classifier
from rewards.emoji.count import WEIGHTS as COUNT_WEIGHTS
from rewards.emoji.count import Counter
from rewards.emoji.labels import load_labels
from rewards.emoji.neighbours import neighbours_accuracy
from rewards.emoji.rule import preference
from rewards.emoji.train_aesthetic import agreement, restyle, split, strange
from rewards.emoji.training import as_pixels, load_images
from rewards.emoji.weights import load_frozen
from rewards.jpeg import code_length, estimated_kilobytes, jpeg_kilobytes


@torch.no_grad()
def measure(images: Tensor, columns: dict[str, Any]) -> dict[str, Any]:
    """The classifier's accuracies, and the mean of the rule, on uint8 images [N, 3, 64, 64] with their labels."""
    classifier = Classifier()
    names = classifier.labels.animals
    if columns["animals"].tolist() != list(names):
        raise SystemExit("The file's animals are not those of rewards/emoji/labels.json.")
    logits = [classifier.network(as_pixels(batch)) for batch in images.split(250)]
    predicted = {key: torch.cat([part[key] for part in logits]).argmax(1) for key in ("animal", "colour", "count")}
    labels = {key: torch.from_numpy(columns[key]) for key in predicted}
    right = {
        "animal": predicted["animal"] == labels["animal"],
        "colour": predicted["colour"] == labels["colour"],
        "count": predicted["count"] == labels["count"] - 1,
    }
    single = labels["count"] == 1
    named = torch.from_numpy(columns["named"])
    shuffled = labels["animal"][torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]
    by_animal = {
        name: right["animal"][single & (labels["animal"] == index)].float().mean().item()
        for index, name in enumerate(names)
        if (single & (labels["animal"] == index)).any()
    }
    return {
        "images": len(images),
        "animal": right["animal"][single].float().mean().item(),
        "animal_by_chance": (predicted["animal"] == shuffled)[single].float().mean().item(),
        "animal_of_several": right["animal"][~single].float().mean().item(),
        "background": right["colour"][named].float().mean().item(),
        "count": right["count"].float().mean().item(),
        "count_of_several": right["count"][~single].float().mean().item(),
        "rule": preference(as_pixels(images)).mean().item(),
        "worst_animals": dict(sorted(by_animal.items(), key=lambda item: item[1])[:8]),
    }


def measure_aesthetic(scenes: Path, samples: list[Path]) -> dict[str, float]:
    """The aesthetic predictor's agreement with the rule on the held-out tenth of its training files."""
    network = load_frozen(Predictor(), AESTHETIC_WEIGHTS)
    torch.manual_seed(2)
    held_out = as_pixels(torch.cat([split(load_images(file)[0])[1] for file in samples]))
    kinds = {
        "scenes": as_pixels(split(load_images(scenes)[0])[1]),
        "samples": held_out,
        "restyled": restyle(held_out),
        "strange": strange(len(held_out)),
    }
    return agreement(network, kinds)


@torch.no_grad()
def measure_alignment(images: Tensor, columns: dict[str, Any]) -> dict[str, float]:
    """`train_alignment.agreement` of the committed weights."""
    labels = load_labels()
    return train_alignment.agreement(load_frozen(DualEncoder(labels), ALIGNMENT_WEIGHTS), images, columns, labels)


@torch.no_grad()
def measure_count(images: Tensor, columns: dict[str, Any]) -> dict[str, float]:
    """`train_count.agreement` of the committed weights."""
    return train_count.agreement(load_frozen(Counter(), COUNT_WEIGHTS), images, columns)


@torch.no_grad()
def measure_jpeg(images: Tensor, columns: dict[str, Any]) -> dict[str, float]:
    """Compares the JPEG estimate with Pillow's size, and fits a line from code length to kilobytes.

    Returns:
        spearman: rank correlation of code length and size.
        error: mean absolute error of the estimate, in kilobytes.
        kilobytes: mean size.
        slope, header_kilobytes: the fitted line.
    """
    pixels = as_pixels(images)
    true, length = jpeg_kilobytes(pixels), code_length(pixels) / 8000
    slope, intercept = np.polyfit(length.double().numpy(), true.double().numpy(), 1)
    return {
        "spearman": float(spearmanr(length, true).statistic),
        "error": float((estimated_kilobytes(pixels) - true).abs().mean()),
        "kilobytes": float(true.mean()),
        "slope": float(slope),
        "header_kilobytes": float(intercept),
    }


KINDS: dict[str, Callable[[Tensor, dict[str, Any]], dict[str, float]]] = {
    "alignment": measure_alignment,
    "count": measure_count,
    "jpeg": measure_jpeg,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure samples with the independent classifier.")
    parser.add_argument("files", type=Path, nargs="+", help="an npz of samples or scenes")
    parser.add_argument("--aesthetic", action="store_true", help="measure the aesthetic predictor instead")
    for kind in KINDS:
        parser.add_argument(f"--{kind}", dest="kind", action="store_const", const=kind, help=f"measure {kind} instead")
    parser.add_argument("--renderings", type=Path, help="scenes for the nearest-neighbour judge of animals")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    figures: dict[str, Any]
    if options.kind:
        figures = {file.stem: KINDS[options.kind](*load_images(file)) for file in options.files}
    elif options.aesthetic:
        figures = measure_aesthetic(options.files[0], options.files[1:])
    else:
        figures = {file.stem: measure(*load_images(file)) for file in options.files}
        if options.renderings:
            renderings = load_images(options.renderings)
            for file in options.files:
                figures[file.stem]["animal_by_neighbours"] = neighbours_accuracy(*load_images(file), *renderings)
    text = json.dumps(figures, indent=1)
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
