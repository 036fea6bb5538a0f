"""How well the pictures in a file show what their captions say, as the independent classifier sees it.

    python -m rewards.emoji.measure build/emoji/samples.npz --renderings build/emoji/classifier-scenes.npz
    python -m rewards.emoji.measure --aesthetic build/emoji/aesthetic-scenes.npz build/emoji/aesthetic-samples.npz

The first form takes files of `python -m models.emoji.sample` (or `.scenes`); animals are counted on captions of one
animal, backgrounds on captions that name one, counts on all. `animal_by_chance` is the same with the captions shuffled,
and `--renderings` adds a stricter judge of animals (`neighbours.py`). The second form gives the aesthetic predictor's
rank correlation with the rule on the tenth of those files that its training left out.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from rewards.emoji.aesthetic import WEIGHTS as AESTHETIC_WEIGHTS
from rewards.emoji.aesthetic import Predictor
from rewards.emoji.classifier import Classifier
from rewards.emoji.neighbours import neighbours_accuracy
from rewards.emoji.rule import preference
from rewards.emoji.train_aesthetic import agreement, restyle, split, strange
from rewards.emoji.training import as_pixels, load_images
from rewards.emoji.weights import load_frozen


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


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure samples with the independent classifier.")
    parser.add_argument("files", type=Path, nargs="+", help="an npz of samples or scenes")
    parser.add_argument("--aesthetic", action="store_true", help="measure the aesthetic predictor instead")
    parser.add_argument("--renderings", type=Path, help="scenes for the nearest-neighbour judge of animals")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    figures: dict[str, Any]
    if options.aesthetic:
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
