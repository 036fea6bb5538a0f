"""The real architecture with random tiny weights, in the published files' layout."""

import numpy as np
import pytest
import torch
from PIL import Image

from rewards.published.clip import preprocess
from rewards.published.laion import AestheticHead, LaionAesthetic

PUBLISHED = {  # sac+logos+ava1-l14-linearMSE.pth
    "layers.0.weight": (1024, 768),
    "layers.0.bias": (1024,),
    "layers.2.weight": (128, 1024),
    "layers.2.bias": (128,),
    "layers.4.weight": (64, 128),
    "layers.4.bias": (64,),
    "layers.6.weight": (16, 64),
    "layers.6.bias": (16,),
    "layers.7.weight": (1, 16),
    "layers.7.bias": (1,),
}


def test_the_head_has_the_published_layout():
    assert {key: tuple(value.shape) for key, value in AestheticHead(768).state_dict().items()} == PUBLISHED


def test_it_scores_is_frozen_and_differentiable(laion_weights):
    reward = LaionAesthetic(str(laion_weights / "clip"), str(laion_weights / "head.pth"))
    images = torch.rand(3, 3, 64, 48, requires_grad=True)
    scores = reward(images, ["a cat"] * 3)
    scores.sum().backward()
    assert scores.shape == (3,)
    assert images.grad.abs().sum() > 0
    vision, head = reward.network().vision, reward.network().head
    assert not any(parameter.requires_grad for part in (vision, head) for parameter in part.parameters())
    assert not vision.training
    assert not head.training
    # The embedding has unit length, so a brighter scale of the same embedding cannot raise the score.
    torch.testing.assert_close(reward.embed(images).norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("shape", [(512, 512), (96, 64), (31, 47)])
def test_preprocessing_agrees_with_pillows_bicubic(shape):
    """CLIPImageProcessor's steps with Pillow: resize the shorter side, centre crop, normalise."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    photo = coarse.resize((shape[1], shape[0]), Image.Resampling.BICUBIC)
    size, scale = 28, 28 / min(shape)
    resized = photo.resize((int(shape[1] * scale), int(shape[0] * scale)), Image.Resampling.BICUBIC)
    left, top = (resized.width - size) // 2, (resized.height - size) // 2
    expected = np.asarray(resized.crop((left, top, left + size, top + size)), dtype=np.float32) / 255
    tensor = torch.tensor(np.asarray(photo)).permute(2, 0, 1)[None].float() / 255
    ours = preprocess(tensor, size)[0].permute(1, 2, 0).numpy()
    normalised = (expected - [0.48145466, 0.4578275, 0.40821073]) / [0.26862954, 0.26130258, 0.27577711]
    assert np.abs(ours - normalised).max() * 0.27 < 1.5 / 255


def test_missing_weights_are_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match="hf download openai/clip-vit-large-patch14") as caught:
        LaionAesthetic()
    assert "\n" not in str(caught.value)


def test_a_missing_head_is_named(laion_weights, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.pth"):
        LaionAesthetic(str(laion_weights / "clip"), str(tmp_path / "nothing.pth"))
