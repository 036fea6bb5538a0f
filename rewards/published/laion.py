"""`aesthetic`: the LAION aesthetic predictor v2 (christophschuhmann/improved-aesthetic-predictor).

Five linear layers, with only dropout between them, map the L2-normalised CLIP ViT-L/14 embedding of an image to a score
of about 1 to 10. DDPO and AlignProp optimise it. Preprocessing is a differentiable version of CLIP's: shorter side to
the model's size by antialiased bicubic interpolation (within 1/255 of Pillow's), centre crop, normalisation.
"""

from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rewards.base import EmbeddingReward
from rewards.hashing import file_sha256
from rewards.published.clip import preprocess
from rewards.published.lazy import LazyReward
from rewards.published.weights import Weights, read_state

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
    """The linear layers of the predictor, without activations, in the layout of the published file.

    The file's tensors are `layers.0`, `.2`, `.4`, `.6` and `.7`; layers 1, 3 and 5 are dropout.

    Args:
        width: width of the CLIP embedding, 768 for ViT-L/14.
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


class Predictor(nn.Module):
    """CLIP's vision tower, and the head that scores its embeddings.

    Args:
        clip: a folder with a CLIP model in transformers' layout.
        head: the file of the head's weights.
    """

    def __init__(self, clip: Path, head: Path):
        super().__init__()
        from transformers import CLIPVisionModelWithProjection

        self.vision: Any = CLIPVisionModelWithProjection.from_pretrained(clip, dtype=torch.float32)
        self.head = AestheticHead(self.vision.config.projection_dim)
        self.head.load_state_dict(read_state(head))

    def embed(self, images: Tensor) -> Tensor:
        """L2-normalised embeddings `[B, D]` of images `[B, 3, H, W]` in [0, 1]."""
        pixels = preprocess(images, self.vision.config.image_size)
        return F.normalize(self.vision(pixel_values=pixels).image_embeds, dim=1)


class LaionAesthetic(LazyReward[Predictor], EmbeddingReward):
    """The LAION aesthetic predictor v2.

    Args:
        model: a CLIP model with a vision tower, a local folder or a hub id; OpenAI's ViT-L/14 unless given.
        head: the file of the head's weights (`.pth` or `.safetensors`); from the hub unless given.

    Raises:
        FileNotFoundError: weights are neither on this machine nor can be fetched; the message says what to fetch.
    """

    name = "aesthetic"
    version = "laion-v2"
    needs: ClassVar = (CLIP, HEAD)

    def __init__(self, model: str | None = None, head: str | None = None):
        super().__init__()
        self._clip = CLIP.find(self.name, model)
        self._head = HEAD.find(self.name, head)
        self.weights_sha256 = file_sha256(self._head)

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        return self.network().head(self.embed(images))

    def embed(self, images: Tensor) -> Tensor:
        return self.network().embed(images)

    def load(self) -> Predictor:
        return Predictor(self._clip, self._head)
