"""`emoji-aesthetic`: a small version of the LAION aesthetic predictor.

As in LAION's predictor (an MLP on L2-normalised CLIP embeddings,
https://github.com/christophschuhmann/improved-aesthetic-predictor), an image encoder gives an embedding, the embedding
is normalised, and an MLP gives a score of about 1 to 10. The network learned the rule in `rule.py` from examples. Like
any learned reward it can be wrong on images unlike these; its gold, `emoji-aesthetic-gold`, computes the rule itself.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from rewards.base import Reward
from rewards.emoji.networks import trunk
from rewards.emoji.weights import HERE, at_native_size, load_frozen
from rewards.hashing import file_sha256

WEIGHTS = HERE / "aesthetic.safetensors"
CENTRE, SPREAD = 5.0, 2.0  # mean and scale of the scores, so that the network learns numbers near one


class Predictor(nn.Module):
    """An encoder (`networks.trunk`), a normalised embedding of 64 numbers, and an MLP with one hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = trunk(16, 64)
        self.head = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 1))

    def forward(self, images: Tensor) -> Tensor:
        """The scores [B] of images [B, 3, H, W] in [0, 1]."""
        embedding = F.normalize(self.encoder(2 * at_native_size(images) - 1), dim=1)
        # A unit vector of 64 numbers has entries of about 1/8; the head learns faster from entries of about one.
        return CENTRE + SPREAD * self.head(8 * embedding)[:, 0]


class EmojiAesthetic(Reward):
    """The learned aesthetic score, about 1 to 10. It ignores the prompt, as LAION's predictor does."""

    name = "emoji-aesthetic"

    def __init__(self) -> None:
        self.network = load_frozen(Predictor(), WEIGHTS)
        self.weights_sha256 = file_sha256(WEIGHTS)

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        return self.network(images)
