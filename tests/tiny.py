"""Random tiny weights for tests; the tiny pipeline is `models/tiny.py`, where `bench test` finds it too."""

from pathlib import Path

import torch


def write_tiny_laion(folder: Path) -> Path:
    """Writes `clip/` and `head.pth`: the LAION aesthetic predictor's architecture with random tiny weights."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    from rewards.published.laion import AestheticHead

    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=28,
        patch_size=14,
        projection_dim=8,
    )
    CLIPVisionModelWithProjection(config).save_pretrained(folder / "clip")
    torch.save(AestheticHead(8).state_dict(), folder / "head.pth")
    return folder
