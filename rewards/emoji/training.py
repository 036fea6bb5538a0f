"""Common parts of the recipes: reading data files, a resumable training loop, and writing weights."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

WARMUP = 100
CHECKPOINT_SECONDS = 60.0


def load_images(file: Path) -> tuple[Tensor, dict[str, Any]]:
    """Reads an npz of `python -m models.emoji.scenes` or `.sample`: uint8 images [N, 3, 64, 64], and other columns."""
    with np.load(file) as data:
        columns = {key: data[key] for key in data.files if key != "images"}
        return torch.from_numpy(data["images"]).permute(0, 3, 1, 2).contiguous(), columns


def as_pixels(images: Tensor) -> Tensor:
    """Converts uint8 images to floats in [0, 1]."""
    return images.float() / 255


def fit(
    network: nn.Module,
    loss: Callable[[], Tensor],
    check: Callable[[], dict[str, float]],
    steps: int,
    rate: float,
    working: Path,
) -> None:
    """Minimises `loss()` in `steps` AdamW steps, with half a cosine as learning rate, resuming from `working`.pt.

    Each minute the figures of `check()` are logged to `working`.jsonl. A resumed run draws other batches than an
    uninterrupted one.

    Args:
        network: the network, which is trained in place.
        loss: the loss of a new random batch.
        check: figures of the network on held-out images.
        steps: number of steps.
        rate: the highest learning rate.
        working: path of the checkpoint and the log, without its ending.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate, weight_decay=0.01, fused=True)
    checkpoint, log = working.with_suffix(".pt"), working.with_suffix(".jsonl")
    working.parent.mkdir(parents=True, exist_ok=True)
    step = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        step = int(state["step"])
    torch.manual_seed(1000 + step)

    def save() -> None:
        state = {"network": network.state_dict(), "optimizer": optimizer.state_dict(), "step": step}
        temporary = checkpoint.with_suffix(".partial")
        torch.save(state, temporary)
        temporary.replace(checkpoint)
        network.eval()
        with torch.no_grad():
            line = {"step": step, **check()}
        network.train()
        text = json.dumps({key: float(f"{value:.5g}") for key, value in line.items()})
        with log.open("a", encoding="utf-8") as file:
            file.write(text + "\n")
        print(text, flush=True)

    saved = time.monotonic()
    network.train()
    while step < steps:
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / WARMUP) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
        optimizer.zero_grad()
        value = loss()
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        step += 1
        if time.monotonic() - saved > CHECKPOINT_SECONDS:
            save()
            saved = time.monotonic()
    save()
    network.eval()


def write_weights(network: nn.Module, file: Path) -> None:
    """Writes the network's weights to `file` in half precision; the file is replaced only when all are written."""
    state = {
        key: (value.half() if value.is_floating_point() else value).contiguous()
        for key, value in network.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    temporary = file.with_suffix(".partial")
    save_file(state, temporary)
    temporary.replace(file)
