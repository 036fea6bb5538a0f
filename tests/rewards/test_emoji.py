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
from rewards.emoji.labels import load_labels
from rewards.emoji.measure import measure
from rewards.emoji.neighbours import neighbours_accuracy
from rewards.emoji.prompt import Wanted, read_prompt, wanted_count
from rewards.emoji.rule import preference
from rewards.emoji.train_aesthetic import strange, train_aesthetic
from rewards.emoji.train_alignment import alter, attributes_of, fits, words

NAMES = (
    "emoji-aesthetic",
    "emoji-aesthetic-gold",
    "emoji-alignment",
    "emoji-alignment-gold",
    "emoji-animal",
    "emoji-count",
    "emoji-count-gold",
)


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
    (network,) = reward.modules()
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
    assert labels.animals[read_prompt(prompt, labels, "test").animal] == animal


@pytest.mark.parametrize(
    ("prompt", "count", "colour"),
    [
        ("a cat", 1, None),
        ("two dogs", 2, None),
        ("dogs, three", 3, None),
        ("dogs", None, None),
        ("a sheep", 1, None),
        ("sheep", None, None),
        ("Four mice in a teal background", 4, "teal"),
    ],
)
def test_what_a_prompt_asks_for(prompt: str, count: int | None, colour: str | None) -> None:
    labels = load_labels()
    found = read_prompt(prompt, labels, "test")
    assert found.count == count
    assert found == Wanted(found.animal, count, labels.colours.index(colour) if colour else None)


def test_alignment_prefers_the_caption_that_fits(drawn: dict[str, np.ndarray]) -> None:
    images, labels = as_images(drawn), load_labels()
    shown, _ = attributes_of(drawn)
    torch.manual_seed(0)
    reward, gold = registry.build("emoji-alignment"), registry.build("emoji-alignment-gold")
    right = [words(row, labels) for row in shown.tolist()]
    for kind in range(3):
        wrong = [words(row, labels) for row in alter(shown, kind, labels).tolist()]
        assert (reward(images, right) > reward(images, wrong)).float().mean() > 0.95
        assert (gold(images, right) > gold(images, wrong)).float().mean() > 0.95


def test_the_order_of_a_prompts_words_does_not_matter() -> None:
    images = torch.rand(1, 3, 64, 64)
    reward = registry.build("emoji-alignment")
    torch.testing.assert_close(
        reward(images, ["two dogs on a blue background"]), reward(images, ["a blue place with dogs: two"])
    )
    with pytest.raises(RewardError, match="knows no word of the prompt 'a castle'"):
        reward(images, ["a castle"])
    torch.testing.assert_close(reward(images, ["one dog"]), reward(images, ["a dog"]))


def test_counting_sees_the_number(drawn: dict[str, np.ndarray]) -> None:
    images, counts = as_images(drawn), drawn["count"]
    reward = registry.build("emoji-count")
    scores = torch.stack(
        [reward(images, [f"{number} dogs"] * len(images)) for number in ("one", "two", "three", "four")]
    )
    assert ((scores.argmax(0) + 1).numpy() == counts).mean() > 0.95
    assert float(scores.min()) >= -3
    assert float(scores.max()) <= 0


def test_changed_captions_differ_in_the_one_thing() -> None:
    things = torch.tensor([[5, 2, 3], [5, 4, -1]]).repeat(50, 1)
    labels = load_labels()
    for kind in range(3):
        changed = alter(things, kind, labels)
        kept = [column for column in range(3) if column != kind]
        assert torch.equal(changed[:, kept], things[:, kept])
        assert (changed[:, kind] != things[:, kind]).all()
        assert words(changed[0].tolist(), labels)
    assert set(alter(things, 1, labels)[:, 1].tolist()) <= {1, 2, 3, 4}


def test_which_captions_fit_an_image() -> None:
    images = torch.tensor([[5, 2, 3]])
    captions = torch.tensor([[5, 2, 3], [5, 2, -1], [5, 2, 4], [5, 1, 3], [6, 2, 3]])
    assert fits(images, captions).tolist() == [[True, True, False, False, False]]


def test_a_prompt_without_a_count_cannot_be_counted() -> None:
    with pytest.raises(RewardError, match="'test' found no count in the prompt 'dogs'"):
        wanted_count("dogs", load_labels(), "test")


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
