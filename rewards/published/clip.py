"""CLIP (Radford et al. 2021, arXiv 2103.00020) for rewards: differentiable preprocessing, the two towers, and tokens.

Preprocessing is CLIP's own: shorter side to size by antialiased bicubic, centre crop, normalisation.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from rewards.base import EmbeddingReward
from rewards.hashing import file_sha256
from rewards.published.lazy import LazyReward
from rewards.published.weights import Weights

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)

TOKENS = Weights(  # OpenAI's 49,408 tokens, which all ViTs of open_clip use
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", ("vocab.json", "merges.txt"), "tokenizer", 1_387_000, "MIT"
)

KEPT_PROMPTS = 4096
"""Number of text embeddings that are kept, 16 MiB for ViT-H."""


# -- pixels ----------------------------------------------------------------------------------------------------


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """Resizes images in [0, 1] as Pillow's bicubic filter, to within 1/255; differentiable.

    Images of the wanted size are returned unchanged.
    """
    if images.shape[-2:] == (height, width):
        return images
    resized = F.interpolate(images, size=(height, width), mode="bicubic", antialias=True, align_corners=False)
    return resized.clamp(0, 1)


def normalise(images: Tensor) -> Tensor:
    """Normalises images in [0, 1] with CLIP's mean and standard deviation."""
    mean, std = (torch.tensor(values, device=images.device, dtype=images.dtype) for values in (MEAN, STD))
    return (images - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)


def preprocess(images: Tensor, size: int) -> Tensor:
    """CLIP's pixels `[B, 3, size, size]` from images `[B, 3, H, W]` in [0, 1]; differentiable."""
    height, width = images.shape[2:]
    # Integer arithmetic, as in transformers and torchvision: in floats 45 * (224 / 5) is 2015.99….
    high, wide = (size * side // min(height, width) for side in (height, width))
    resized = resize(images, high, wide)
    top, left = (high - size) // 2, (wide - size) // 2
    return normalise(resized[:, :, top : top + size, left : left + size])


# -- towers ----------------------------------------------------------------------------------------------------


class Towers(nn.Module):
    """CLIP's two towers, which map images and prompts to unit vectors in one space.

    Args:
        model: transformers' `CLIPModel`.
        tokenizer: the tokenizer with which the model was trained.
        prepare: function of images `[B, 3, H, W]` in [0, 1] and a size that returns the inputs `[B, 3, size, size]` of
            the vision tower.

    Raises:
        ValueError: the tokenizer has another number of tokens than the model.
    """

    def __init__(self, model: Any, tokenizer: Any, prepare: Callable[[Tensor, int], Tensor] = preprocess):
        super().__init__()
        text = model.config.text_config
        if len(tokenizer) != text.vocab_size:
            raise ValueError(f"the tokenizer has {len(tokenizer)} tokens, but its model {text.vocab_size}")
        self.model = model
        self.size: int = model.config.vision_config.image_size
        self.longest: int = text.max_position_embeddings
        self._tokenizer = tokenizer
        self._prepare = prepare
        self._embeddings: dict[str, Tensor] = {}

    def images(self, images: Tensor) -> Tensor:
        """L2-normalised embeddings `[B, D]` of images `[B, 3, H, W]` in [0, 1]; differentiable."""
        pixels = self._prepare(images.float(), self.size)
        pooled = self.model.vision_model(pixel_values=pixels).pooler_output
        return F.normalize(self.model.visual_projection(pooled), dim=1)

    def prompts(self, prompts: Sequence[str]) -> Tensor:
        """L2-normalised embeddings `[B, D]` of prompts, without gradient; kept for the next call, as prompts repeat."""
        return torch.stack([self._embedded(prompt) for prompt in prompts])

    def tokens(self, prompt: str) -> list[int]:
        """Token ids of a prompt with start and end mark: at most `longest` (77), with the prompt's last ones cut."""
        return self._tokenizer(prompt, truncation=True, max_length=self.longest).input_ids

    def _embedded(self, prompt: str) -> Tensor:
        if prompt not in self._embeddings:
            if len(self._embeddings) >= KEPT_PROMPTS:
                del self._embeddings[next(iter(self._embeddings))]
            self._embeddings[prompt] = self._embed(prompt)
        return self._embeddings[prompt]

    @torch.no_grad()
    def _embed(self, prompt: str) -> Tensor:
        # Prompts are embedded one at a time without padding, so that an embedding does not depend on other prompts.
        # Published code pads with zeros (open_clip) or end tokens (transformers). The results are the same: the tower
        # returns its output at the end token, and its causal attention ignores the padding after it.
        ids = torch.tensor([self.tokens(prompt)], device=self.model.logit_scale.device)
        pooled = self.model.text_model(input_ids=ids).pooler_output
        return F.normalize(self.model.text_projection(pooled), dim=1)[0]

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self._embeddings.clear()  # the weights are moved or converted
        return super()._apply(fn, recurse)


class ClipReward(LazyReward[Towers], EmbeddingReward):
    """A reward on the cosine of the CLIP embeddings of an image and its prompt; a subclass loads the towers.

    Args:
        weights: the file of the model's weights.
    """

    def __init__(self, weights: Path):
        super().__init__()
        self._weights = weights

    @cached_property
    def weights_sha256(self) -> str:  # type: ignore[override]  # computed on use: hashing 4 GB takes seconds
        return file_sha256(self._weights)

    def embed(self, images: Tensor) -> Tensor:
        return self.towers().images(images)

    def cosine(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """The cosine of each image and its prompt: `[B]` in [-1, 1], differentiable in the images."""
        return (self.embed(images) * self.towers().prompts(prompts)).sum(1)

    def towers(self) -> Towers:
        """The frozen towers, which the first call loads."""
        return self.network()


# -- files -----------------------------------------------------------------------------------------------------


def check_folder(need: Weights, folder: Path) -> Path:
    """Returns `folder` if it has all files of `need`.

    Raises:
        FileNotFoundError: a file is missing; the message names the missing files.
    """
    missing = [name for name in need.files if not (folder / name).is_file()]
    if (folder / "tokenizer.json").is_file():  # vocabulary and merges in one file
        missing = [name for name in missing if name not in TOKENS.files]
    if missing:
        raise FileNotFoundError(
            f"there is no {' and no '.join(missing)} in {folder}; "
            f"give `{need.option}`, a folder with the files of {need.repository}"
        )
    return folder


def load_model(folder: Path) -> Any:
    """Loads a `CLIPModel` in transformers' layout, fp32.

    Raises:
        ValueError: weights are missing, as in a file with only one tower.
    """
    from transformers import CLIPModel

    loading: Any = CLIPModel.from_pretrained  # with output_loading_info it returns a pair, unlike its annotation
    model, report = loading(
        folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, output_loading_info=True
    )
    if missing := sorted(report["missing_keys"]):  # transformers initialises them at random
        raise ValueError(f"{folder} is no whole CLIP: it lacks {missing[0]} and {len(missing) - 1} others")
    return model


def load_tokenizer(folder: Path) -> Any:
    """Loads CLIP's tokenizer from `vocab.json` and `merges.txt`, or `tokenizer.json`."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
