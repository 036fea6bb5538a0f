"""`imagereward`: ImageReward v1.0 (Xu et al. 2023, arXiv 2304.05977; github.com/zai-org/ImageReward, formerly THUDM).

BLIP (Li et al. 2022, arXiv 2201.12086): a ViT-L/16 sees the image at 224 pixels, and a BERT with cross-attention to
every one of its tokens (BLIP's MED) reads the prompt, 35 tokens at most. The text's first output goes through five
linear layers with nothing but dropout between them to r; the score is r standardised, (r − 0.1672)/1.0333: about −2 to
2, without bounds. ReFL optimises it.

Preprocessing is torchvision's as the authors use it, made differentiable: shorter side to 224 by antialiased bicubic
interpolation (within 1/255 of Pillow's), centre crop, CLIP's normalisation.
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
"""Tokens a prompt is padded and cut to."""

ADDED_TOKENS = ("[DEC]", "[ENC]")
"""BLIP's own, after BERT's 30,522: ImageReward reads neither, but the embedding has rows for them."""

HEAD_WIDTH = 64
"""Of every attention head, in BLIP's ViT-L (1024/16) as in BERT-base (768/12); no shape in the file tells it."""

_VISION_NAMES = (  # BLIP's, as timm names a ViT's parts -> transformers' BlipVisionModel
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
    """BLIP's two towers and the head, sized by and loaded from a state dict in the published layout.

    Args:
        state: `blip.visual_encoder.*`, `blip.text_encoder.*` and `mlp.layers.*`. The projections that BLIP was
            pretrained with are in the file too; ImageReward never calls them, so they are left out.

    Raises:
        KeyError, RuntimeError: the state dict has another layout.
    """

    def __init__(self, state: Mapping[str, Tensor]):
        super().__init__()
        self.tokenizer: Any = None  # its reward reads it from another file
        from transformers import BlipTextConfig, BlipTextModel, BlipVisionConfig, BlipVisionModel

        vision, text = _below(state, "blip.visual_encoder."), _below(state, "blip.text_encoder.")
        text.pop("embeddings.position_ids", None)  # 0, 1, 2, …: a buffer, in files written by older transformers
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
            is_decoder=True,  # gives it its cross-attention; `forward` attends in both directions all the same
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
        """Of the square image it sees."""
        return self.vision.config.image_size

    @property
    def words(self) -> int:
        """In the vocabulary, with the added tokens."""
        return self.text.config.vocab_size

    def forward(self, pixels: Tensor, tokens: Tensor, mask: Tensor) -> Tensor:
        """Normalised pixels `[B, 3, size, size]`, token ids and their mask `[B, L]` -> r `[B]`."""
        seen = self.vision(pixel_values=pixels).last_hidden_state
        # Without a mask for the image the text attends to all of it, as with the published code's mask of ones.
        read = self.text(input_ids=tokens, attention_mask=mask, encoder_hidden_states=seen, is_decoder=False)
        return self.head(read.last_hidden_state[:, 0])


class ImageReward(LazyReward[ImageRewardNetwork]):
    """ImageReward v1.0: how much a person would like the image for the prompt.

    Args:
        model: `ImageReward.pt`, or the folder with it; from the hub unless given.
        tokenizer: BERT's uncased `vocab.txt`, or the folder with it; from the hub unless given.

    Raises:
        FileNotFoundError: weights are neither here nor to be had; the message says which, and what to fetch.
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
        read = network.tokenizer.encode_batch(prompts)
        tokens, mask = (
            torch.tensor([getattr(text, what) for text in read], device=images.device)
            for what in ("ids", "attention_mask")
        )
        return (network(preprocess(images.float(), network.size), tokens, mask) - MEAN) / STD

    def load(self) -> ImageRewardNetwork:
        try:
            network = ImageRewardNetwork(read_state(self._model)).float()
        except (KeyError, RuntimeError) as error:
            what = f"lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
            raise RewardError(f"{self._model} is not in ImageReward's layout: {what}") from error
        network.tokenizer = read_vocabulary(self._vocabulary)
        if (found := network.tokenizer.get_vocab_size()) != network.words:
            raise RewardError(
                f"{self._vocabulary} and BLIP's own tokens make {found} words, and "
                f"{self._model} knows {network.words}; give `tokenizer`, BERT's uncased vocabulary"
            )
        return network


def read_vocabulary(path: Path) -> Any:
    """BLIP's tokenizer: BERT's uncased WordPieces from `vocab.txt`, [CLS] … [SEP], 35 of them, padded."""
    from tokenizers import BertWordPieceTokenizer

    tokenizer: Any = BertWordPieceTokenizer(str(path), lowercase=True)
    tokenizer.add_special_tokens(list(ADDED_TOKENS))
    tokenizer.enable_truncation(LENGTH)
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id("[PAD]"), length=LENGTH)
    return tokenizer


def preprocess(images: Tensor, size: int) -> Tensor:
    """The published pixels `[B, 3, size, size]` from images `[B, 3, H, W]` in [0, 1]; differentiable.

    Not `clip.preprocess`: torchvision rounds an odd margin of the crop where CLIP's image processor cuts it down.
    """
    height, width = images.shape[2:]
    shorter = min(height, width)
    high, wide = int(size * height / shorter), int(size * width / shorter)
    top, left = round((high - size) / 2), round((wide - size) / 2)
    return normalise(resize(images, high, wide)[:, :, top : top + size, left : left + size])


def _file(weights: Weights, reward: str, given: str | None) -> Path:
    found = weights.find(reward, given)
    path = found / weights.files[0] if found.is_dir() else found
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
