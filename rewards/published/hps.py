"""`hpsv2` and `hpsv2.1`: the Human Preference Score v2 (Wu et al. 2023, arXiv 2306.09341; github.com/tgxs002/HPSv2).

The model is an open_clip ViT-H/14, fine-tuned on people's rankings of generated images. The score is cos(image,
prompt), as the authors' `hpsv2.score` returns it: without the logit scale, about 0.2 to 0.35 (the paper's tables show
100 times that). v2.1 was trained on other data than v2.0, and the scores of the two are not comparable.

Preprocessing is a differentiable version of the authors': the longer side to 224 by bicubic interpolation, black
borders to a square, CLIP's normalisation. It is antialiased, which is torchvision's default for tensors since 0.17; the
authors' code does not ask for it. The network runs in fp32, the authors' in fp16 on a GPU. Prompts are cut at 77
tokens. One difference: the authors' code adds no borders to an image whose longer side is 224, so it cannot score such
an image unless it is square; here the borders are always added.
"""

import html
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from rewards.published.clip import TOKENS, ClipReward, Towers, check_folder, load_tokenizer, normalise, resize
from rewards.published.weights import Weights, read_state

V2_0 = Weights(
    "xswu/HPSv2",
    ("HPS_v2_compressed.pt",),
    "model",
    1_972_484_501,
    "Apache-2.0 (HPSv2)",
    {"HPS_v2_compressed.pt": "07cb0d20626232204ca3a6ec53ff5984e7e53212a8a7b0e0ec2bac1bdaf125a1"},
)
V2_1 = Weights(
    "xswu/HPSv2",
    ("HPS_v2.1_compressed.pt",),
    "model",
    1_972_490_005,
    "Apache-2.0 (HPSv2)",
    {"HPS_v2.1_compressed.pt": "c57a38fb4a2f7e7c15bf00da2ea377cdf165448b4dd1052a484c215a998c9837"},
)

VISION_HEAD, TEXT_HEAD = 80, 64
"""Width of an attention head in ViT-H/14's towers (1280/16 and 1024/16), which follows from no shape in the file."""

_NAMES = (  # start of open_clip's names -> transformers'
    (r"visual\.conv1\.", "vision_model.embeddings.patch_embedding."),
    (r"visual\.class_embedding$", "vision_model.embeddings.class_embedding"),
    (r"visual\.positional_embedding$", "vision_model.embeddings.position_embedding.weight"),
    (r"visual\.ln_pre\.", "vision_model.pre_layrnorm."),
    (r"visual\.ln_post\.", "vision_model.post_layernorm."),
    (r"visual\.proj$", "visual_projection.weight"),
    (r"visual\.transformer\.resblocks\.", "vision_model.encoder.layers."),
    (r"token_embedding\.", "text_model.embeddings.token_embedding."),
    (r"positional_embedding$", "text_model.embeddings.position_embedding.weight"),
    (r"ln_final\.", "text_model.final_layer_norm."),
    (r"text_projection$", "text_projection.weight"),
    (r"transformer\.resblocks\.", "text_model.encoder.layers."),
)
_NAMES_IN_A_BLOCK = (
    (".ln_1.", ".layer_norm1."),
    (".ln_2.", ".layer_norm2."),
    (".attn.", ".self_attn."),
    (".mlp.c_fc.", ".mlp.fc1."),
    (".mlp.c_proj.", ".mlp.fc2."),
)


class HPSv2(ClipReward):
    """The Human Preference Score v2.0.

    Args:
        model: the checkpoint's file or the folder with it; from the hub unless given.
        tokenizer: a folder with CLIP's `vocab.json` and `merges.txt`, or a hub id; LAION's ViT-H/14 unless given.

    Raises:
        FileNotFoundError: weights are neither on this machine nor can be fetched; the message says what to fetch.
    """

    name = "hpsv2"
    version = "v2.0"
    needs: ClassVar = (V2_0, TOKENS)

    def __init__(self, model: str | None = None, tokenizer: str | None = None):
        checkpoint: Weights = self.needs[0]
        path = checkpoint.find(self.name, model)
        super().__init__(check_folder(checkpoint, path) / checkpoint.files[0] if path.is_dir() else path)
        self._tokens = check_folder(TOKENS, TOKENS.find(self.name, tokenizer))

    def score(self, images: Tensor, prompts: list[str]) -> Tensor:
        return self.cosine(images, [cleaned(prompt) for prompt in prompts])

    def load(self) -> Towers:
        return Towers(load_open_clip(self._weights), load_tokenizer(self._tokens), letterboxed)


class HPSv21(HPSv2):
    """The Human Preference Score v2.1."""

    name = "hpsv2.1"
    version = "v2.1"
    needs: ClassVar = (V2_1, TOKENS)


def letterboxed(images: Tensor, size: int) -> Tensor:
    """HPSv2's pixels `[B, 3, size, size]` from images `[B, 3, H, W]` in [0, 1]; differentiable."""
    height, width = images.shape[2:]
    scale = size / max(height, width)
    high, wide = (max(1, round(side * scale)) for side in (height, width))
    top, left = (size - high) // 2, (size - wide) // 2
    resized = resize(images, high, wide)
    return normalise(F.pad(resized, (left, size - wide - left, top, size - high - top)))


def cleaned(prompt: str) -> str:
    """Replaces HTML entities by characters, twice, as open_clip's tokenizer does before CLIP's.

    open_clip also repairs wrongly decoded text with ftfy, which is left out here; such prompts score differently.
    """
    return html.unescape(html.unescape(prompt))


# -- open_clip's layout ----------------------------------------------------------------------------------------


def load_open_clip(path: Path) -> Any:
    """Loads a `CLIPModel`, fp32, from an open_clip checkpoint of a ViT-H/14: a state dict, or one under `state_dict`.

    Raises:
        ValueError: the checkpoint has another layout.
    """
    state: Any = read_state(path)
    try:
        return clip_model(state.get("state_dict", state))
    except (KeyError, RuntimeError) as error:
        cause = f"it lacks {error}" if isinstance(error, KeyError) else str(error).split("\n")[-1].strip()
        raise ValueError(f"{path} is no open_clip checkpoint of a ViT-H/14: {cause}") from error


def clip_model(state: Mapping[str, Tensor]) -> Any:
    """Builds transformers' `CLIPModel` with the sizes and tensors of a state dict in open_clip's layout.

    Raises:
        KeyError, RuntimeError: tensors are missing, unexpected or of other shapes.
    """
    from transformers import CLIPModel

    with torch.device("meta"):  # the file's tensors become the parameters, so nothing is initialised or copied
        model: Any = CLIPModel(_config(state))
    model.load_state_dict(_renamed(state), assign=True)
    for tower in (model.text_model, model.vision_model):  # the only buffers, which files do not hold
        places = tower.embeddings.position_ids.shape[1]
        tower.embeddings.position_ids = torch.arange(places, device=model.logit_scale.device)[None]
    return model


def _config(state: Mapping[str, Tensor]) -> Any:
    from transformers import CLIPConfig

    width, _, patch, _ = state["visual.conv1.weight"].shape
    places, _ = state["visual.positional_embedding"].shape
    words, text_width = state["token_embedding.weight"].shape
    dimensions = state["text_projection"].shape[1]
    vision = {
        "hidden_size": width,
        "intermediate_size": state["visual.transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        "num_hidden_layers": _layers(state, "visual.transformer.resblocks."),
        "num_attention_heads": width // VISION_HEAD,
        "image_size": patch * round((places - 1) ** 0.5),
        "patch_size": patch,
        "projection_dim": dimensions,
        "hidden_act": "gelu",  # exact GELU, as in open_clip's ViT-H/14; OpenAI's ViTs have quick_gelu
    }
    text = {
        "vocab_size": words,
        "hidden_size": text_width,
        "intermediate_size": state["transformer.resblocks.0.mlp.c_fc.weight"].shape[0],
        "num_hidden_layers": _layers(state, "transformer.resblocks."),
        "num_attention_heads": text_width // TEXT_HEAD,
        "max_position_embeddings": state["positional_embedding"].shape[0],
        "projection_dim": dimensions,
        "hidden_act": "gelu",
        "bos_token_id": words - 2,
        # open_clip takes the output at the highest token id, transformers that at the first end token. The end token is
        # the last one in the vocabulary.
        "eos_token_id": words - 1,
    }
    return CLIPConfig(text_config=text, vision_config=vision, projection_dim=dimensions)


def _layers(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})


def _renamed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in state.items():
        name = _name(key)
        tensor = value.float()
        if ".in_proj_" in name:  # queries, keys and values in one tensor
            for part, piece in zip("qkv", tensor.chunk(3), strict=True):
                renamed[name.replace(".in_proj_", f".{part}_proj.")] = piece
        else:  # open_clip's projections are transposed
            renamed[name] = tensor.T if name in ("visual_projection.weight", "text_projection.weight") else tensor
    return renamed


def _name(key: str) -> str:
    for start, ours in _NAMES:
        if match := re.match(start, key):
            rest = key[match.end() :]
            for theirs, there in _NAMES_IN_A_BLOCK:
                rest = rest.replace(theirs, there)
            return ours + rest
    return key
