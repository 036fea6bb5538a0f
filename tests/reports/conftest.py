"""A synthetic sweep: base, alignprop, ddpo and rwr, three seeds, with reward hacking built in."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw

from reports.figures.pictures import Picture
from reports.meta import Meta, MethodFacts

ANIMALS = ("cat", "dog", "horse", "monkey", "rabbit", "zebra")
HELDOUT = ("snail", "lobster")
# points, reward queries a point, denoiser evaluations a query, final gain of reward, of gold, seconds a query
METHODS = {
    "base": (1, 0, 0, 0.0, 0.0, 0.0),
    "alignprop": (12, 64, 13, 1.25, -0.30, 0.080),
    "ddpo": (17, 256, 16, 0.30, 0.10, 0.042),
    "rwr": (8, 256, 26, 0.08, 0.04, 0.055),
}

FACTS = {
    "base": MethodFacts("untrained", "#6f7680", "#9aa2ad", "dashed"),
    "alignprop": MethodFacts("gradient", "#0067a8", "#58b2ef"),
    "trl-alignprop": MethodFacts("gradient", "#4b8fc4", "#8ccbf5", "dashed", peer_of="alignprop"),
    "ddpo": MethodFacts("policy gradient", "#d1560a", "#f58b4c", reference=True),
    "rwr": MethodFacts("reward-weighted", "#a8508f", "#dc92c6"),
}
META = Meta(
    name="aesthetic",
    budget_axis="reward_queries",
    budget_limit=4096,
    description="Which way of aligning raises the emoji aesthetic reward for the fewest reward queries?",
    target=1.0,
    reward="emoji-aesthetic",
    gold="emoji-aesthetic-gold",
    evaluation="64 images on fixed prompts and noise, DDIM with 20 steps, eta 0, guidance 2.",
    command="bench run sweeps/aesthetic.yaml",
    versions={"torch": "2.13.0", "diffusers": "0.42.1"},
    methods=FACTS,
)


def family_of(method):
    """What the harness writes into the curves' column `family`."""
    return FACTS[method].family if method in FACTS else None


def make_run(methods=METHODS, seeds=(0, 1, 2)):
    """(curves, evaluation, trials) as the store hands them over."""
    curves, evaluation, trials = [], [], []
    for variant, settings in methods.items():
        for seed in seeds:
            c, e, t = _trial(variant, seed, *settings)
            curves += c
            evaluation += e
            trials.append(t)
    return pd.DataFrame(curves), pd.DataFrame(evaluation), pd.DataFrame(trials)


def _trial(variant, seed, points, queries, nfe, gain, gold_gain, second):
    rng = np.random.default_rng([seed, sum(map(ord, variant))])
    name = f"{variant}-s{seed}-0123abcd"
    curves, evaluation = [], []
    identity = {"trial": name, "method": variant, "variant": variant, "seed": seed}
    for point in range(points):
        share = point / max(points - 1, 1)
        total = point * queries
        axes = {
            "steps": point * 4, "updates": point * 8, "reward_queries": total,
            "reward_gradients": total if variant == "alignprop" else 0, "images": total, "nfe_forward": total * nfe,
            "nfe_backward": 0, "nfe_recompute": 0, "nfe": total * nfe, "decodes": total, "flops": total * nfe * 1.1e8,
            "flops_recompute": 0, "train_seconds": total * second * (1 + 0.1 * seed), "reward_seconds": total * 1e-3,
            "eval_seconds": (point + 1) * 1.5, "log_seconds": 0.1, "wall_seconds": total * second + 1.5,
            "device_seconds": total * second + 1.5, "peak_memory_bytes": 7.1e8 if variant == "alignprop" else 6.2e8,
            "eval_queries": 64 * (point + 1), "eval_nfe": 640 * (point + 1),
        }  # fmt: skip
        wobble = rng.normal(0, 0.02) if point else 0.0
        rise = gain * (1 - np.exp(-3 * share)) / (1 - np.exp(-3)) * (1 + 0.06 * (seed - 1))
        hump = gold_gain * share if gold_gain > 0 else 0.25 * np.sin(np.pi * min(share * 1.5, 1)) + gold_gain * share
        values = {
            ("reward", "train"): 0.58 + rise + wobble, ("reward", "heldout"): 0.56 + 0.85 * rise + wobble,
            ("reward/emoji-alignment", "train"): 0.71 - 0.2 * rise, ("gold", "train"): 0.50 + hump,
            ("gold", "heldout"): 0.47 + 0.8 * hump, ("diversity", "train"): 0.62 - 0.25 * rise,
            ("drift", "train"): 0.02 * rise + 0.001 * point,
        }  # fmt: skip
        for (metric, split), value in values.items():
            row = {"sweep": "aesthetic", **identity, "status": "done", "point": point, "split": split, "metric": metric}
            curves.append({**row, "family": family_of(variant), "value": value, **axes})
            if metric in ("reward", "gold") and point in (0, points - 1):
                prompts = ANIMALS if split == "train" else HELDOUT
                for index, prompt in enumerate(prompts):
                    for sample in range(4):
                        noise = 0.05 * np.sin(7 * index + 3 * sample) + rng.normal(0, 0.02) * (variant != "base")
                        evaluation.append({
                            **identity, "point": point, "split": split, "metric": metric,
                            "prompt": f"a {prompt}", "sample": sample, "value": value + noise,
                        })  # fmt: skip
    provenance = {
        "versions": {"torch": "2.13.0"}, "commit": "0123abc", "dirty": False, "precision": "fp32", "threads": 1,
        "hardware": {"cpu": "a CPU", "gpu": None, "cores": 2}, "command": "bench run sweeps/aesthetic.yaml",
    }  # fmt: skip
    trial = {
        **identity,
        "identity": "0123abcd",
        "status": "done",
        "cause": None,
        "provenance": provenance,
        "axes": axes,
    }
    return curves, evaluation, trial


def make_pictures(variants=tuple(METHODS), fractions=(0.0, 0.25, 0.5, 1.0), size=64):
    """Coloured discs that turn orange on blue as alignprop goes on."""
    pictures = []
    for variant in variants:
        for fraction in (0.0,) if variant == "base" else fractions:
            for index, prompt in enumerate(ANIMALS + HELDOUT):
                pull = {"alignprop": 1.0, "ddpo": 0.3}.get(variant, 0.0) * fraction
                paper = np.array([90 + 20 * index, 140 - 8 * index, 120]) * (1 - pull) + np.array([0, 100, 255]) * pull
                disc = np.array([200, 180 - 15 * index, 150]) * (1 - pull) + np.array([255, 160, 0]) * pull
                image = Image.new("RGB", (size, size), tuple(map(int, paper)))
                box = (size // 5, size // 5, 4 * size // 5, 4 * size // 5)
                ImageDraw.Draw(image).ellipse(box, fill=tuple(map(int, disc)))
                split = "train" if prompt in ANIMALS else "heldout"
                pictures.append(Picture(variant, 0, int(fraction * 10), fraction, f"a {prompt}", split, image))
    return pictures


@pytest.fixture(name="make_run")
def _make_run():
    return make_run


@pytest.fixture(name="make_pictures")
def _make_pictures():
    return make_pictures


@pytest.fixture
def run():
    return make_run()


@pytest.fixture
def meta():
    return META
