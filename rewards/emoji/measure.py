"""How well the pictures in a file show what their captions say, as the independent classifier sees it.

    python -m rewards.emoji.measure build/emoji/samples.npz --renderings build/emoji/classifier-scenes.npz
    python -m rewards.emoji.measure --aesthetic build/emoji/aesthetic-scenes.npz build/emoji/aesthetic-samples.npz
    python -m rewards.emoji.measure --alignment build/emoji/alignment-heldout.npz build/emoji/samples.npz
    python -m rewards.emoji.measure --count build/emoji/alignment-heldout.npz build/emoji/samples.npz
    python -m rewards.emoji.measure --jpeg build/emoji/samples.npz

The first form takes files of `python -m models.emoji.sample` (or `.scenes`); animals are counted on captions of one
animal, backgrounds on captions that name one, counts on all. `animal_by_chance` is the same with the captions shuffled,
and `--renderings` adds a stricter judge of animals (`neighbours.py`). The second form gives the aesthetic predictor's
rank correlation with the rule on the tenth of those files that its training left out; the others, of each file, how the
dual encoder and the counter judge what they were not trained on, and how the JPEG estimate follows Pillow's bytes.
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
    """Shares recognised, and the rule's mean, of uint8 images [N, 3, 64, 64] with their labels."""
    classifier = Classifier()
    names = classifier.labels.animals
    if columns["animals"].tolist() != list(names):
        raise SystemExit("The file's animals are not those of rewards/emoji/labels.json.")
    logits = [classifier.network(as_pixels(batch)) for batch in images.split(250)]
    found = {key: torch.cat([part[key] for part in logits]).argmax(1) for key in ("animal", "colour", "count")}
    wanted = {key: torch.from_numpy(columns[key]) for key in found}
    right = {
        "animal": found["animal"] == wanted["animal"],
        "colour": found["colour"] == wanted["colour"],
        "count": found["count"] == wanted["count"] - 1,
    }
    single = wanted["count"] == 1
    named = torch.from_numpy(columns["named"])
    shuffled = wanted["animal"][torch.randperm(len(images), generator=torch.Generator().manual_seed(0))]
    by_animal = {
        name: right["animal"][single & (wanted["animal"] == index)].float().mean().item()
        for index, name in enumerate(names)
        if (single & (wanted["animal"] == index)).any()
    }
    return {
        "images": len(images),
        "animal": right["animal"][single].float().mean().item(),
        "animal_by_chance": (found["animal"] == shuffled)[single].float().mean().item(),
        "animal_of_several": right["animal"][~single].float().mean().item(),
        "background": right["colour"][named].float().mean().item(),
        "count": right["count"].float().mean().item(),
        "count_of_several": right["count"][~single].float().mean().item(),
        "rule": preference(as_pixels(images)).mean().item(),
        "worst_animals": dict(sorted(by_animal.items(), key=lambda item: item[1])[:8]),
    }


def measure_aesthetic(scenes: Path, samples: list[Path]) -> dict[str, float]:
    """The predictor's agreement with the rule on images that its training did not see."""
    network = load_frozen(Predictor(), AESTHETIC_WEIGHTS)
    torch.manual_seed(2)
    kept = as_pixels(torch.cat([split(load_images(file)[0])[1] for file in samples]))
    kinds = {
        "scenes": as_pixels(split(load_images(scenes)[0])[1]),
        "samples": kept,
        "restyled": restyle(kept),
        "strange": strange(len(kept)),
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
    """The JPEG estimate beside Pillow's bytes, and the straight line from code length to kilobytes that fits best."""
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
