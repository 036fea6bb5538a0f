"""The recipe: tokenizer, courses, and a checkpoint from nothing to a folder that diffusers loads."""

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from models.emoji.export import export
from models.emoji.scenes import label_names
from models.emoji.tokens import every_caption, write_tokenizer
from models.emoji.train_autoencoder import train_autoencoder
from models.emoji.train_denoiser import train_denoiser
from models.emoji.training import Course


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    """A file of noise in the scenes' format: no font needed."""
    file = tmp_path / "scenes.npz"
    images = np.random.default_rng(0).integers(0, 255, size=(60, 64, 64, 3), dtype=np.uint8)
    np.savez(
        file, images=images, captions=np.array(every_caption()[:60]), named=np.arange(60) % 13 > 0, **label_names()
    )
    return file


def test_every_word_of_the_captions_is_one_token(tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path)
    for caption in every_caption()[::37]:
        numbers = tokenizer(caption).input_ids
        assert len(numbers) == len(caption.split()) + 2
        assert tokenizer.decode(numbers, skip_special_tokens=True) == caption
    assert {"vocab.json", "merges.txt", "tokenizer.json"} <= {file.name for file in tmp_path.iterdir()}


def test_no_text_is_unknown_and_long_text_is_cut(tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path)
    assert tokenizer.eos_token_id not in tokenizer("a dragon, 3 émus!").input_ids[1:-1]
    numbers = tokenizer("cat " * 50, padding="max_length", truncation=True).input_ids
    assert len(numbers) == 16
    assert numbers[-1] == tokenizer.eos_token_id


def test_a_course_ends_at_the_nearer_limit_with_the_rate_at_zero(tmp_path: Path) -> None:
    course = Course(tmp_path / "log.jsonl", 1e-3, steps=1000, minutes=60)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    rates = []
    for _ in course.run(optimizer):
        rates.append(optimizer.param_groups[0]["lr"])
    assert len(rates) == 1000
    assert max(rates) < 1e-3
    assert rates[0] < rates[100] > rates[-1]
    assert course.learning_rate() == pytest.approx(0)
    again = Course(tmp_path / "log.jsonl", 1e-3, steps=1000, minutes=60)
    again.load_state_dict(course.state_dict())
    assert list(again.run(optimizer)) == []


def test_the_stages_resume_and_export_loads_in_diffusers(scenes: Path, tmp_path: Path) -> None:
    build = tmp_path / "build"
    train_autoencoder(scenes, scenes, build, steps=1, minutes=60)
    train_autoencoder(scenes, scenes, build, steps=2, minutes=60)
    train_denoiser(scenes, scenes, build, steps=1, minutes=60)
    train_denoiser(scenes, scenes, build, steps=2, minutes=60)
    assert torch.load(build / "denoiser.pt", weights_only=True)["course"]["step"] == 2
    assert len((build / "denoiser.jsonl").read_text().splitlines()) == 2
    out = tmp_path / "checkpoint"
    export(build, out)
    (out / "README.md").write_text("card")
    export(build, out)
    assert (out / "README.md").read_text() == "card"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["build", "checkpoint", "scenes.npz"]
    pipeline = StableDiffusionPipeline.from_pretrained(out, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(["a cat", "two dogs"], num_inference_steps=2, output_type="np").images
    assert images.shape == (2, 64, 64, 3)
    assert pipeline.text_encoder.dtype == torch.float32
