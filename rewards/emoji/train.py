"""Trains the embedded rewards on files that `models.emoji` wrote. The same command resumes an interrupted run.

    python -m models.emoji.scenes --count 24000 --seed 500000 --out build/emoji/classifier-scenes.npz
    python -m models.emoji.scenes --count 2000 --seed 500001 --out build/emoji/classifier-heldout.npz
    python -m rewards.emoji.train classifier

    python -m models.emoji.scenes --trained-only --count 12000 --seed 600000 --out build/emoji/aesthetic-scenes.npz
    python -m models.emoji.sample --trained-only --images 600 --steps 10 --seed 600001 \\
        --out build/emoji/aesthetic-samples.npz
    python -m models.emoji.sample --trained-only --images 400 --steps 5 --eta 1 --seed 600002 \\
        --out build/emoji/aesthetic-samples-noisy.npz
    python -m rewards.emoji.train aesthetic

    python -m models.emoji.scenes --count 24000 --seed 800000 --out build/emoji/alignment-scenes.npz
    python -m models.emoji.scenes --count 2000 --seed 800001 --out build/emoji/alignment-heldout.npz
    python -m rewards.emoji.train alignment
    python -m rewards.emoji.train count
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # see models/emoji/train.py

import torch

from rewards.emoji import train_aesthetic, train_alignment, train_classifier, train_count


def main() -> None:
    parser = argparse.ArgumentParser(description="Train an embedded reward's network.")
    parser.add_argument("stage", choices=("classifier", "aesthetic", "alignment", "count"))
    parser.add_argument("--steps", type=int, help="default: the recipe's")
    parser.add_argument("--threads", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--build", type=Path, default=Path("build/emoji"), help="working folder (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    build = options.build
    if options.stage == "classifier":
        scenes, held_out = build / "classifier-scenes.npz", build / "classifier-heldout.npz"
        train_classifier.train_classifier(scenes, held_out, build, options.steps or train_classifier.STEPS)
    elif options.stage == "alignment":
        scenes, held_out = build / "alignment-scenes.npz", build / "alignment-heldout.npz"
        train_alignment.train_alignment(scenes, held_out, build, options.steps or train_alignment.STEPS)
    elif options.stage == "count":
        scenes, held_out = build / "alignment-scenes.npz", build / "alignment-heldout.npz"
        train_count.train_count(scenes, held_out, build, options.steps or train_count.STEPS)
    else:
        samples = sorted(build.glob("aesthetic-samples*.npz"))
        if not samples:
            parser.error(f"{build}/aesthetic-samples.npz is missing: see `python -m models.emoji.sample --help`")
        steps = options.steps or train_aesthetic.STEPS
        train_aesthetic.train_aesthetic(build / "aesthetic-scenes.npz", samples, build, steps)


if __name__ == "__main__":
    main()
