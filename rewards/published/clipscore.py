"""`clipscore`: how well an image fits its prompt, by CLIP (Hessel et al. 2021, arXiv 2104.08718).

The score is the cosine of CLIP's image and text embeddings, times `scale`. Three scales are in use, so a score is given
with its scale:

- 1, the bare cosine, about 0.1 to 0.4 on real pairs (`scale: 1`, the default);
- 100·cos, that of torchmetrics (`scale: 100`; its floor at 0 applies to the mean over images, not to each image);
- 2.5·max(0, cos), that of the paper (`scale: 2.5, floor: true`; its code, github.com/jmhessel/clipscore, also puts
  `prefix: "A photo depicts "` before the text and uses ViT-B/32).

Preprocessing is a differentiable version of CLIP's; prompts are cut at 77 tokens.
"""

from typing import ClassVar

from torch import Tensor

from rewards.published.clip import ClipReward, Towers, check_folder, load_model, load_tokenizer
from rewards.published.weights import Weights

CLIP = Weights(
    "openai/clip-vit-large-patch14",
    ("config.json", "model.safetensors", "vocab.json", "merges.txt"),
    "model",
    1_712_030_000,
    "MIT (OpenAI's CLIP)",
    {"model.safetensors": "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb"},
)


class ClipScore(ClipReward):
    """The score scale · cos(image, prompt).

    Args:
        model: a CLIP model with its tokenizer, a local folder or a hub id; OpenAI's ViT-L/14 unless given.
        scale: factor of the cosine: 1, 100 or 2.5, as listed above.
        floor: whether the score is scale · max(0, cos); an image with a negative cosine then has no gradient.
        prefix: text put before every prompt.

    Raises:
        FileNotFoundError: weights are neither on this machine nor can be fetched; the message says what to fetch.
    """

    name = "clipscore"
    needs: ClassVar = (CLIP,)

    def __init__(self, model: str | None = None, scale: float = 1.0, floor: bool = False, prefix: str = ""):
        self._folder = check_folder(CLIP, CLIP.find(self.name, model))
        super().__init__(self._folder / "model.safetensors")
        self.scale = float(scale)
        self.floor = floor
        self.prefix = prefix

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        cosine = self.cosine(images, [self.prefix + prompt for prompt in prompts])
        return self.scale * (cosine.clamp(min=0) if self.floor else cosine)

    def load(self) -> Towers:
        return Towers(load_model(self._folder), load_tokenizer(self._folder))
