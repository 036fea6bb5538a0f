"""What the shipped prompt sets say of themselves."""

import re
from pathlib import Path

import pytest
import torch

from bench.sweep import prompts
from models.emoji.sample import HERE, load_pipeline, sample
from rewards.emoji.classifier import Classifier
from rewards.emoji.prompt import Wanted, read_prompt

IMAGES = 8  # a prompt
STATED = re.compile(r"Base: (the animal|the right count|all three right) in (\d+) %")


@pytest.fixture(scope="module")
def base():
    return load_pipeline(HERE / "v1")


@torch.no_grad()
def judged(images: torch.Tensor, wanted: list[Wanted], what: str) -> float:
    """The share of images in which the independent classifier's first guess is what the prompt names."""
    logits = Classifier().network(images)
    animal, count, colour = (logits[head].argmax(1).tolist() for head in ("animal", "count", "colour"))
    right = {
        "the animal": [a == w.animal for a, w in zip(animal, wanted, strict=True)],
        "the right count": [c + 1 == w.count for c, w in zip(count, wanted, strict=True)],
        "all three right": [
            (a, c + 1, k) == (w.animal, w.count, w.colour)
            for a, c, k, w in zip(animal, count, colour, wanted, strict=True)
        ],
    }[what]
    return sum(right) / len(right)


LARGE = [pytest.param(name, marks=pytest.mark.slow) for name in ("animals", "counts", "scenes")]


@pytest.mark.parametrize("name", ["animals-unseen", "counts-unseen", "scenes-unseen", *LARGE])
def test_the_base_models_own_success_rate(base, name):
    """Ten steps without guidance, as the sweeps evaluate: 45 to 360 images, so within ten points of what is stated."""
    stated = STATED.search(prompts.summary(name))
    assert stated, "the set says how well the embedded model does on it"
    captions = [prompt for prompt in prompts.read(name, Path()) for _ in range(IMAGES)]
    images = torch.from_numpy(sample(base, captions, steps=10, guidance=1.0, eta=0.0, seed=0))
    pixels = images.permute(0, 3, 1, 2).float() / 255
    classifier = Classifier()
    wanted = [read_prompt(caption, classifier.labels, "test") for caption in captions]
    assert judged(pixels, wanted, stated[1]) == pytest.approx(int(stated[2]) / 100, abs=0.1)
