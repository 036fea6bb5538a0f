"""`emoji-aesthetic`: the LAION aesthetic predictor in small.

As in LAION's (an MLP on L2-normalised CLIP embeddings, https://github.com/christophschuhmann/improved-aesthetic-predictor),
an image encoder gives an embedding, the embedding is normalised, and an MLP gives a score of about 1 to 10. It learned
the rule in `rule.py` from examples, so like any learned reward it is right where it has seen images and can be fooled
elsewhere; `emoji-aesthetic-gold` knows better.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from rewards.base import Reward
from rewards.emoji.networks import trunk
from rewards.emoji.weights import HERE, at_native_size, load_frozen
from rewards.hashing import file_sha256

WEIGHTS = HERE / "aesthetic.safetensors"
CENTRE, SPREAD = 5.0, 2.0  # scores the network starts around, so that it learns numbers near one


class Predictor(nn.Module):
    """Encoder (`networks.trunk`), normalised embedding of 64, MLP with one hidden layer."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = trunk(16, 64)
        self.head = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Images [B, 3, H, W] in [0, 1] -> scores [B]."""
        embedding = F.normalize(self.encoder(2 * at_native_size(images) - 1), dim=1)
        # A unit vector of 64 has entries of about 1/8; the head starts better on numbers of about one.
        return CENTRE + SPREAD * self.head(8 * embedding)[:, 0]


class EmojiAesthetic(Reward):
    """The learned aesthetic score; ignores the prompt, as LAION's does."""

    name = "emoji-aesthetic"

    def __init__(self) -> None:
        self.network = load_frozen(Predictor(), WEIGHTS)
        self.weights_sha256 = file_sha256(WEIGHTS)

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        return self.network(images)
