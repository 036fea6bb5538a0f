"""Builds the untrained parts of the checkpoint; this file alone fixes their shapes.

The parts are typed as `Any`, because the type checker finds no methods on diffusers' classes.
"""

from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from models.emoji.scenes import SIZE

TOKENS = 16  # the longest caption has 8
LATENT_CHANNELS = 4
LATENT_SIZE = SIZE // 4


def build_autoencoder() -> Any:
    """The autoencoder: 0.65 M parameters, images 64 x 64 x 3 to latents 16 x 16 x 4 and back.

    It has no attention in the middle block, because a decoder call is a large part of a reward gradient's cost. The
    log-variance starts at -5: otherwise the first minutes of training only reduce the noise.
    """
    autoencoder: Any = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=SIZE,
        mid_block_add_attention=False,
    )
    bias = autoencoder.quant_conv.bias
    with torch.no_grad():
        bias[LATENT_CHANNELS:] = -5.0
    return autoencoder


def build_text_encoder(vocabulary: int, begin: int, end: int) -> CLIPTextModel:
    """CLIP's text transformer with 2 layers of width 128, for `vocabulary` tokens and the ids of the two markers."""
    config = CLIPTextConfig(
        vocab_size=vocabulary,
        hidden_size=128,
        intermediate_size=512,
        projection_dim=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKENS,
        bos_token_id=begin,
        eos_token_id=end,
        pad_token_id=end,
    )
    return CLIPTextModel(config)


def build_unet() -> Any:
    """The U-Net, with cross-attention at the lowest resolution only.

    A DDPO query of 5 steps takes 40 core-milliseconds; with cross-attention at 8 x 8 as well it takes 57.
    """
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        layers_per_block=1,
        block_out_channels=(32, 64, 128),
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        cross_attention_dim=128,
        attention_head_dim=(1, 2, 4),
        norm_num_groups=16,
    )


def build_scheduler() -> Any:
    """Stable Diffusion 1.5's noise schedule and spacing, with v-prediction."""
    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        timestep_spacing="leading",
        steps_offset=1,
        set_alpha_to_one=False,
        clip_sample=False,
        prediction_type="v_prediction",
    )
