"""Writes captioned samples of the checkpoint to an npz file, for measuring it and for training rewards.

    python -m models.emoji.sample --images 1000 --steps 20 --guidance 2 --out build/emoji/samples.npz
    python -m models.emoji.sample --reconstruct build/emoji/classifier-heldout.npz --out build/emoji/reconstructions.npz
    python -m models.emoji.sample --steps 10 --grid models/emoji/v1/samples.png
    python -m models.emoji.sample --steps 20 --guidance 2 --grid models/emoji/v1/samples-guided.png

The file has the format of rendered scenes (see `scenes.py`). Images are sampled with `StableDiffusionPipeline` itself,
so that measured figures hold for anyone who loads the folder with diffusers.
"""

import argparse
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from numpy.typing import NDArray
from PIL import Image

from models.emoji.scenes import NAMED, SINGLE, label_names
from models.emoji.vocabulary import ANIMALS, COLOURS, TRAINED, Animal, caption

HERE = Path(__file__).parent
BATCH = 50


def draw_prompts(number: int, seed: int, animals: tuple[Animal, ...]) -> dict[str, NDArray]:
    """Draws captions and labels as `scenes.render` does, with the animals in turn; `colour` is -1 if none is named."""
    rng = np.random.default_rng(seed)
    colours = list(COLOURS)
    numbered = list(ANIMALS)
    animal = np.array([numbered.index(animals[row % len(animals)]) for row in range(number)])
    count = np.where(rng.random(number) < SINGLE, 1, rng.integers(2, 5, size=number))
    named = rng.random(number) < NAMED
    colour = np.where(named, rng.integers(len(colours), size=number), -1)
    captions = [
        caption(numbered[a], int(n), colours[c] if c >= 0 else None)
        for a, n, c in zip(animal, count, colour, strict=True)
    ]
    labels = {"animal": animal, "colour": colour, "count": count, "named": named}
    return {"captions": np.array(captions), **labels, **label_names()}


def sample(pipeline: Any, captions: list[str], steps: int, guidance: float, eta: float, seed: int) -> NDArray[np.uint8]:
    """Samples one image for each caption: uint8 [N, 64, 64, 3]."""
    batches = []
    generator = torch.Generator().manual_seed(seed)
    for start in range(0, len(captions), BATCH):
        result = pipeline(
            captions[start : start + BATCH],
            num_inference_steps=steps,
            guidance_scale=guidance,
            eta=eta,
            generator=generator,
            output_type="np",
        )
        batches.append((result.images * 255).round().astype(np.uint8))
    return np.concatenate(batches)


def load_pipeline(folder: Path) -> Any:
    """Loads the checkpoint with diffusers, in fp32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@torch.no_grad()
def reconstruct(pipeline: Any, images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Encodes and decodes images, uint8 [N, 64, 64, 3], with the autoencoder; prints their mean PSNR in dB."""
    decoded = []
    for batch in np.array_split(images, -(-len(images) // BATCH)):
        pixels = torch.from_numpy(batch).permute(0, 3, 1, 2).float() / 127.5 - 1
        restored = pipeline.vae.decode(pipeline.vae.encode(pixels).latent_dist.mode()).sample
        decoded.append(((restored.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())
    restored_images = np.concatenate(decoded)
    errors = np.square((restored_images.astype(float) - images) / 255).mean(axis=(1, 2, 3))
    print(f"PSNR {-10 * np.log10(errors).mean():.2f} dB over {len(images)} images")
    return restored_images


def grid(images: NDArray[np.uint8], columns: int) -> Image.Image:
    """Puts images uint8 [N, H, H, 3] into a grid, row by row; the last row is filled up with white."""
    rows = -(-len(images) // columns)
    size = images.shape[1]
    padded = np.full((rows * columns, size, size, 3), 255, dtype=np.uint8)
    padded[: len(images)] = images
    return Image.fromarray(padded.reshape(rows, columns, size, size, 3).swapaxes(1, 2).reshape(rows * size, -1, 3))


def main() -> None:
    parser = argparse.ArgumentParser(description="Sample the checkpoint to an npz file.")
    parser.add_argument("--model", type=Path, default=HERE / "v1", help="default: the frozen checkpoint")
    parser.add_argument("--images", type=int, default=1000, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=20, help="default: %(default)s")
    parser.add_argument("--guidance", type=float, default=1.0, help="1 is none (default: %(default)s)")
    parser.add_argument("--eta", type=float, default=0.0, help="0 is deterministic (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--trained-only", action="store_true", help="leave the six held-out animals out")
    parser.add_argument("--out", type=Path, default=Path("build/emoji/samples.npz"), help="default: %(default)s")
    parser.add_argument("--reconstruct", type=Path, help="pass this file's images through the autoencoder instead")
    parser.add_argument("--grid", type=Path, help="one image of every animal, to this PNG, instead of --out")
    options = parser.parse_args()
    pipeline = load_pipeline(options.model)
    settings = (options.steps, options.guidance, options.eta, options.seed)
    if options.grid:
        images = sample(pipeline, [caption(animal) for animal in ANIMALS], *settings)
        options.grid.parent.mkdir(parents=True, exist_ok=True)
        grid(images, 13).quantize(256).save(options.grid, optimize=True)
        return
    if options.reconstruct:
        with np.load(options.reconstruct) as data:
            drawn = {key: data[key] for key in data.files}
        images = reconstruct(pipeline, drawn.pop("images"))
    else:
        drawn = draw_prompts(options.images, options.seed, TRAINED if options.trained_only else ANIMALS)
        images = sample(pipeline, drawn["captions"].tolist(), *settings)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    np.savez(options.out, images=images, **drawn)
    print(f"{len(images)} images in {options.out}")


if __name__ == "__main__":
    main()
