"""`pickscore`: predicts which image people pick for a prompt (Kirstain et al. 2023, arXiv 2305.01569;
github.com/yuvalkirstain/PickScore).

The model is a CLIP ViT-H/14, fine-tuned on people's choices in Pick-a-Pic. The score is exp(logit scale) · cos(image,
prompt), about 16 to 26 on generated images. The difference of two scores is the log-odds that people pick the first
image. Some users divide the score by 26 to be near 1 (`divide_by: 26`).

Preprocessing is a differentiable version of CLIP's; prompts are cut at 77 tokens. The tokenizer is that of LAION's
model, from which the authors fine-tuned and whose processor they use.
"""

from typing import ClassVar

from torch import Tensor

from rewards.published.clip import TOKENS, ClipReward, Towers, check_folder, load_model, load_tokenizer
from rewards.published.weights import Weights

PICKSCORE = Weights(  # its card states no licence
    "yuvalkirstain/PickScore_v1",
    ("config.json", "model.safetensors"),
    "model",
    3_944_560_000,
    sha256={"model.safetensors": "ef31ef6fc5ff4d9bb90dd232df4e145887ba62c5a03aa2841415f8c25f18d52e"},
)


class PickScore(ClipReward):
    """PickScore v1.

    Args:
        model: a local folder or a hub id; the published model unless given.
        tokenizer: a folder with CLIP's `vocab.json` and `merges.txt`, or a hub id; LAION's ViT-H/14 unless given.
        divide_by: divisor of the score; 1 gives the published score.

    Raises:
        FileNotFoundError: weights are neither on this machine nor can be fetched; the message says what to fetch.
    """

    name = "pickscore"
    version = "v1"
    needs: ClassVar = (PICKSCORE, TOKENS)

    def __init__(self, model: str | None = None, tokenizer: str | None = None, divide_by: float = 1.0):
        if not divide_by:
            raise ValueError("divide_by must not be 0")
        self._folder = check_folder(PICKSCORE, PICKSCORE.find(self.name, model))
        self._tokens = check_folder(TOKENS, TOKENS.find(self.name, tokenizer))
        super().__init__(self._folder / "model.safetensors")
        self.divide_by = float(divide_by)

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        return self.towers().model.logit_scale.exp() * self.cosine(images, prompts) / self.divide_by

    def load(self) -> Towers:
        return Towers(load_model(self._folder), load_tokenizer(self._tokens))
