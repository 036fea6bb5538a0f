"""The real architecture with random tiny weights in the published layout, beside a forward of its own."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from rewards.base import RewardError
from rewards.published.imagereward import (
    BLIP,
    LENGTH,
    MEAN,
    STD,
    ImageReward,
    ImageRewardNetwork,
    preprocess,
    read_vocabulary,
)

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", "cat", "##s", "dog", "red"]
PROMPTS = ["a red cat", "Dogs and cats, a quite unknown lot of them", "dog " * 50]


def published_shapes(vision: int, text: int, blocks: int, layers: int, places: int, words: int) -> dict[str, tuple]:
    """ImageReward.pt's keys and shapes, less the projections that BLIP was pretrained with."""
    shapes: dict[str, tuple] = {}

    def linear(name: str, wide: int, narrow: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (wide, narrow), (wide,)

    def norm(name: str, width: int) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)

    eye = "blip.visual_encoder"
    shapes[f"{eye}.cls_token"] = (1, 1, vision)
    shapes[f"{eye}.pos_embed"] = (1, places, vision)
    shapes[f"{eye}.patch_embed.proj.weight"], shapes[f"{eye}.patch_embed.proj.bias"] = (vision, 3, 16, 16), (vision,)
    for block in (f"{eye}.blocks.{number}" for number in range(blocks)):
        norm(f"{block}.norm1", vision)
        linear(f"{block}.attn.qkv", 3 * vision, vision)
        linear(f"{block}.attn.proj", vision, vision)
        norm(f"{block}.norm2", vision)
        linear(f"{block}.mlp.fc1", 4 * vision, vision)
        linear(f"{block}.mlp.fc2", vision, 4 * vision)
    norm(f"{eye}.norm", vision)

    reader = "blip.text_encoder"
    shapes[f"{reader}.embeddings.word_embeddings.weight"] = (words, text)
    shapes[f"{reader}.embeddings.position_embeddings.weight"] = (512, text)
    norm(f"{reader}.embeddings.LayerNorm", text)
    for layer in (f"{reader}.encoder.layer.{number}" for number in range(layers)):
        for attention, seen in (("attention", text), ("crossattention", vision)):
            linear(f"{layer}.{attention}.self.query", text, text)
            linear(f"{layer}.{attention}.self.key", text, seen)
            linear(f"{layer}.{attention}.self.value", text, seen)
            linear(f"{layer}.{attention}.output.dense", text, text)
            norm(f"{layer}.{attention}.output.LayerNorm", text)
        linear(f"{layer}.intermediate.dense", 4 * text, text)
        linear(f"{layer}.output.dense", text, 4 * text)
        norm(f"{layer}.output.LayerNorm", text)

    sizes = (text, 1024, 128, 64, 16, 1)
    for place, narrow, wide in zip((0, 2, 4, 6, 7), sizes[:-1], sizes[1:], strict=True):
        linear(f"mlp.layers.{place}", wide, narrow)
    return shapes


def random_state() -> dict[str, torch.Tensor]:
    """Three heads that see 32 pixels, two that read, two layers each; as large a spread as the published one's."""
    generator = torch.Generator().manual_seed(0)
    shapes = published_shapes(192, 128, 2, 2, places=5, words=len(VOCABULARY) + 2)
    state = {key: torch.randn(shape, generator=generator) / shape[-1] ** 0.5 for key, shape in shapes.items()}
    for key in state:
        if "norm" in key.lower() and key.endswith("weight"):
            state[key] = state[key] + 1
    return state


def attention(queries, keys, values, mask=0.0):
    """Of heads 64 wide: `[B, L, D]`, `[B, M, D]`, `[B, M, D]` -> `[B, L, D]`."""
    q, k, v = (x.unflatten(2, (-1, 64)) for x in (queries, keys, values))
    weights = (torch.einsum("blhd,bmhd->bhlm", q, k) / 8 + mask).softmax(3)
    return torch.einsum("bhlm,bmhd->blhd", weights, v).flatten(2)


def published_forward(state, pixels, tokens, mask):
    """r, from the published tensors by plain operations: BLIP's ViT, then its text encoder, then the head."""

    def linear(name, x):
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name, x, eps):
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)

    eye = "blip.visual_encoder"
    patches = F.conv2d(pixels, state[f"{eye}.patch_embed.proj.weight"], state[f"{eye}.patch_embed.proj.bias"], 16)
    x = patches.flatten(2).transpose(1, 2)
    x = torch.cat([state[f"{eye}.cls_token"].expand(len(x), -1, -1), x], 1) + state[f"{eye}.pos_embed"]
    for block in (f"{eye}.blocks.{number}" for number in range(2)):
        fused = linear(f"{block}.attn.qkv", norm(f"{block}.norm1", x, 1e-6))
        x = x + linear(f"{block}.attn.proj", attention(*fused.chunk(3, dim=2)))
        x = x + linear(f"{block}.mlp.fc2", F.gelu(linear(f"{block}.mlp.fc1", norm(f"{block}.norm2", x, 1e-6))))
    seen = norm(f"{eye}.norm", x, 1e-6)

    reader = "blip.text_encoder"
    places = state[f"{reader}.embeddings.position_embeddings.weight"][: tokens.shape[1]]
    x = state[f"{reader}.embeddings.word_embeddings.weight"][tokens] + places
    x = norm(f"{reader}.embeddings.LayerNorm", x, 1e-12)
    hidden = (1 - mask[:, None, None].to(x.dtype)) * -1e4
    for layer in (f"{reader}.encoder.layer.{number}" for number in range(2)):
        for name, context, blocked in (("attention", None, hidden), ("crossattention", seen, 0.0)):
            part = f"{layer}.{name}"
            to = x if context is None else context
            q, k, v = (linear(f"{part}.self.{which}", y) for which, y in (("query", x), ("key", to), ("value", to)))
            x = norm(f"{part}.output.LayerNorm", linear(f"{part}.output.dense", attention(q, k, v, blocked)) + x, 1e-12)
        inner = linear(f"{layer}.output.dense", F.gelu(linear(f"{layer}.intermediate.dense", x)))
        x = norm(f"{layer}.output.LayerNorm", inner + x, 1e-12)
    x = x[:, 0]
    for place in (0, 2, 4, 6, 7):
        x = linear(f"mlp.layers.{place}", x)
    return x[:, 0]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """`ImageReward.pt`, with what the published file holds beside what is used, and `vocab.txt`."""
    folder = tmp_path_factory.mktemp("imagereward")
    unused = {"blip.vision_proj.weight": torch.zeros(2, 192), "blip.text_proj.bias": torch.zeros(2)}
    unused["blip.text_encoder.embeddings.position_ids"] = torch.arange(512)[None]
    torch.save(random_state() | unused, folder / "ImageReward.pt")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def reward(weights):
    return ImageReward(str(weights), str(weights / "vocab.txt"))


def test_the_network_computes_what_the_published_tensors_say():
    state = {key: value.double() for key, value in random_state().items()}
    network = ImageRewardNetwork(state).eval()
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randn(3, 3, 32, 32, dtype=torch.float64, generator=generator)
    tokens = torch.randint(5, len(VOCABULARY), (3, LENGTH), generator=generator)
    mask = (torch.arange(LENGTH) < torch.tensor([[4], [17], [35]])).long()
    expected = published_forward(state, pixels, tokens, mask)
    torch.testing.assert_close(network(pixels, tokens, mask), expected, rtol=1e-9, atol=1e-9)
    # The padding and the image are not lost in what the comparison tolerates.
    assert (published_forward(state, pixels, tokens, torch.ones_like(mask)) - expected).abs().max() > 1e-3
    assert expected.std() > 1e-2


def test_the_score_is_the_published_one(reward):
    rng = torch.Generator().manual_seed(2)
    images = torch.rand(3, 3, 40, 52, generator=rng)
    read = read_vocabulary(reward._vocabulary).encode_batch(PROMPTS)
    tokens, mask = torch.tensor([text.ids for text in read]), torch.tensor([text.attention_mask for text in read])
    raw = published_forward(random_state(), preprocess(images, 32), tokens, mask)
    torch.testing.assert_close(reward(images, PROMPTS), (raw - MEAN) / STD, rtol=1e-4, atol=1e-4)
    assert (MEAN, STD) == (0.16717362830052426, 1.0333394966054072)


def test_the_published_file_is_taken_whole():
    """Every key of the real file's size has a place, and with BLIP's projections they make up the file's bytes."""
    shapes = published_shapes(1024, 768, 24, 12, places=197, words=30524)
    network = ImageRewardNetwork({key: torch.empty(shape, device="meta") for key, shape in shapes.items()})
    vision, text = network.vision.config, network.text.config
    assert (network.size, vision.patch_size, vision.num_attention_heads, vision.num_hidden_layers) == (224, 16, 16, 24)
    assert (network.words, text.num_attention_heads, text.num_hidden_layers) == (30524, 12, 12)
    assert (text.hidden_size, text.intermediate_size, text.encoder_hidden_size) == (768, 3072, 1024)
    assert (vision.hidden_act, text.hidden_act) == ("gelu", "gelu")
    held = sum(parameter.numel() for parameter in network.parameters())
    assert held == sum(np.prod(shape, dtype=int) for shape in shapes.values())
    projections, positions = 256 * (1024 + 1) + 256 * (768 + 1), 512 * 8
    assert 0 < BLIP.size - (4 * (held + projections) + positions) < 500 * (len(shapes) + 5)  # an archive's headers


def test_prompts_become_berts_tokens(weights, reward):
    from transformers import BertTokenizerFast

    theirs = BertTokenizerFast.from_pretrained(weights)
    expected = theirs(PROMPTS, padding="max_length", truncation=True, max_length=LENGTH)
    ours = read_vocabulary(weights / "vocab.txt")
    assert [text.ids for text in ours.encode_batch(PROMPTS)] == expected["input_ids"]
    assert [text.attention_mask for text in ours.encode_batch(PROMPTS)] == expected["attention_mask"]
    assert [ours.token_to_id(token) for token in ("[DEC]", "[ENC]")] == [len(VOCABULARY), len(VOCABULARY) + 1]


@pytest.mark.parametrize("shape", [(64, 64), (96, 65), (31, 48), (37, 28)])
def test_preprocessing_agrees_with_pillows_bicubic(shape):
    """torchvision's Resize and CenterCrop with Pillow: int(size·long/short), and a margin rounded to even."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    photo = coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    size = 28
    high, wide = (int(size * side / min(shape)) for side in shape)
    left, top = round((wide - size) / 2), round((high - size) / 2)
    resized = photo.resize((wide, high), Image.Resampling.BICUBIC).crop((left, top, left + size, top + size))
    expected = np.asarray(resized, dtype=np.float32) / 255
    normalised = (expected - [0.48145466, 0.4578275, 0.40821073]) / [0.26862954, 0.26130258, 0.27577711]
    ours = preprocess(torch.tensor(np.asarray(photo)).permute(2, 0, 1)[None].float() / 255, size)
    assert ours.shape == (1, 3, size, size)
    assert np.abs(ours[0].permute(1, 2, 0).numpy() - normalised).max() * 0.27 < 1.5 / 255


def test_it_is_frozen_and_differentiable(reward):
    images = torch.rand(2, 3, 50, 40, requires_grad=True)
    scores = reward(images, PROMPTS[:2])
    scores.sum().backward()
    assert scores.shape == (2,)
    assert (images.grad.flatten(1).abs().sum(1) > 0).all()
    modules = list(reward.modules())
    assert modules
    assert not any(parameter.requires_grad for module in modules for parameter in module.parameters())
    assert not any(module.training for top in modules for module in top.modules())


def test_the_prompt_and_the_image_both_matter_and_bytes_score_alike(reward):
    images = torch.randint(0, 256, (1, 3, 32, 32), dtype=torch.uint8).expand(2, -1, -1, -1)
    scores = reward(images, ["a cat", "a dog"])
    assert scores[0] != scores[1]
    assert reward(255 - images, ["a cat", "a dog"])[0] != scores[0]
    assert torch.equal(reward(images.float() / 255, ["a cat", "a dog"]), scores)


def test_moving_it_loads_it_anew(reward):
    images = torch.rand(1, 3, 32, 32)
    before = reward(images, ["a cat"])
    assert reward.to("cpu") is reward
    assert torch.equal(reward(images, ["a cat"]), before)
    assert len(reward.weights_sha256) == 64


@pytest.mark.parametrize(("given", "missing"), [({}, "zai-org/ImageReward"), ({"model": True}, "bert-base-uncased")])
def test_missing_weights_are_one_sentence(monkeypatch, weights, given, missing):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=f"hf download .*{missing}") as caught:
        ImageReward(**{name: str(weights / "ImageReward.pt") for name in given})
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(weights, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.pt"):
        ImageReward(str(tmp_path / "nothing.pt"), str(weights))
    with pytest.raises(FileNotFoundError, match=r"vocab\.txt; give `tokenizer`"):
        ImageReward(str(weights), str(tmp_path))


def test_other_weights_and_another_vocabulary_are_refused(weights, tmp_path):
    images = torch.rand(1, 3, 32, 32)
    torch.save({"layers.0.weight": torch.zeros(1)}, tmp_path / "head.pth")
    with pytest.raises(RewardError, match=r"head\.pth is not in ImageReward's layout: lacks 'pos_embed'"):
        ImageReward(str(tmp_path / "head.pth"), str(weights))(images, ["a cat"])
    state = random_state()
    del state["mlp.layers.7.bias"]
    torch.save(state, tmp_path / "short.pt")
    with pytest.raises(RewardError, match=r"layers\.7\.bias") as caught:
        ImageReward(str(tmp_path / "short.pt"), str(weights))(images, ["a cat"])
    assert "\n" not in str(caught.value)
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY[:-1]) + "\n", encoding="utf-8")
    with pytest.raises(RewardError, match="BERT's uncased vocabulary"):
        ImageReward(str(weights), str(tmp_path))(images, ["a cat"])
