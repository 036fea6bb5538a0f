"""Stage two of the recipe: trains text encoder and U-Net together on v-prediction in the autoencoder's latents."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPTokenizer

from models.emoji.networks import TOKENS, build_autoencoder, build_scheduler, build_text_encoder, build_unet
from models.emoji.tokens import write_tokenizer
from models.emoji.train_autoencoder import encode_all
from models.emoji.training import Course, average_gradients, rank_and_workers, save_atomically

RATE = 1.2e-3
BATCH = 32
CAPTION_DROPOUT = 0.1  # for classifier-free guidance
EMA_DECAY = 0.9995

# Stable Diffusion's schedule leaves some signal at the last timestep, the mean colour above all, and a sampler that
# starts from pure noise at t = 901 reads "middling colour" out of it (Lin et al., "Common diffusion noise schedules
# and sample steps are flawed", 2024). Where the caption names the background, the noise gets a random mean too
# (offset noise; Guttenberg, 2023), so that the colour comes from the words; elsewhere it stays plain.
OFFSET = 0.3


def build_denoiser(tokenizer: CLIPTokenizer) -> nn.ModuleDict:
    """Builds the untrained text encoder and U-Net."""
    text_encoder = build_text_encoder(len(tokenizer), tokenizer.bos_token_id, tokenizer.eos_token_id)
    return nn.ModuleDict({"text_encoder": text_encoder, "unet": build_unet()})


def load_autoencoder(build: Path) -> Any:
    """Loads the autoencoder that stage one trained, frozen."""
    autoencoder = build_autoencoder()
    autoencoder.load_state_dict(torch.load(build / "autoencoder.pt", weights_only=True)["autoencoder"])
    return autoencoder.eval().requires_grad_(False)


def cached_latents(scenes: Path, build: Path) -> dict[str, Any]:
    """The unscaled latents of all scenes, cached in `build/latents.pt`.

    Returns:
        `mean` and `std` of each latent, [N, 4, 16, 16], and `scale`, the factor that gives latents unit variance.
    """
    cache = build / "latents.pt"
    if not cache.exists():
        mean, std = encode_all(load_autoencoder(build), np.load(scenes)["images"])
        scale = float((mean.var() + std.square().mean()).rsqrt())
        save_atomically({"mean": mean, "std": std, "scale": scale}, cache)
    return torch.load(cache, weights_only=True)


def velocity_loss(
    parts: nn.ModuleDict,
    scheduler: Any,
    latents: Tensor,
    tokens: Tensor,
    generator: torch.Generator,
    offset: Tensor | float = 0.0,
) -> Tensor:
    """The mean squared error of v = √ᾱ ε - √(1-ᾱ) x₀ at uniform timesteps (Salimans & Ho, 2022).

    `offset` [B, 1, 1, 1] is the standard deviation of the noise's mean in each channel.
    """
    noise = torch.randn(latents.shape, generator=generator)
    noise = noise + offset * torch.randn(len(latents), latents.shape[1], 1, 1, generator=generator)
    timesteps = torch.randint(scheduler.config.num_train_timesteps, (len(latents),), generator=generator)
    noisy = scheduler.add_noise(latents, noise, timesteps)
    target = scheduler.get_velocity(latents, noise, timesteps)
    context = parts["text_encoder"](tokens)[0]
    return F.mse_loss(parts["unet"](noisy, timesteps, context, return_dict=False)[0], target)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, step: int) -> None:
    """Updates the exponential moving average; its decay grows with `step`, so that early weights are forgotten."""
    decay = min(EMA_DECAY, (1 + step) / (10 + step))
    for mean, parameter in zip(average.parameters(), model.parameters(), strict=True):
        mean.lerp_(parameter, 1 - decay)


def train_denoiser(scenes: Path, held_out: Path, build: Path, steps: int, minutes: float) -> None:
    """Trains until `steps` or `minutes` are over, resuming from `build/denoiser.pt`.

    Figures are logged to `build/denoiser.jsonl`.
    """
    torch.manual_seed(1)
    rank, workers = rank_and_workers()
    if rank == 0:  # one worker writes the files that all workers read
        write_tokenizer(build / "tokenizer")
        cached_latents(scenes, build)
    if workers > 1:
        dist.barrier()
    tokenizer = CLIPTokenizer.from_pretrained(build / "tokenizer", model_max_length=TOKENS)
    cache = cached_latents(scenes, build)
    with np.load(scenes) as data:
        captions, named = data["captions"].tolist(), torch.from_numpy(data["named"])
    checked = np.load(held_out)
    checked_latents = cache["scale"] * encode_all(load_autoencoder(build), checked["images"])[0]
    checked_tokens = tokenize(tokenizer, checked["captions"].tolist())
    tokens = tokenize(tokenizer, captions)
    nothing = tokenize(tokenizer, [""])[0]

    parts = build_denoiser(tokenizer)
    average = copy.deepcopy(parts).requires_grad_(False)
    scheduler = build_scheduler()
    optimizer = torch.optim.AdamW(parts.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    course = Course(build / "denoiser.jsonl", RATE, steps, minutes)
    checkpoint = build / "denoiser.pt"
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        parts.load_state_dict(state["parts"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        course.load_state_dict(state["course"])
    batch = BATCH // workers
    generator = torch.Generator().manual_seed(course.step * workers + rank)
    running = 0.0

    def save() -> None:
        state = {
            "parts": parts.state_dict(),
            "average": average.state_dict(),
            "optimizer": optimizer.state_dict(),
            "course": course.state_dict(),
        }
        save_atomically(state, checkpoint)
        fixed = torch.Generator().manual_seed(0)
        with torch.no_grad():
            held_out_loss = velocity_loss(average, scheduler, checked_latents[:512], checked_tokens[:512], fixed)
        course.write(loss=running, heldout=held_out_loss.item())

    for step in course.run(optimizer):
        rows = torch.randint(len(tokens), (batch,), generator=generator)
        mean, std = cache["mean"][rows], cache["std"][rows]
        latents = cache["scale"] * (mean + std * torch.randn(mean.shape, generator=generator))
        dropped = torch.rand(batch, generator=generator) < CAPTION_DROPOUT
        captioned = torch.where(dropped[:, None], nothing, tokens[rows])
        offset = OFFSET * (named[rows] & ~dropped).float().view(-1, 1, 1, 1)
        loss = velocity_loss(parts, scheduler, latents, captioned, generator, offset)
        optimizer.zero_grad()
        loss.backward()
        average_gradients(parts)
        nn.utils.clip_grad_norm_(parts.parameters(), 1.0)
        optimizer.step()
        update_average(average, parts, step)
        running = loss.item() if running == 0.0 else 0.99 * running + 0.01 * loss.item()
        if rank == 0 and course.due():
            save()
    if rank == 0:
        save()


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> Tensor:
    """Token ids [N, 16] of N captions, padded as the pipeline pads prompts."""
    return tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
