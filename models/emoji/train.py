"""Trains the embedded checkpoint. Resumable: run it again and it goes on from the last minute.

    python -m models.emoji.scenes --count 36000 --seed 0 --out build/emoji/scenes.npz
    python -m models.emoji.scenes --count 1000 --seed 900001 --out build/emoji/scenes-heldout.npz
    python -m models.emoji.train vae --minutes 24
"""

import argparse
from pathlib import Path

import torch

from models.emoji.train_autoencoder import train_autoencoder


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the embedded checkpoint, one stage a call.")
    parser.add_argument("stage", choices=("vae",))
    parser.add_argument("--steps", type=int, default=1_000_000, help="end after this many steps")
    parser.add_argument("--minutes", type=float, default=24.0, help="or after this many minutes (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--build", type=Path, default=Path("build/emoji"), help="working folder (default: %(default)s)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    scenes, held_out = options.build / "scenes.npz", options.build / "scenes-heldout.npz"
    train_autoencoder(scenes, held_out, options.build, options.steps, options.minutes)


if __name__ == "__main__":
    main()
