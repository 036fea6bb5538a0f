"""Captions and rendered scenes."""

from pathlib import Path

import numpy as np
import pytest

from models.emoji import scenes
from models.emoji.vocabulary import ANIMALS, COLOURS, HELD_OUT, TRAINED, caption

BY_NAME = {animal.name: animal for animal in ANIMALS}


@pytest.fixture(scope="module")
def font() -> Path:
    try:
        return scenes.find_font()
    except FileNotFoundError as problem:
        pytest.skip(str(problem))


@pytest.mark.parametrize(
    ("name", "count", "colour", "expected"),
    [
        ("cat", 1, None, "a cat"),
        ("ant", 1, None, "an ant"),
        ("octopus", 1, "orange", "an octopus on an orange background"),
        ("dog", 2, "blue", "two dogs on a blue background"),
        ("mouse", 2, None, "two mice"),
        ("goose", 3, None, "three geese"),
        ("sheep", 4, None, "four sheep"),
        ("wolf", 2, None, "two wolves"),
        ("fish", 3, "pink", "three fish on a pink background"),
    ],
)
def test_captions_are_english(name: str, count: int, colour: str | None, expected: str) -> None:
    assert caption(BY_NAME[name], count, colour) == expected


def test_the_animals_are_those_of_the_papers() -> None:
    assert len(TRAINED) == 45
    assert len(HELD_OUT) == 6
    assert len({animal.name for animal in ANIMALS}) == 51
    assert len({animal.glyph for animal in ANIMALS}) == 51
    assert len(COLOURS) == 12


def test_backgrounds_are_far_apart() -> None:
    values = np.array(list(COLOURS.values()), dtype=float)
    distances = np.linalg.norm(values[:, None] - values[None], axis=2) + 1e9 * np.eye(len(values))
    assert distances.min() > 40


def test_the_same_seed_gives_the_same_scenes(font: Path) -> None:
    first, again, other = (scenes.render(12, seed, font) for seed in (3, 3, 4))
    assert np.array_equal(first["images"], again["images"])
    assert first["captions"].tolist() == again["captions"].tolist()
    assert not np.array_equal(first["images"], other["images"])


def test_labels_say_what_is_drawn(font: Path) -> None:
    drawn = scenes.render(60, 5, font)
    assert drawn["images"].shape == (60, 64, 64, 3)
    for row in range(60):
        colour = list(COLOURS)[drawn["colour"][row]]
        animal = ANIMALS[drawn["animal"][row]]
        assert tuple(drawn["images"][row, 0, 0]) == COLOURS[colour]
        named = colour if drawn["named"][row] else None
        assert drawn["captions"][row] == caption(animal, int(drawn["count"][row]), named)


def test_every_animal_has_a_glyph_that_fits(font: Path) -> None:
    painter = scenes.Painter(font)
    for animal in ANIMALS:
        image = painter.paint(animal, "grey", 1, np.random.default_rng(0)).astype(int)
        drawn = np.abs(image - np.array(COLOURS["grey"])).sum(2) > 30
        assert 0.15 < drawn.mean() < 0.85, animal.name
        assert not drawn[0].any() or not drawn[-1].any(), animal.name


def test_the_held_out_animals_can_be_left_out(font: Path) -> None:
    drawn = scenes.render(200, 1, font, TRAINED)
    assert drawn["animal"].max() < len(TRAINED)


def test_a_missing_font_is_one_helpful_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(scenes, "FONT_FOLDERS", (str(tmp_path),))
    with pytest.raises(FileNotFoundError, match="fonts-noto-color-emoji"):
        scenes.find_font()
    with pytest.raises(FileNotFoundError, match=r"nowhere\.ttf"):
        scenes.find_font(tmp_path / "nowhere.ttf")
