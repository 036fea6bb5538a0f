"""Writes a tiny model with random weights in StableDiffusionPipeline layout, for checks that need no trained model."""

import json
from pathlib import Path

import torch

VOCABULARY = ["a", "cat", "dog", "fox", "two", "dogs"]


def write_tiny_pipeline(folder: Path, prediction_type: str = "epsilon", latent_size: int = 4, seed: int = 0) -> Path:
    """Writes a pipeline of some 20,000 parameters to `folder`, loadable by `StableDiffusionPipeline`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _write(folder, prediction_type, latent_size)
    return folder


def _write(folder: Path, prediction_type: str, latent_size: int) -> None:
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    unet = UNet2DConditionModel(
        sample_size=latent_size,
        in_channels=4,
        out_channels=4,
        layers_per_block=1,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        mid_block_type=None,  # a third of the time of a call, and nothing that the other blocks do not have
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    vae = AutoencoderKL(
        block_out_channels=(4, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=2,
        sample_size=latent_size * 2,
    )
    words = [f"{word}</w>" for word in VOCABULARY]
    letters = [chr(code) + end for code in range(ord("a"), ord("z") + 1) for end in ("", "</w>")]
    tokens = dict.fromkeys(["<|startoftext|>", "<|endoftext|>", *letters, *words])
    folder.mkdir(parents=True, exist_ok=True)
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokens),
            hidden_size=8,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=8,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )
    vocabulary, merges = folder / "vocab.json", folder / "merges.txt"
    vocabulary.write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    merges.write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(vocabulary), str(merges), model_max_length=8)
    vocabulary.unlink()
    merges.unlink()
    scheduler = DDIMScheduler(
        beta_schedule="scaled_linear",
        beta_start=0.00085,
        beta_end=0.012,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        timestep_spacing="leading",
        prediction_type=prediction_type,
    )
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.save_pretrained(folder)  # type: ignore[attr-defined]  # from a mixin that its stubs leave out
