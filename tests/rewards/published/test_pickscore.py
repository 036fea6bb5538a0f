"""PickScore beside transformers' own model, used as its authors' model card does."""

import pytest
import torch

from rewards.hashing import file_sha256
from rewards.published.pickscore import PickScore
from tests.rewards.published.tiny_clip import (
    END,
    PROMPTS,
    SIZE,
    START,
    as_pillow,
    check_clip_reward,
    photos,
    write_clip,
    write_tokens,
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """As published: exact GELU, and a config of before the end token had its number in it."""
    return write_clip(tmp_path_factory.mktemp("pickscore") / "model", end=2, act="gelu")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    return write_tokens(tmp_path_factory.mktemp("pickscore") / "tokens")


@pytest.fixture
def reward(model, tokens):
    return PickScore(str(model), str(tokens))


def published(model, tokens, images, prompts):
    """The scores by the steps of the model card: each prompt with its image."""
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTokenizer

    network = CLIPModel.from_pretrained(model).eval()
    processor = CLIPImageProcessorPil(size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE})
    pixels = processor([as_pillow(image) for image in images], return_tensors="pt").pixel_values
    tokenizer = CLIPTokenizer.from_pretrained(tokens)
    text = tokenizer(prompts, padding=True, truncation=True, max_length=77, return_tensors="pt")
    with torch.no_grad():
        seen = network.get_image_features(pixel_values=pixels).pooler_output
        read = network.get_text_features(**text).pooler_output
        seen, read = (part / torch.norm(part, dim=-1, keepdim=True) for part in (seen, read))
        return network.logit_scale.exp() * (read @ seen.T).diagonal()


@pytest.mark.parametrize(("shape", "within"), [((SIZE, SIZE), 2e-5), ((96, 96), 0.15), ((61, 44), 0.15)])
def test_it_scores_as_the_model_card_does(model, tokens, reward, shape, within):
    images = photos(*shape)
    expected = published(model, tokens, images, PROMPTS)
    assert expected.std() > 8 * within
    torch.testing.assert_close(reward(images, PROMPTS), expected, atol=within, rtol=0)


def test_the_scale_is_the_models(model, tokens, reward):
    images = photos(32, 40)
    scores = reward(images, PROMPTS)
    torch.testing.assert_close(scores, reward.cosine(images.float() / 255, PROMPTS) * torch.tensor(3.0).exp())
    torch.testing.assert_close(PickScore(str(model), str(tokens), divide_by=26)(images, PROMPTS), scores / 26)
    with pytest.raises(ValueError, match="divide_by must not be 0"):
        PickScore(str(model), str(tokens), divide_by=0)


def test_it_is_frozen_differentiable_and_takes_bytes(reward):
    check_clip_reward(reward, PROMPTS)


def test_prompts_are_cut_at_77_tokens(model, tokens, reward):
    images, prompts = photos(SIZE, SIZE), ["red cat " * 60, "dog " * 300, "x" * 75]
    for prompt in prompts:
        found = reward.towers().tokens(prompt)
        assert (len(found), found[0], found[-1]) == (77, START, END)
    torch.testing.assert_close(reward(images, prompts), published(model, tokens, images, prompts), atol=2e-5, rtol=0)


def test_its_hash_is_its_weights_files(model, reward):
    assert reward.weights_sha256 == file_sha256(model / "model.safetensors")


def test_missing_weights_are_one_sentence(monkeypatch, model):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=r"hf download yuvalkirstain/PickScore_v1 config\.json") as caught:
        PickScore()
    assert "\n" not in str(caught.value)
    with pytest.raises(
        FileNotFoundError, match=r"hf download laion/CLIP-ViT-H-14.* vocab\.json merges\.txt.*tokenizer: "
    ):
        PickScore(str(model))
    with pytest.raises(FileNotFoundError, match=r"there is no vocab\.json and no merges\.txt in .*; give `tokenizer`"):
        PickScore(str(model), str(model))
