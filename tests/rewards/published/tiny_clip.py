"""Random tiny CLIPs in the published files' layouts, and images and prompts to show them."""

import json
import math
from pathlib import Path
from typing import Any
from zlib import crc32

import torch
from PIL import Image
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor

MERGES = [("c", "a"), ("ca", "t</w>"), ("d", "o"), ("do", "g</w>"), ("r", "e"), ("re", "d</w>")]
LETTERS = sorted(ByteLevel.alphabet())
VOCABULARY = [
    *LETTERS,
    *(letter + "</w>" for letter in LETTERS),
    *("".join(pair) for pair in MERGES),
    "<|startoftext|>",
    "<|endoftext|>",
]
START, END = len(VOCABULARY) - 2, len(VOCABULARY) - 1
PLACES = 77
SIZE = 28
PROMPTS = ["a red cat", "two dogs & a fox", "a"]


def write_tokens(folder: Path) -> Path:
    """`vocab.json` and `merges.txt`: CLIP's, with 6 merges in place of 48,894."""
    folder.mkdir(parents=True, exist_ok=True)
    numbered = {token: index for index, token in enumerate(VOCABULARY)}
    (folder / "vocab.json").write_text(json.dumps(numbered), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in MERGES)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def write_clip(folder: Path, end: int = END, act: str = "quick_gelu") -> Path:
    """`config.json` and `model.safetensors`. `end` 2 is what configs of 2022 say, whatever the end token is."""
    from transformers import CLIPConfig, CLIPModel

    shared = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    shared |= {"projection_dim": 8, "hidden_act": act}
    text = shared | {"vocab_size": len(VOCABULARY), "max_position_embeddings": PLACES, "eos_token_id": end}
    vision = shared | {"image_size": SIZE, "patch_size": 14}
    model: Any = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
    for name, parameter in model.named_parameters():
        parameter.data = weights_of(name, parameter.shape)
    model.save_pretrained(folder)
    return folder


def weights_of(name: str, shape: torch.Size | tuple[int, ...]) -> Tensor:
    """Random weights, the same for the same name, with which every part of a tower matters to what comes out."""
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(crc32(name.encode())))
    if name == "logit_scale":
        return torch.tensor(3.0)
    if len(shape) == 1:
        norm = name.endswith("weight")  # of a layer norm
        return noise * 0.2 + norm
    return noise * 2 / math.sqrt(math.prod(shape[1:]))


def photos(height: int, width: int, count: int = 3) -> Tensor:
    """Smooth uint8 images `[B, 3, H, W]`, with neighbours alike as in photographs."""
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(count, 3, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)
    return (smooth * 255).round().to(torch.uint8)


def as_pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(image.permute(1, 2, 0).numpy())


def check_clip_reward(reward, prompts):
    """Frozen, differentiable in every image, of unit embeddings, and the same for bytes and floats."""
    images = torch.rand(3, 3, 30, 44, requires_grad=True)
    reward(images, prompts).sum().backward()
    assert all(gradient.abs().sum() > 0 for gradient in images.grad)
    assert not any(parameter.requires_grad for module in reward.modules() for parameter in module.parameters())
    assert not any(part.training for module in reward.modules() for part in module.modules())
    torch.testing.assert_close(reward.embed(images).norm(dim=1), torch.ones(3))
    stored = photos(45, 60)
    assert torch.equal(reward(stored, prompts), reward(stored.float() / 255, prompts))
