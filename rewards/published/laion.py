"""`aesthetic`: the LAION aesthetic predictor v2 (christophschuhmann/improved-aesthetic-predictor).

An image's CLIP ViT-L/14 embedding, L2-normalised, through five linear layers with nothing but dropout between them,
to a score of about 1 to 10. DDPO and AlignProp optimise it. Preprocessing is CLIP's own, made differentiable: shorter
side to the model's size by antialiased bicubic interpolation (within 1/255 of Pillow's), centre crop, normalisation.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rewards.base import EmbeddingReward
from rewards.published.clip import preprocess
from rewards.published.weights import Weights, file_sha256, read_state

CLIP = Weights(
    "openai/clip-vit-large-patch14", ("config.json", "model.safetensors"), "model", 1_710_540_580, "MIT (OpenAI's CLIP)"
)
HEAD = Weights(
    "trl-lib/ddpo-aesthetic-predictor",  # TRL's copy of sac+logos+ava1-l14-linearMSE.pth
    ("aesthetic-model.pth",),
    "head",
    3_714_759,
    "Apache-2.0 (improved-aesthetic-predictor)",
)


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
        model: a CLIP model with a vision tower, a local folder or a hub id; OpenAI's ViT-L/14 unless given.
        head: the predictor's file (`.pth` or `.safetensors`); from the hub unless given.

    Raises:
        FileNotFoundError: weights are neither here nor to be had; the message says which, and what to fetch.
    """

    name = "aesthetic"
    version = "laion-v2"
    needs: ClassVar = (CLIP, HEAD)

    def __init__(self, model: str | None = None, head: str | None = None):
        # The files are looked for at once and loaded at the first score: a plan should not wait for gigabytes.
        self._clip = CLIP.find(self.name, model)
        self._head = HEAD.find(self.name, head)
        self.weights_sha256 = file_sha256(self._head)
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
            head.load_state_dict(read_state(self._head))
            for part in (vision, head):
                part.requires_grad_(False).eval().to(self._device)
            self._parts = vision, head, vision.config.image_size
        return self._parts
