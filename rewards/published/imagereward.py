"""`imagereward`: ImageReward v1.0 (Xu et al. 2023, arXiv 2304.05977; github.com/zai-org/ImageReward, formerly THUDM).

The network is BLIP (Li et al. 2022, arXiv 2201.12086): a ViT-L/16 encodes the image at 224 pixels, and a BERT with
cross-attention to all image tokens (BLIP's MED) encodes the prompt, cut at 35 tokens. Five linear layers, with only
dropout between them, map the first output of the text to r. The score is r standardised, (r − 0.1672)/1.0333: about −2
to 2, without bounds. ReFL optimises it.

Preprocessing is a differentiable version of the authors' torchvision transforms: shorter side to 224 by antialiased
bicubic interpolation (within 1/255 of Pillow's), centre crop, CLIP's normalisation.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from rewards.base import RewardError
from rewards.hashing import file_sha256
from rewards.published.clip import normalise, resize
from rewards.published.laion import AestheticHead
from rewards.published.lazy import LazyReward
from rewards.published.weights import Weights, read_state

BLIP = Weights("zai-org/ImageReward", ("ImageReward.pt",), "model", 1_786_880_000, "Apache-2.0 (ImageReward)")
VOCABULARY = Weights(
    "google-bert/bert-base-uncased",
    ("vocab.txt",),
    "tokenizer",
    231_508,
    "Apache-2.0 (BERT)",
    {"vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3"},
)

MEAN = 0.16717362830052426
STD = 1.0333394966054072
LENGTH = 35
"""Number of tokens that a prompt is padded or cut to."""

ADDED_TOKENS = ("[DEC]", "[ENC]")
"""BLIP's own tokens, after BERT's 30,522. ImageReward uses neither, but the embedding has rows for them."""

HEAD_WIDTH = 64
"""Width of an attention head in BLIP's ViT-L (1024/16) and BERT-base (768/12), which follows from no shape in the
file."""

_VISION_NAMES = (  # pattern of BLIP's names, which are timm's for a ViT -> name in transformers' BlipVisionModel
    (r"^cls_token$", "embeddings.class_embedding"),
    (r"^pos_embed$", "embeddings.position_embedding"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^norm\.", "post_layernorm."),
    (r"^blocks\.", "encoder.layers."),
    (r"\.norm([12])\.", r".layer_norm\1."),
    (r"\.attn\.qkv\.", ".self_attn.qkv."),
    (r"\.attn\.proj\.", ".self_attn.projection."),
)


class ImageRewardNetwork(nn.Module):
    """BLIP's two towers and the head, with the sizes and tensors of a state dict in the published layout.

    Args:
        state: tensors `blip.visual_encoder.*`, `blip.text_encoder.*` and `mlp.layers.*`. The file also holds the
            projections of BLIP's pretraining, which ImageReward does not use; they are left out.

    Raises:
        KeyError, RuntimeError: the state dict has another layout.
    """

    def __init__(self, state: Mapping[str, Tensor]):
        super().__init__()
        self.tokenizer: Any = None  # set by `ImageReward.load`, which reads it from another file
        from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

        vision, text = _below(state, "blip.visual_encoder."), _below(state, "blip.text_encoder.")
        text.pop("embeddings.position_ids", None)  # a buffer 0, 1, 2, … in files that older transformers wrote
        positions, width = vision["pos_embed"].shape[1:]
        patch = vision["patch_embed.proj.weight"].shape[-1]
        words, text_width = text["embeddings.word_embeddings.weight"].shape
        vision_config = BlipVisionConfig(
            hidden_size=width,
            intermediate_size=vision["blocks.0.mlp.fc1.weight"].shape[0],
            num_hidden_layers=_layers(vision, "blocks."),
            num_attention_heads=width // HEAD_WIDTH,
            image_size=patch * round((positions - 1) ** 0.5),
            patch_size=patch,
            layer_norm_eps=1e-6,  # BLIP's ViT; transformers' default is 1e-5
        )
        text_config = BlipTextConfig(
            vocab_size=words,
            hidden_size=text_width,
            encoder_hidden_size=width,
            intermediate_size=text["encoder.layer.0.intermediate.dense.weight"].shape[0],
            num_hidden_layers=_layers(text, "encoder.layer."),
            num_attention_heads=text_width // HEAD_WIDTH,  # med_config.json's 12; transformers' default is 8
            max_position_embeddings=text["embeddings.position_embeddings.weight"].shape[0],
            layer_norm_eps=1e-12,
            is_decoder=True,  # needed for cross-attention; `forward` attends in both directions nevertheless
        )
        with torch.device("meta"):  # the file's tensors become the parameters, so nothing is initialised or copied
            self.vision: Any = BlipVisionModel(vision_config)
            self.text: Any = BlipTextModel(text_config, add_pooling_layer=False)
            self.head = AestheticHead(text_width)
        renamed = {_renamed(key): value for key, value in vision.items()}
        for part, values in ((self.vision, renamed), (self.text, text), (self.head, _below(state, "mlp."))):
            part.load_state_dict(values, assign=True)
        places = torch.arange(text_config.max_position_embeddings)[None]
        self.text.embeddings.register_buffer("position_ids", places, persistent=False)

    @property
    def size(self) -> int:
        """Height and width of the vision tower's input."""
        return self.vision.config.image_size

    @property
    def words(self) -> int:
        """The number of tokens in the vocabulary, with the added ones."""
        return self.text.config.vocab_size

    def forward(self, pixels: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """r `[B]` of normalised pixels `[B, 3, size, size]`, token ids `[B, L]` and their attention mask `[B, L]`."""
        image = self.vision(pixel_values=pixels).last_hidden_state
        # Without a mask for the image the text attends to all of it, as with the published code's mask of ones.
        text = self.text(input_ids=tokens, attention_mask=mask, encoder_hidden_states=image, is_decoder=False)
        return self.head(text.last_hidden_state[:, 0])


class ImageReward(LazyReward[ImageRewardNetwork]):
    """ImageReward v1.0, which predicts how much people like an image for its prompt.

    Args:
        model: `ImageReward.pt`, or the folder with it; from the hub unless given.
        tokenizer: BERT's uncased `vocab.txt`, or the folder with it; from the hub unless given.

    Raises:
        FileNotFoundError: weights are neither on this machine nor can be fetched; the message says what to fetch.
    """

    name = "imagereward"
    version = "v1.0"
    needs: ClassVar = (BLIP, VOCABULARY)

    def __init__(self, model: str | None = None, tokenizer: str | None = None):
        super().__init__()
        self._model = _file(BLIP, self.name, model)
        self._vocabulary = _file(VOCABULARY, self.name, tokenizer)
        self.weights_sha256 = file_sha256(self._model)

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        network = self.network()
        encodings = network.tokenizer.encode_batch(prompts)
        tokens, mask = (
            torch.tensor([getattr(encoding, name) for encoding in encodings], device=images.device)
            for name in ("ids", "attention_mask")
        )
        return (network(preprocess(images.float(), network.size), tokens, mask) - MEAN) / STD

    def load(self) -> ImageRewardNetwork:
        try:
            network = ImageRewardNetwork(read_state(self._model)).float()
        except (KeyError, RuntimeError) as error:
            what = f"lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
            raise RewardError(f"{self._model} is not in ImageReward's layout: {what}") from error
        network.tokenizer = read_vocabulary(self._vocabulary)
        if (size := network.tokenizer.get_vocab_size()) != network.words:
            raise RewardError(
                f"{self._vocabulary} and BLIP's own tokens make {size} words, and "
                f"{self._model} knows {network.words}; give `tokenizer`, BERT's uncased vocabulary"
            )
        return network


def read_vocabulary(path: Path) -> Any:
    """Builds BLIP's tokenizer from `vocab.txt`: BERT's uncased WordPieces, padded or cut to `LENGTH` tokens."""
    from tokenizers import BertWordPieceTokenizer

    tokenizer: Any = BertWordPieceTokenizer(str(path), lowercase=True)
    tokenizer.add_special_tokens(list(ADDED_TOKENS))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id("[PAD]"), length=LENGTH)
    return tokenizer


def preprocess(images: Tensor, size: int) -> Tensor:
    """ImageReward's pixels `[B, 3, size, size]` from images `[B, 3, H, W]` in [0, 1]; differentiable.

    It differs from `clip.preprocess`: torchvision rounds an odd margin of the crop, where CLIP's image processor
    truncates it.
    """
    height, width = images.shape[2:]
    shorter = min(height, width)
    high, wide = int(size * height / shorter), int(size * width / shorter)
    top, left = round((high - size) / 2), round((wide - size) / 2)
    return normalise(resize(images, high, wide)[:, :, top : top + size, left : left + size])


def _file(weights: Weights, reward: str, given: str | None) -> Path:
    place = weights.find(reward, given)
    path = place / weights.files[0] if place.is_dir() else place
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}; give `{weights.option}`, the file of {weights.repository}")
    return path


def _below(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


def _layers(state: Mapping[str, Tensor], prefix: str) -> int:
    return 1 + max(int(key.removeprefix(prefix).partition(".")[0]) for key in state if key.startswith(prefix))


def _renamed(key: str) -> str:
    for pattern, name in _VISION_NAMES:
        key = re.sub(pattern, name, key)
    return key
