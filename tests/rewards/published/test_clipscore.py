"""CLIPScore, and what all rewards on CLIP share, beside transformers' own model and processor."""

import shutil

import pytest
import torch

from rewards.base import RewardError
from rewards.hashing import file_sha256
from rewards.published import clip
from rewards.published.clipscore import ClipScore
from tests.rewards.published.tiny_clip import END, PROMPTS, SIZE, START, as_pillow, photos, write_clip, write_tokens


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tokens(write_clip(tmp_path_factory.mktemp("clipscore") / "clip"))


@pytest.fixture
def reward(folder):
    return ClipScore(str(folder))


def published(folder, images, prompts):
    """The cosines as transformers computes them from Pillow images and padded prompts."""
    from transformers import CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer

    sizes = {"size": {"shortest_edge": SIZE}, "crop_size": {"height": SIZE, "width": SIZE}}
    processor = CLIPProcessor(CLIPImageProcessorPil(**sizes), CLIPTokenizer.from_pretrained(folder))
    inputs = processor(
        images=[as_pillow(image) for image in images],
        text=prompts,
        padding=True,
        truncation=True,
        max_length=77,
        return_tensors="pt",
    )
    model = CLIPModel.from_pretrained(folder).eval()
    with torch.no_grad():
        found = model(**inputs)
    return found.logits_per_image.diagonal() / model.logit_scale.exp()


@pytest.mark.parametrize(
    ("shape", "within"),
    [((SIZE, SIZE), 1e-6), ((96, 96), 8e-3), ((61, 44), 8e-3), ((20, 47), 8e-3)],  # Pillow rounds what it resizes
)
def test_it_is_the_cosine_that_transformers_computes(folder, reward, shape, within):
    images = photos(*shape)
    expected = published(folder, images, PROMPTS)
    scores = reward(images, PROMPTS)
    assert expected.std() > 8 * within  # or agreement would mean nothing
    torch.testing.assert_close(scores, expected, atol=within, rtol=0)


def test_scales_are_the_three_that_are_about(folder, reward):
    images = photos(40, 32)
    cosine = reward(images, PROMPTS)
    assert cosine.min() < 0 < cosine.max()
    torch.testing.assert_close(ClipScore(str(folder), scale=100)(images, PROMPTS), 100 * cosine)
    hessel = ClipScore(str(folder), scale=2.5, floor=True)(images, PROMPTS)
    torch.testing.assert_close(hessel, 2.5 * cosine.clamp(min=0))


def test_a_prefix_is_part_of_the_prompt(folder, reward):
    images = photos(32, 32)
    depicts = ["A photo depicts " + prompt for prompt in PROMPTS]
    with_prefix = ClipScore(str(folder), prefix="A photo depicts ")
    torch.testing.assert_close(with_prefix(images, PROMPTS), reward(images, depicts))


def test_it_is_frozen_and_differentiable(reward):
    images = torch.rand(3, 3, 37, 50, requires_grad=True)
    scores = reward(images, PROMPTS)
    scores.sum().backward()
    assert all(gradient.abs().sum() > 0 for gradient in images.grad)
    towers = next(iter(reward.modules()))
    assert towers is reward.towers()
    assert not any(parameter.requires_grad for parameter in towers.parameters())
    assert not any(module.training for module in towers.modules())
    assert not reward.towers().prompts(PROMPTS).requires_grad


def test_the_gradient_is_the_slope(reward):
    images = photos(40, 33).float().div(255).clamp(0.1, 0.9).requires_grad_()
    (gradient,) = torch.autograd.grad(reward(images, PROMPTS).sum(), images)
    step = 0.02 * gradient / gradient.norm()
    with torch.no_grad():
        ahead, behind = reward(images + step, PROMPTS), reward(images - step, PROMPTS)
    slope = (ahead.double() - behind.double()).sum() / 2
    assert float((gradient * step).sum()) == pytest.approx(float(slope), rel=0.01)


def test_bytes_and_floats_score_the_same(reward):
    images = photos(45, 60)
    assert torch.equal(reward(images, PROMPTS), reward(images.float() / 255, PROMPTS))


@pytest.mark.parametrize("shape", [(SIZE, SIZE), (1, 1), (7, 90), (200, 31)])
def test_it_takes_images_of_any_size(reward, shape):
    features = reward.embed(torch.rand(2, 3, *shape))
    assert features.shape == (2, 8)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(2))


def test_prompts_are_cut_at_77_tokens(reward):
    images = photos(32, 32, count=1)
    towers = reward.towers()
    long = "red cat " * 60
    tokens = towers.tokens(long)
    assert (len(tokens), tokens[0], tokens[-1]) == (77, START, END)
    assert towers.tokens("red cat") == [START, tokens[1], tokens[2], END]
    assert towers.tokens("") == [START, END]
    assert torch.equal(reward(images, [long]), reward(images, [long + "dog"]))
    assert not torch.equal(reward(images, [long]), reward(images, ["dog " + long]))


def test_a_prompt_is_embedded_once_and_whatever_is_beside_it(reward, monkeypatch):
    images, towers = photos(32, 32, count=1), reward.towers()
    alone = reward(images, ["a red cat"])
    read = []
    towers.model.text_model.register_forward_pre_hook(lambda module, inputs: read.append(module))
    both = reward(images.repeat(3, 1, 1, 1), ["a red cat", "dog " * 50, "a red cat"])
    assert len(read) == 1
    assert torch.equal(both[0], both[2])
    torch.testing.assert_close(both[:1], alone)
    monkeypatch.setattr(clip, "KEPT_PROMPTS", 2)
    many = [f"cat {index}" for index in range(5)]
    assert towers.prompts(many).shape == (5, 8)
    assert list(towers._embeddings) == many[-2:]
    towers.to("cpu")
    assert not towers._embeddings


def test_half_precision_images_are_scored_in_single(reward):
    images = photos(SIZE, SIZE).float().div(255).to(torch.bfloat16)
    assert torch.equal(reward(images, PROMPTS), reward(images.float(), PROMPTS))


def test_its_hash_is_its_weights_files(folder, reward):
    assert reward.weights_sha256 == file_sha256(folder / "model.safetensors")


def test_missing_weights_are_one_sentence(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=r"hf download openai/clip-vit-large-patch14 config\.json") as caught:
        ClipScore()
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_tokenizer_is_refused_at_once(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "clip")
    (tmp_path / "clip" / "merges.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no merges\.txt in .*clip; give `model`"):
        ClipScore(str(tmp_path / "clip"))
    (tmp_path / "clip" / "tokenizer.json").touch()  # it holds both
    ClipScore(str(tmp_path / "clip"))


def test_a_tokenizer_in_one_file_is_the_same(folder, reward, tmp_path):
    from transformers import CLIPTokenizer

    CLIPTokenizer.from_pretrained(folder).save_pretrained(tmp_path)
    for name in ("config.json", "model.safetensors"):
        shutil.copy(folder / name, tmp_path)
    assert not (tmp_path / "vocab.json").exists()
    images = photos(32, 32)
    assert torch.equal(ClipScore(str(tmp_path))(images, PROMPTS), reward(images, PROMPTS))


def test_half_a_clip_is_no_clip(folder, laion_weights, tmp_path):
    """transformers would give the missing tower random weights."""
    write_tokens(tmp_path)
    shutil.copy(folder / "config.json", tmp_path)
    shutil.copy(laion_weights / "clip" / "model.safetensors", tmp_path)
    with pytest.raises(RewardError, match="is no whole CLIP: it lacks"):
        ClipScore(str(tmp_path))(photos(32, 32), PROMPTS)


def test_another_models_tokenizer_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "clip")
    (tmp_path / "clip" / "vocab.json").write_text('{"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2}')
    (tmp_path / "clip" / "merges.txt").write_text("#version: 0.2\n")
    with pytest.raises(RewardError, match=r"the tokenizer has 3 tokens, but its model 520"):
        ClipScore(str(tmp_path / "clip"))(photos(32, 32), PROMPTS)


@pytest.mark.parametrize("shape", [(45, 5), (5, 85), (224, 300), (31, 47)])
def test_the_longer_side_is_rounded_as_transformers_rounds_it(shape, monkeypatch):
    from transformers.image_transforms import get_resize_output_image_size

    seen = []
    resize = clip.resize
    monkeypatch.setattr(clip, "resize", lambda images, *size: seen.append(size) or resize(images, *size))
    assert clip.preprocess(torch.rand(1, 3, *shape), 224).shape == (1, 3, 224, 224)
    expected = get_resize_output_image_size(torch.zeros(3, *shape).numpy(), 224, default_to_square=False)
    assert seen == [tuple(expected)]
