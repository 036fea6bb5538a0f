"""What rewards on CLIP share (Radford et al. 2021, arXiv 2103.00020): its preprocessing, made differentiable, its two
towers, and its tokens.

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

TOKENS = Weights(  # 49,408 tokens, OpenAI's own, as all of open_clip's ViTs use them
    "laion/CLIP-ViT-H-14-laion2B-s32B-b79K", ("vocab.json", "merges.txt"), "tokenizer", 1_387_000, "MIT"
)

KEPT_PROMPTS = 4096
"""Text embeddings that are kept: 16 MiB of them for ViT-H."""


# -- pixels ----------------------------------------------------------------------------------------------------


def resize(images: Tensor, height: int, width: int) -> Tensor:
    """Images in [0, 1] at another size: Pillow's bicubic to within 1/255, differentiable; as they are at their own."""
    if images.shape[-2:] == (height, width):
        return images
    found = F.interpolate(images, size=(height, width), mode="bicubic", antialias=True, align_corners=False)
    return found.clamp(0, 1)


def normalise(images: Tensor) -> Tensor:
    """CLIP's mean and standard deviation."""
    mean, std = (torch.tensor(values, device=images.device, dtype=images.dtype) for values in (MEAN, STD))
    return (images - mean.view(1, 3, 1, 1)) / std.view(1, 3, 1, 1)


def preprocess(images: Tensor, size: int) -> Tensor:
    """CLIP's pixels `[B, 3, size, size]` from images `[B, 3, H, W]` in [0, 1]; differentiable."""
    height, width = images.shape[2:]
    # In whole numbers, as transformers and torchvision count: 45 * (224 / 5) is 2015.99… in floats.
    high, wide = (size * side // min(height, width) for side in (height, width))
    resized = resize(images, high, wide)
    top, left = (high - size) // 2, (wide - size) // 2
    return normalise(resized[:, :, top : top + size, left : left + size])


# -- towers ----------------------------------------------------------------------------------------------------


class Towers(nn.Module):
    """CLIP's two towers: images and prompts to unit vectors in one space.

    Args:
        model: transformers' `CLIPModel`.
        tokenizer: the one it was trained with.
        prepare: images `[B, 3, H, W]` in [0, 1], size -> what the vision tower sees, `[B, 3, size, size]`.

    Raises:
        ValueError: the tokenizer is another model's.
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
        self._known: dict[str, Tensor] = {}

    def images(self, images: Tensor) -> Tensor:
        """Images `[B, 3, H, W]` in [0, 1] -> L2-normalised `[B, D]`; differentiable."""
        pixels = self._prepare(images.float(), self.size)
        seen = self.model.vision_model(pixel_values=pixels).pooler_output
        return F.normalize(self.model.visual_projection(seen), dim=1)

    def prompts(self, prompts: Sequence[str]) -> Tensor:
        """Prompts -> L2-normalised `[B, D]`, without gradient; each is embedded once, as prompts repeat."""
        return torch.stack([self._embedded(prompt) for prompt in prompts])

    def tokens(self, prompt: str) -> list[int]:
        """Start, the prompt's tokens, end: `longest` (77) at most, cut before the end."""
        return self._tokenizer(prompt, truncation=True, max_length=self.longest).input_ids

    def _embedded(self, prompt: str) -> Tensor:
        if prompt not in self._known:
            if len(self._known) >= KEPT_PROMPTS:
                del self._known[next(iter(self._known))]
            self._known[prompt] = self._embed(prompt)
        return self._known[prompt]

    @torch.no_grad()
    def _embed(self, prompt: str) -> Tensor:
        # One at a time and unpadded: a prompt's embedding then depends on no other's length. Published code pads, with
        # zeros (open_clip) or end tokens (transformers); it is the same, as padding follows the end token, which is
        # what the tower returns, and its attention looks back only.
        ids = torch.tensor([self.tokens(prompt)], device=self.model.logit_scale.device)
        read = self.model.text_model(input_ids=ids).pooler_output
        return F.normalize(self.model.text_projection(read), dim=1)[0]

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        self._known.clear()  # the weights move or change
        return super()._apply(fn, recurse)


class ClipReward(LazyReward[Towers], EmbeddingReward):
    """A reward on the cosine of an image's and its prompt's CLIP embedding; a subclass loads the towers.

    Args:
        weights: the file that holds the model's weights.
    """

    def __init__(self, weights: Path):
        super().__init__()
        self._weights = weights

    @cached_property
    def weights_sha256(self) -> str:  # type: ignore[override]  # when asked for: 4 GB take seconds
        return file_sha256(self._weights)

    def embed(self, images: Tensor) -> Tensor:
        return self.towers().images(images)

    def cosine(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Of each image and its prompt: `[B]` in [-1, 1], differentiable in the images."""
        return (self.embed(images) * self.towers().prompts(prompts)).sum(1)

    def towers(self) -> Towers:
        """Loaded at the first call, frozen."""
        return self.network()


# -- files -----------------------------------------------------------------------------------------------------


def check_folder(need: Weights, folder: Path) -> Path:
    """The folder, if it has what is needed of it.

    Raises:
        FileNotFoundError: it has not; the message names the files.
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
    """A `CLIPModel` in transformers' layout, fp32.

    Raises:
        ValueError: weights are missing, as in a file that holds one tower.
    """
    from transformers import CLIPModel

    loading: Any = CLIPModel.from_pretrained  # returns two things here, which its annotation does not know
    model, report = loading(
        folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, output_loading_info=True
    )
    if missing := sorted(report["missing_keys"]):  # they would be random numbers
        raise ValueError(f"{folder} is no whole CLIP: it lacks {missing[0]} and {len(missing) - 1} others")
    return model


def load_tokenizer(folder: Path) -> Any:
    """CLIP's tokenizer from `vocab.json` and `merges.txt`, or `tokenizer.json`."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
