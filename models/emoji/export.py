"""Exports the weights that `models.emoji.train` wrote to its working folder in `StableDiffusionPipeline` layout.

    python -m models.emoji.export --out models/emoji/v1

The model card and the sample images in the output folder are kept.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusionPipeline
from transformers import CLIPTokenizer

from models.emoji.networks import TOKENS, build_scheduler
from models.emoji.train_denoiser import build_denoiser, load_autoencoder

KEPT_FILES = ("README.md", "samples.png", "samples-guided.png")


def assemble(build: Path) -> Any:
    """Builds the pipeline with the averaged weights in the working folder `build`, fp32."""
    tokenizer = CLIPTokenizer.from_pretrained(build / "tokenizer", model_max_length=TOKENS)
    parts = build_denoiser(tokenizer)
    parts.load_state_dict(torch.load(build / "denoiser.pt", weights_only=True)["average"])
    autoencoder = load_autoencoder(build)
    scale = torch.load(build / "latents.pt", weights_only=True)["scale"]
    autoencoder.register_to_config(scaling_factor=round(scale, 6))
    return StableDiffusionPipeline(
        vae=autoencoder,
        text_encoder=parts["text_encoder"],
        tokenizer=tokenizer,
        unet=parts["unet"],
        scheduler=build_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def export(build: Path, out: Path) -> None:
    """Writes the pipeline to `out` as fp16 safetensors; `out` is replaced only when all files are written."""
    temporary = out.with_name(out.name + ".partial")
    shutil.rmtree(temporary, ignore_errors=True)
    assemble(build).to(torch.float16).save_pretrained(temporary, safe_serialization=True)
    for name in ("vocab.json", "merges.txt"):  # transformers 5 does not write them, but transformers 4 reads them
        shutil.copy(build / "tokenizer" / name, temporary / "tokenizer" / name)
    declare_single_precision(temporary / "text_encoder" / "config.json")
    for name in KEPT_FILES:
        if (out / name).exists():
            shutil.copy(out / name, temporary / name)
    old = out.with_name(out.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    temporary.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def declare_single_precision(config: Path) -> None:
    """Writes `dtype: float32` into the text encoder's configuration.

    transformers 5 loads weights in the precision that the configuration names; diffusers loads the other parts as fp32
    by default.
    """
    settings = json.loads(config.read_text(encoding="utf-8"))
    settings.pop("torch_dtype", None)
    settings["dtype"] = "float32"
    config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the trained checkpoint in diffusers' layout.")
    parser.add_argument("--build", type=Path, default=Path("build/emoji"), help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("build/emoji/v1"), help="default: %(default)s")
    options = parser.parse_args()
    export(options.build, options.out)
    size = sum(file.stat().st_size for file in options.out.rglob("*") if file.is_file())
    print(f"{options.out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
