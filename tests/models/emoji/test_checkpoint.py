"""The frozen checkpoint, as anyone who loads it sees it."""

import json
from pathlib import Path

import pytest
import torch

from models.emoji import sample
from models.emoji.vocabulary import TRAINED
from models.loading import load_components

FOLDER = Path(sample.__file__).parent / "v1"


@pytest.fixture(scope="module")
def pipeline():  # type: ignore[no-untyped-def]
    return sample.load_pipeline(FOLDER)


def test_the_folder_is_small_and_half_precision() -> None:
    assert sum(file.stat().st_size for file in FOLDER.rglob("*") if file.is_file()) < 20e6
    index = json.loads((FOLDER / "model_index.json").read_text())
    assert index["safety_checker"] == [None, None]
    assert index["feature_extractor"] == [None, None]
    assert (FOLDER / "README.md").exists()


def test_the_scheduler_is_stable_diffusions(pipeline) -> None:  # type: ignore[no-untyped-def]
    config = pipeline.scheduler.config
    assert (config.timestep_spacing, config.steps_offset, config.set_alpha_to_one) == ("leading", 1, False)
    assert (config.clip_sample, config.prediction_type, config.beta_schedule) == (
        False,
        "v_prediction",
        "scaled_linear",
    )


def test_every_part_loads_as_single_precision() -> None:
    parts = load_components(str(FOLDER))
    assert {part.dtype for part in (parts.unet, parts.vae, parts.text_encoder)} == {torch.float32}
    assert parts.tokenizer.model_max_length == parts.text_encoder.config.max_position_embeddings == 16


def test_samples_are_pictures_and_repeat(pipeline) -> None:  # type: ignore[no-untyped-def]
    drawn = sample.draw_prompts(3, 0, TRAINED)
    first, again = (sample.sample(pipeline, drawn["captions"].tolist(), 2, 1.0, 0.0, 7) for _ in range(2))
    assert first.shape == (3, 64, 64, 3)
    assert (first == again).all()
    assert first.std() > 10
