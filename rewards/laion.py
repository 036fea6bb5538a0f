"""`aesthetic`: the LAION aesthetic predictor v2 (christophschuhmann/improved-aesthetic-predictor).

An image's CLIP ViT-L/14 embedding, L2-normalised, through five linear layers with nothing but dropout between them,
to a score of about 1 to 10. DDPO and AlignProp optimise it. Preprocessing is CLIP's own, made differentiable: shorter
side to the model's size by antialiased bicubic interpolation (within 1/255 of Pillow's), centre crop, normalisation.
"""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rewards.base import EmbeddingReward

CLIP = "openai/clip-vit-large-patch14"
HEAD = ("trl-lib/ddpo-aesthetic-predictor", "aesthetic-model.pth")
"""TRL's copy of `sac+logos+ava1-l14-linearMSE.pth`."""

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class AestheticHead(nn.Module):
    """The published file's layout: `layers.0`, `.2`, `.4`, `.6`, `.7`, with dropout at 1, 3 and 5; no activations.

    Args:
        width: of the CLIP embedding, 768 for ViT-L/14.
    """

    def __init__(self, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(width, 1024),
            nn.Dropout(0.2),
            nn.Linear(1024, 128),
            nn.Dropout(0.2),
            nn.Linear(128, 64),
            nn.Dropout(0.1),
            nn.Linear(64, 16),
            nn.Linear(16, 1),
        )

    def forward(self, embeddings: Tensor) -> Tensor:
        return self.layers(embeddings).squeeze(1)


class LaionAesthetic(EmbeddingReward):
    """The LAION aesthetic predictor v2.

    Args:
        clip: a CLIP model with a vision tower, a local folder or a hub id.
        head: the predictor's file (`.pth` or `.safetensors`); from the hub unless given.

    Raises:
        FileNotFoundError: weights are neither here nor to be had; the message says which, and what to fetch.
    """

    name = "aesthetic"
    version = "laion-v2"

    def __init__(self, clip: str = CLIP, head: str | None = None):
        # The files are looked for at once and loaded at the first score: a plan should not wait for gigabytes.
        self._clip = _folder_or_hub(clip)
        self._head = Path(head).expanduser() if head else _hub_file(*HEAD)
        if not self._head.is_file():
            raise FileNotFoundError(f"there is no file {self._head}; give `head`, the predictor's .pth or .safetensors")
        self.weights_sha256 = hashlib.sha256(self._head.read_bytes()).hexdigest()
        self._device = torch.device("cpu")
        self._parts: tuple[Any, AestheticHead, int] | None = None

    def to(self, device: torch.device | str) -> "LaionAesthetic":
        self._device = torch.device(device)
        self._parts = None
        return self

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        _, head, _ = self._loaded()
        return head(self.embed(images))

    def embed(self, images: Tensor) -> Tensor:
        vision, _, size = self._loaded()
        return F.normalize(vision(pixel_values=preprocess(images, size)).image_embeds, dim=1)

    def _loaded(self) -> tuple[Any, AestheticHead, int]:
        if self._parts is None:
            from transformers import CLIPVisionModelWithProjection

            vision: Any = CLIPVisionModelWithProjection.from_pretrained(self._clip, dtype=torch.float32)
            head = AestheticHead(vision.config.projection_dim)
            head.load_state_dict(_read(self._head))
            for part in (vision, head):
                part.requires_grad_(False).eval().to(self._device)
            self._parts = vision, head, vision.config.image_size
        return self._parts


def preprocess(images: Tensor, size: int) -> Tensor:
    """CLIP's pixels `[B, 3, size, size]` from images `[B, 3, H, W]` in [0, 1]; differentiable."""
    height, width = images.shape[2:]
    scale = size / min(height, width)
    resized = (max(size, int(height * scale)), max(size, int(width * scale)))
    if resized != (height, width):
        images = F.interpolate(images, size=resized, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    top, left = (resized[0] - size) // 2, (resized[1] - size) // 2
    cropped = images[:, :, top : top + size, left : left + size]
    mean, std = (torch.tensor(values, device=images.device).view(1, 3, 1, 1) for values in (MEAN, STD))
    return (cropped - mean) / std


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def _folder_or_hub(reference: str) -> str:
    folder = Path(reference).expanduser()
    if folder.is_dir():
        return str(folder)
    return str(_hub_file(reference, "config.json").parent)


def _hub_file(repository: str, name: str) -> Path:
    """A hub file from the cache, or fetched."""
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(repository, name)
    if isinstance(cached, str):
        return Path(cached)
    try:
        HfApi().model_info(repository, timeout=10.0)  # asks once; the download itself would retry for half a minute
        return Path(hf_hub_download(repository, name))
    except Exception as error:  # offline, unknown, forbidden: all mean that a person has to fetch it
        raise FileNotFoundError(
            f"{repository} ({name}) is not on this machine and cannot be fetched; "
            f"fetch it where there is a network with `hf download {repository}`, or name local files "
            "(reward: {name: aesthetic, clip: FOLDER, head: FILE})"
        ) from error
