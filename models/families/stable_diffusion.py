"""Stable Diffusion 1.x and 2.x: a U-Net that attends to CLIP's text tokens, under an autoencoder."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.families.base import Family, at_least_fp32
from models.families.conditioning import Conditioning
from models.loading import Components, load_components, token_limit
from models.paths.ddim import DDIM


class StableDiffusion(Family):
    """A checkpoint in `StableDiffusionPipeline` layout.

    Args:
        components: the parts of the model, which the constructor freezes in place.
        device: the device that the parts are moved to.
    """

    name = "stable_diffusion"

    def __init__(self, components: Components, device: torch.device | str = "cpu"):
        self.unet, self.vae, self.text_encoder = components.unet, components.vae, components.text_encoder
        self.tokenizer, self.scheduler = components.tokenizer, components.scheduler
        parts = {"denoiser": self.unet, "decoder": self.vae, "encoder": self.text_encoder}
        super().__init__(parts, DDIM(components.scheduler), device, metered={**parts, "decoder": self.vae.decoder})
        if self.device.type == "cpu":
            # oneDNN is faster so at the decoder's sizes, and not at the U-Net's (docs/performance.md). No measurement
            # chooses it, as two runs of a trial could then differ in rounding.
            self.vae.decoder.to(memory_format=torch.channels_last)

    @classmethod
    def load(
        cls, reference: str, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
    ) -> "StableDiffusion":
        """Loads a local folder or hub id (see `models.loading`)."""
        return cls(load_components(reference, dtype), device)

    def pipeline_parts(self) -> dict[str, Any]:
        """The parts of a `StableDiffusionPipeline` but its scheduler, by the names of its arguments."""
        names = ("unet", "vae", "text_encoder", "tokenizer")
        return {name: getattr(self, name) for name in names}

    @property
    def state_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one latent."""
        size = self.unet.config.sample_size
        height, width = size if isinstance(size, list | tuple) else (size, size)
        return self.unet.config.in_channels, height, width

    @property
    def pixels(self) -> int:
        """Pixels of one image."""
        scale = 2 ** (len(self.vae.config.block_out_channels) - 1)
        return scale**2 * self.state_shape[1] * self.state_shape[2]

    @torch.no_grad()
    def encode(self, prompt: str) -> Conditioning:
        """The conditioning of one prompt: its token embeddings `[1, L, D]`, pooled by their mean."""
        tokens = self.tokenizer(
            prompt,
            padding="max_length",
            truncation=True,
            max_length=token_limit(self.tokenizer, self.text_encoder.config),
            return_tensors="pt",
        ).input_ids.to(self.device)
        embeddings = self.text_encoder(tokens)[0]
        return Conditioning((embeddings,), embeddings.mean(1))

    @property
    def pooled_width(self) -> int:
        """The length of a prompt's vector in `Conditioning.pooled`."""
        return self.text_encoder.config.hidden_size

    def output(self, denoiser: Callable[..., Any], state: Tensor, times: Tensor, *conditioning: Tensor) -> Tensor:
        """ε or v `[B, C, h, w]` at timesteps, int64 `[B]`, given token embeddings `[B, L, D]`."""
        (embeddings,) = conditioning
        dtype = next(self.unet.parameters()).dtype  # for `unet.dtype`, diffusers walks through all parameters
        return denoiser(state.to(dtype), times, embeddings.to(dtype), return_dict=False)[0]

    def decode(self, final: Tensor) -> Tensor:
        """Images `[B, 3, H, W]` from latents x_0 `[B, C, h, w]`; the decoder's own range is -1 to 1."""
        scaled = (final / self.vae.config.scaling_factor).to(self.vae.dtype)
        return at_least_fp32(self.vae.decode(scaled, return_dict=False)[0]) / 2 + 0.5

    def save_adapter(self, folder: Path, layers: dict[str, Tensor], config: Mapping[str, Any]) -> None:
        """Writes LoRA `layers` and PEFT's `config` so that the pipeline's `load_lora_weights(folder)` reads them."""
        from diffusers import StableDiffusionPipeline

        StableDiffusionPipeline.save_lora_weights(
            folder, unet_lora_layers=layers, unet_lora_adapter_metadata=dict(config)
        )
