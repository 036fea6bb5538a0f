"""Trains the embedded checkpoint. The same command resumes an interrupted run from its last checkpoint.

    python -m models.emoji.scenes --count 36000 --seed 0 --out build/emoji/scenes.npz
    python -m models.emoji.scenes --count 1000 --seed 900001 --out build/emoji/scenes-heldout.npz
    python -m models.emoji.train vae --minutes 13
    python -m models.emoji.train unet --minutes 74 --workers 2
    python -m models.emoji.export --out models/emoji/v1

To try the recipe in seconds, give both stages `--steps 20`.
"""

import argparse
import os
from pathlib import Path

# Spinning OpenMP threads block each other as soon as another process uses a core: 30 times slower on two cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import filelock
import torch
import torch.distributed as dist

from models.emoji.train_autoencoder import train_autoencoder
from models.emoji.train_denoiser import train_denoiser

STAGES = {"vae": (train_autoencoder, 13.0), "unet": (train_denoiser, 74.0)}


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the embedded checkpoint, one stage a call.")
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--steps", type=int, default=1_000_000, help="end after this many steps")
    parser.add_argument("--minutes", type=float, help="or after this many minutes (default: vae 13, unet 74)")
    parser.add_argument("--threads", type=int, default=2, help="default: %(default)s")
    parser.add_argument(
        "--workers", type=int, default=1, help="unet: data-parallel processes of one thread each; 2 suit two cores"
    )
    parser.add_argument("--build", type=Path, default=Path("build/emoji"), help="working folder (default: %(default)s)")
    options = parser.parse_args()
    scenes, held_out = options.build / "scenes.npz", options.build / "scenes-heldout.npz"
    for file in (scenes, held_out):
        if not file.exists():
            parser.error(f"{file} is missing: render it with `python -m models.emoji.scenes --out {file}`")
    lock = filelock.FileLock(options.build / f"{options.stage}.lock", timeout=0)
    try:
        with lock:
            launch(options)
    except filelock.Timeout:
        parser.error(f"{options.build} is already being trained in by another process ({lock.lock_file})")


def launch(options: argparse.Namespace) -> None:
    """Trains in this process, or in several data-parallel workers."""
    if options.workers == 1 or options.stage == "vae":
        torch.set_num_threads(options.threads)
        train(options)
    else:
        torch.multiprocessing.spawn(work, (options,), nprocs=options.workers)


def train(options: argparse.Namespace) -> None:
    stage, minutes = STAGES[options.stage]
    scenes, held_out = options.build / "scenes.npz", options.build / "scenes-heldout.npz"
    stage(scenes, held_out, options.build, options.steps, options.minutes or minutes)


def work(rank: int, options: argparse.Namespace) -> None:
    """Trains as one of several data-parallel workers, with one thread and a share of the batch."""
    torch.set_num_threads(1)
    meeting = (options.build / f"rendezvous-{os.getppid()}").absolute()
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=options.workers)
    train(options)
    dist.destroy_process_group()
    meeting.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
