"""The embedded networks: frozen, differentiable, and right about scenes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from models.emoji import scenes
from models.emoji.vocabulary import ANIMALS, COLOURS, HELD_OUT, TRAINED
from rewards import registry
from rewards.base import RewardError
from rewards.emoji import augment
from rewards.emoji.classifier import find_animal, load_labels
from rewards.emoji.measure import measure
from rewards.emoji.neighbours import neighbours_accuracy
from rewards.emoji.rule import preference
from rewards.emoji.train_aesthetic import strange, train_aesthetic

NAMES = ("emoji-aesthetic", "emoji-aesthetic-gold", "emoji-animal")


@pytest.fixture(scope="module")
def drawn() -> dict[str, np.ndarray]:
    try:
        return scenes.render(200, 77, animals=TRAINED)
    except FileNotFoundError as problem:
        pytest.skip(str(problem))


def as_images(drawn: dict[str, np.ndarray]) -> torch.Tensor:
    return torch.from_numpy(drawn["images"]).permute(0, 3, 1, 2).float() / 255


def test_the_labels_are_the_vocabularys() -> None:
    labels = load_labels()
    assert labels.animals == tuple(animal.name for animal in ANIMALS)
    assert labels.plurals == tuple(animal.plural for animal in ANIMALS)
    assert labels.colours == tuple(COLOURS)
    assert labels.held_out == tuple(animal.name for animal in HELD_OUT)


@pytest.mark.parametrize("name", NAMES)
def test_weights_are_frozen_small_and_hashed(name: str) -> None:
    reward = registry.build(name)
    network = reward.network if name == "emoji-aesthetic" else reward.classifier.network  # type: ignore[attr-defined]
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    assert reward.weights_sha256 is not None
    assert len(reward.weights_sha256) == 64


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [64, 96])
def test_gradients_reach_the_images(name: str, size: int) -> None:
    images = torch.rand(2, 3, size, size, requires_grad=True)
    registry.build(name)(images, ["a cat", "two dogs"]).sum().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()
    assert (images.grad.flatten(1).abs().sum(1) > 0).all()


@pytest.mark.parametrize(
    ("prompt", "animal"),
    [("a cat", "cat"), ("Two Mice on a blue background", "mouse"), ("three geese", "goose"), ("an octopus", "octopus")],
)
def test_the_prompts_animal_is_found(prompt: str, animal: str) -> None:
    labels = load_labels()
    assert labels.animals[find_animal(prompt, labels, "test")] == animal


def test_a_prompt_without_a_known_animal_is_a_clear_error() -> None:
    with pytest.raises(RewardError, match="'emoji-aesthetic-gold' found no animal it knows in the prompt 'a castle'"):
        registry.build("emoji-aesthetic-gold")(torch.rand(1, 3, 64, 64), ["a castle"])


def test_the_classifier_recognises_scenes(drawn: dict[str, np.ndarray]) -> None:
    images = torch.from_numpy(drawn["images"]).permute(0, 3, 1, 2)
    figures = measure(images, drawn)
    assert figures["animal"] > 0.97
    assert figures["background"] > 0.97
    assert figures["count"] > 0.97


def test_captions_of_other_pictures_are_right_by_chance_only(drawn: dict[str, np.ndarray]) -> None:
    images = torch.from_numpy(drawn["images"]).permute(0, 3, 1, 2)
    assert measure(images, drawn)["animal_by_chance"] < 0.1


def test_the_nearest_renderings_agree_with_the_captions(drawn: dict[str, np.ndarray]) -> None:
    images = torch.from_numpy(drawn["images"]).permute(0, 3, 1, 2)
    rendered = scenes.render(2500, 78, animals=TRAINED)
    renderings = torch.from_numpy(rendered["images"]).permute(0, 3, 1, 2)
    assert neighbours_accuracy(images, drawn, renderings, rendered) > 0.9
    wrong = {**drawn, "animal": np.roll(drawn["animal"], 1)}
    assert neighbours_accuracy(images, wrong, renderings, rendered) < 0.1


def test_blobs_and_shuffled_patches_show_no_animal(drawn: dict[str, np.ndarray]) -> None:
    reward = registry.build("emoji-animal")
    torch.manual_seed(0)
    prompts = drawn["captions"].tolist()[:60]
    images = as_images(drawn)[:60]
    assert reward(images, prompts).mean() > 0.9
    assert reward(augment.shuffle_patches(images, 8), prompts).mean() < 0.1
    assert reward(augment.colour_blobs(60).clamp(0, 1), prompts).mean() < 0.1


def test_gold_is_the_rule_times_the_animals_probability(drawn: dict[str, np.ndarray]) -> None:
    images, prompts = as_images(drawn)[:20], drawn["captions"].tolist()[:20]
    expected = preference(images) * registry.build("emoji-animal")(images, prompts)
    torch.testing.assert_close(registry.build("emoji-aesthetic-gold")(images, prompts), expected)


def test_features_are_unit_vectors_nearer_for_the_same_animal(drawn: dict[str, np.ndarray]) -> None:
    reward = registry.build("emoji-animal")
    features = reward.embed(as_images(drawn))  # type: ignore[attr-defined]
    torch.testing.assert_close(features.norm(dim=1), torch.ones(len(features)))
    similar = features @ features.T
    same = torch.from_numpy(drawn["animal"][:, None] == drawn["animal"][None])
    same.fill_diagonal_(False)
    assert similar[same].mean() > similar[~same].mean() + 0.1


def test_the_aesthetic_predictor_ranks_as_the_rule(drawn: dict[str, np.ndarray]) -> None:
    reward = registry.build("emoji-aesthetic")
    torch.manual_seed(0)
    for images in (as_images(drawn), strange(200)):
        scores = reward(images, ["a cat"] * len(images))
        assert spearmanr(scores, preference(images)).statistic > 0.9


def test_held_out_animals_are_refused_as_training_data(tmp_path: Path) -> None:
    names = scenes.label_names()
    images = np.zeros((2, 64, 64, 3), dtype=np.uint8)
    file = tmp_path / "scenes.npz"
    np.savez(file, images=images, animal=np.array([0, len(ANIMALS) - 1]), **names)
    with pytest.raises(SystemExit, match="held-out"):
        train_aesthetic(file, [], tmp_path, steps=1)
