"""HPSv2 beside an independent forward pass over open_clip's raw state dict, and Pillow."""

import html
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from rewards.base import RewardError
from rewards.hashing import file_sha256
from rewards.published.hps import HPSv2, HPSv21, cleaned, clip_model, letterboxed
from tests.rewards.published.tiny_clip import (
    END,
    LETTERS,
    MERGES,
    PLACES,
    PROMPTS,
    SIZE,
    START,
    VOCABULARY,
    as_pillow,
    check_clip_reward,
    photos,
    weights_of,
    write_tokens,
)

MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]


def layout(width, patch, places, layers, text_width, words, length, text_layers, dimensions):
    """Key -> shape of open_clip's CLIP with a ViT."""
    keys = {
        "positional_embedding": (length, text_width),
        "text_projection": (text_width, dimensions),
        "logit_scale": (),
        "visual.class_embedding": (width,),
        "visual.positional_embedding": (places, width),
        "visual.proj": (width, dimensions),
        "visual.conv1.weight": (width, 3, patch, patch),
        "token_embedding.weight": (words, text_width),
    }
    norms = {"visual.ln_pre": width, "visual.ln_post": width, "ln_final": text_width}
    for tower, wide, count in (("visual.transformer", width, layers), ("transformer", text_width, text_layers)):
        for index in range(count):
            block = f"{tower}.resblocks.{index}"
            norms |= {f"{block}.ln_1": wide, f"{block}.ln_2": wide}
            keys |= {
                f"{block}.attn.in_proj_weight": (3 * wide, wide),
                f"{block}.attn.in_proj_bias": (3 * wide,),
                f"{block}.attn.out_proj.weight": (wide, wide),
                f"{block}.attn.out_proj.bias": (wide,),
                f"{block}.mlp.c_fc.weight": (4 * wide, wide),
                f"{block}.mlp.c_fc.bias": (4 * wide,),
                f"{block}.mlp.c_proj.weight": (wide, 4 * wide),
                f"{block}.mlp.c_proj.bias": (wide,),
            }
    for name, wide in norms.items():
        keys |= {f"{name}.weight": (wide,), f"{name}.bias": (wide,)}
    return keys


TINY = layout(160, 14, 5, 2, 128, len(VOCABULARY), PLACES, 2, 8)
VIT_H_14 = layout(1280, 14, 257, 32, 1024, 49408, 77, 24, 1024)


@pytest.fixture(scope="module")
def state():
    """In half precision, as published; two heads a tower, of ViT-H/14's width."""
    return {key: weights_of(key, shape).half() for key, shape in TINY.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory, state):
    folder = write_tokens(tmp_path_factory.mktemp("hps"))
    torch.save({"state_dict": state}, folder / "HPS_v2_compressed.pt")
    torch.save(state, folder / "bare.pt")
    return folder


@pytest.fixture
def reward(folder):
    return HPSv2(str(folder), str(folder))


# -- the published code's steps, written anew ------------------------------------------------------------------


def in_open_clip(state, images, ids):
    """open_clip's towers, from pixels `[B, 3, H, W]` and token ids `[B, 77]`: L2-normalised features of both."""
    state = {key: value.float() for key, value in state.items()}

    def norm(x, name):
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])

    def linear(x, name):
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def blocks(x, prefix, head, mask):
        for index in range(2):
            block = f"{prefix}.resblocks.{index}"
            attention = nn.MultiheadAttention(x.shape[-1], x.shape[-1] // head, batch_first=True)
            own = {key.removeprefix(f"{block}.attn."): state[key] for key in state if key.startswith(f"{block}.attn.")}
            attention.load_state_dict(own)
            y = norm(x, f"{block}.ln_1")
            x = x + attention(y, y, y, need_weights=False, attn_mask=mask)[0]
            y = F.gelu(linear(norm(x, f"{block}.ln_2"), f"{block}.mlp.c_fc"))
            x = x + linear(y, f"{block}.mlp.c_proj")
        return x

    with torch.no_grad():
        x = F.conv2d(images, state["visual.conv1.weight"], stride=14).flatten(2).permute(0, 2, 1)
        x = torch.cat([state["visual.class_embedding"].expand(len(x), 1, -1), x], dim=1)
        x = norm(x + state["visual.positional_embedding"], "visual.ln_pre")
        x = blocks(x, "visual.transformer", 80, None)
        seen = norm(x[:, 0], "visual.ln_post") @ state["visual.proj"]
        x = state["token_embedding.weight"][ids] + state["positional_embedding"]
        ahead = torch.full((PLACES, PLACES), float("-inf")).triu(1)
        x = norm(blocks(x, "transformer", 64, ahead), "ln_final")
        read = x[torch.arange(len(x)), ids.argmax(dim=-1)] @ state["text_projection"]
    return F.normalize(seen, dim=-1), F.normalize(read, dim=-1)


def open_clip_tokens(prompt):
    """`[77]`: start, byte pairs merged in the order of the table, end, zeros; letters and "&" only."""
    ids = [START]
    for word in html.unescape(html.unescape(prompt)).lower().split():
        parts = [*word[:-1], word[-1] + "</w>"]
        for pair in MERGES:
            index = 0
            while index < len(parts) - 1:
                if (parts[index], parts[index + 1]) == pair:
                    parts[index : index + 2] = ["".join(pair)]
                index += 1
        ids += [VOCABULARY.index(part) for part in parts]
    ids = [*ids, END][:PLACES]
    ids[-1] = END
    return torch.tensor(ids + [0] * (PLACES - len(ids)))


def in_pillow(image, size):
    """Normalised pixels `[3, size, size]` of a uint8 image: its longer side to size, black around it."""
    photo = as_pillow(image)
    scale = size / max(photo.size)
    wide, high = (round(side * scale) for side in photo.size)
    square = Image.new("RGB", (size, size))
    square.paste(photo.resize((wide, high), Image.Resampling.BICUBIC), ((size - wide) // 2, (size - high) // 2))
    pixels = (np.asarray(square, dtype=np.float32) / 255 - MEAN) / STD
    return torch.tensor(pixels, dtype=torch.float32).permute(2, 0, 1)


# -- scores ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("shape", "within"), [((SIZE, SIZE), 1e-5), ((96, 96), 1e-2), ((61, 44), 1e-2)])
def test_it_scores_as_open_clip_does(state, reward, shape, within):
    images = photos(*shape)
    pixels = torch.stack([in_pillow(image, SIZE) for image in images])
    seen, read = in_open_clip(state, pixels, torch.stack([open_clip_tokens(prompt) for prompt in PROMPTS]))
    expected = (seen * read).sum(1)
    assert expected.std() > 8 * within
    torch.testing.assert_close(reward(images, PROMPTS), expected, atol=within, rtol=0)


def test_text_is_read_as_open_clip_reads_it(state, reward):
    """Zeros follow the end token there, nothing here; long prompts are cut at 77 tokens; case and entities go."""
    prompts = [*PROMPTS, "A Red  CAT", "cat &amp;amp; dog", "red cat " * 60, "dog " * 75, "dog " * 76]
    theirs = [open_clip_tokens(prompt) for prompt in prompts]
    ours = [reward.towers().tokens(cleaned(prompt)) for prompt in prompts]
    assert [len(ids) for ids in ours[-3:]] == [77, 77, 77]
    for own, padded in zip(ours, theirs, strict=True):
        assert own == padded[: len(own)].tolist()
        assert not padded[len(own) :].any()
    _, read = in_open_clip(state, torch.zeros(1, 3, SIZE, SIZE), torch.stack(theirs))
    torch.testing.assert_close(reward.towers().prompts([cleaned(prompt) for prompt in prompts]), read)
    assert LETTERS[0] == VOCABULARY[0]  # so that padding is a token like any other


@pytest.mark.parametrize("shape", [(512, 512), (96, 64), (31, 47), (50, 44), (300, 37), (224, 100), (45, 224)])
def test_preprocessing_agrees_with_pillows(shape):
    image = photos(*shape, count=1)
    ours = letterboxed(image.float() / 255, 224)[0]
    assert ours.shape == (3, 224, 224)
    assert (ours - in_pillow(image[0], 224)).abs().max() * 0.27 < 1.5 / 255


def test_what_is_added_is_black():
    pixels = letterboxed(torch.ones(1, 3, 10, 40), 40)[0]
    black, white = ((torch.tensor([value] * 3) - torch.tensor(MEAN)) / torch.tensor(STD) for value in (0.0, 1.0))
    torch.testing.assert_close(pixels[:, 14, 3], black)
    torch.testing.assert_close(pixels[:, 15, 3], white)
    torch.testing.assert_close(pixels[:, 24, 39], white)
    torch.testing.assert_close(pixels[:, 25, 39], black)


def test_it_is_frozen_differentiable_and_takes_bytes(reward):
    check_clip_reward(reward, PROMPTS)


def test_what_an_evaluation_loaded_and_kept_serves_training(reward):
    with torch.inference_mode():
        reward(photos(32, 32), PROMPTS)
    images = torch.rand(3, 3, 32, 32, requires_grad=True)
    reward(images, PROMPTS).sum().backward()
    assert images.grad.abs().sum() > 0


# -- files -----------------------------------------------------------------------------------------------------


def test_the_published_layout_becomes_vit_h_14():
    """Every tensor has its place, and the config is the one of LAION's ViT-H/14 in transformers' layout."""
    model = clip_model({key: torch.empty(shape, device="meta") for key, shape in VIT_H_14.items()})
    assert sum(parameter.numel() for parameter in model.parameters()) == 986_109_441
    vision, text = model.config.vision_config, model.config.text_config
    for tower, width, layers in ((vision, 1280, 32), (text, 1024, 24)):
        assert (tower.hidden_size, tower.intermediate_size, tower.num_hidden_layers) == (width, 4 * width, layers)
        assert (tower.num_attention_heads, tower.hidden_act, tower.layer_norm_eps) == (16, "gelu", 1e-5)
    assert (vision.image_size, vision.patch_size, model.config.projection_dim) == (224, 14, 1024)
    assert (text.vocab_size, text.max_position_embeddings, text.eos_token_id) == (49408, 77, 49407)


def test_a_checkpoint_may_be_bare(folder, reward):
    images = photos(32, 32)
    bare = HPSv2(str(folder / "bare.pt"), str(folder))
    assert torch.equal(bare(images, PROMPTS), reward(images, PROMPTS))
    assert bare.weights_sha256 == file_sha256(folder / "bare.pt") != reward.weights_sha256
    assert {parameter.dtype for parameter in bare.towers().parameters()} == {torch.float32}
    assert not any(tensor.is_meta for tensor in [*bare.towers().parameters(), *bare.towers().buffers()])


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda state: state.pop("visual.conv1.weight"), "it lacks 'visual.conv1.weight'"),
        (lambda state: state.pop("visual.ln_pre.bias"), "pre_layrnorm.bias"),
        (lambda state: state.update({"score_predictor.weight": torch.zeros(1)}), "score_predictor.weight"),
        (lambda state: state.update({"ln_final.weight": torch.zeros(7)}), "final_layer_norm.weight"),
    ],
)
def test_another_layout_is_refused_in_a_sentence(folder, state, tmp_path, change, cause):
    other = dict(state)
    change(other)
    torch.save(other, tmp_path / "other.pt")
    with pytest.raises(RewardError, match=r"other\.pt is no open_clip checkpoint of a ViT-H/14: .*") as caught:
        HPSv2(str(tmp_path / "other.pt"), str(folder))(photos(32, 32), PROMPTS)
    assert cause in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_versions_are_two_rewards():
    assert (HPSv2.name, HPSv2.version, HPSv21.name, HPSv21.version) == ("hpsv2", "v2.0", "hpsv2.1", "v2.1")
    files = [reward.needs[0].files for reward in (HPSv2, HPSv21)]
    assert files == [("HPS_v2_compressed.pt",), ("HPS_v2.1_compressed.pt",)]
    assert all(set(need.sha256) <= set(need.files) for reward in (HPSv2, HPSv21) for need in reward.needs)


@pytest.mark.parametrize(("reward", "file"), [(HPSv2, "HPS_v2_compressed.pt"), (HPSv21, "HPS_v2.1_compressed.pt")])
def test_missing_weights_are_one_sentence(monkeypatch, tmp_path, folder, reward, file):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=rf"hf download xswu/HPSv2 {re.escape(file)}`") as caught:
        reward()
    assert "\n" not in str(caught.value)
    with pytest.raises(FileNotFoundError, match=rf"there is no {re.escape(file)} in .*; give `model`"):
        reward(str(tmp_path))
    with pytest.raises(FileNotFoundError, match="hf download laion/CLIP-ViT-H-14"):
        reward(str(folder / "bare.pt"))
