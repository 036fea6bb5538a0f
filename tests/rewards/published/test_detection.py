"""Counts of hand-made boxes; both detectors with random tiny weights, beside transformers' own processors."""

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from rewards.base import RewardError
from rewards.published.counting import expected_count, overlaps, sameness, soft_maximum, soft_threshold
from rewards.published.detection import ObjectCount, ObjectRemoval, find_number, find_object
from rewards.published.detectors import yolos_pixels

TOKENIZER = Path(__file__).parents[3] / "models" / "emoji" / "v1" / "tokenizer"
CLASSES = {0: "N/A", 1: "person", 2: "cat", 3: "hot dog", 4: "dog"}
LEFT, RIGHT, CENTRE = (0.2, 0.5, 0.3, 0.4), (0.8, 0.5, 0.3, 0.4), (0.5, 0.5, 0.3, 0.4)


@pytest.fixture(scope="module")
def owlvit(tmp_path_factory):
    """16 patches of an image of 32 pixels, and the embedded model's CLIP tokenizer."""
    from transformers import OwlViTConfig, OwlViTForObjectDetection

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("detection") / "owlvit"
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    ends = {"bos_token_id": 807, "eos_token_id": 808, "pad_token_id": 0}
    config = OwlViTConfig(
        text_config={**small, "vocab_size": 809, "max_position_embeddings": 16, **ends},
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    OwlViTForObjectDetection(config).save_pretrained(folder)
    for path in TOKENIZER.iterdir():
        shutil.copy(path, folder / path.name)
    return str(folder)


@pytest.fixture(scope="module")
def yolos(tmp_path_factory):
    """Five detection tokens, five classes, the shorter side at 32 pixels."""
    from transformers import YolosConfig, YolosForObjectDetection

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("detection") / "yolos"
    config = YolosConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=[32, 48],
        num_detection_tokens=5,
        initializer_range=0.5,
        id2label=CLASSES,
        label2id={label: index for index, label in CLASSES.items()},
    )
    YolosForObjectDetection(config).save_pretrained(folder)
    sizes = {"shortest_edge": 32, "longest_edge": 48}
    (folder / "preprocessor_config.json").write_text(json.dumps({"size": sizes}), encoding="utf-8")
    return str(folder)


@pytest.fixture(scope="module", params=["owlvit", "yolos"])
def detector(request):
    return {"detector": request.param, "model": request.getfixturevalue(request.param)}


def photo(height: int, width: int) -> Image.Image:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
    return coarse.resize((width, height), Image.Resampling.BICUBIC)


def tensor_of(image: Image.Image) -> torch.Tensor:
    return torch.tensor(np.asarray(image)).permute(2, 0, 1)[None].float() / 255


def counted(probabilities, boxes) -> float:
    found = torch.tensor([probabilities], dtype=torch.float64)
    return expected_count(found, torch.tensor([boxes], dtype=torch.float64)).item()


# -- counting --------------------------------------------------------------------------------------------------


def test_objects_are_counted_once():
    assert counted([1, 1], [LEFT, RIGHT]) == pytest.approx(2)
    assert counted([1] * 5, [LEFT] * 5) == pytest.approx(1)
    assert counted([1] * 100, [LEFT] * 100) == pytest.approx(1, abs=0.01)
    assert counted([1] * 6 + [1e-3] * 50, [LEFT] * 3 + [RIGHT] * 3 + [CENTRE] * 50) == pytest.approx(2.05, abs=0.01)
    assert counted([0] * 5, [LEFT, RIGHT, CENTRE, LEFT, LEFT]) == 0
    # Copies that are a little off are the same object (IoU 0.8), neighbours that touch are not (IoU 0.2).
    nearly = [(0.2 + shift, 0.5, 0.3, 0.4) for shift in (-0.016, 0, 0.016)]
    assert counted([1, 1, 1], nearly) == pytest.approx(1, abs=0.02)
    assert counted([1, 1], [LEFT, (0.4, 0.5, 0.3, 0.4)]) == pytest.approx(2, abs=0.02)


def test_copies_count_as_the_probability_of_any_and_boxes_apart_as_the_sum():
    chances = [0.9, 0.3, 0.2, 0.05]
    assert counted(chances, [LEFT] * 4) == pytest.approx(1 - np.prod(1 - np.array(chances)), abs=1e-9)
    apart = [(0.1 + 0.25 * place, 0.5, 0.1, 0.4) for place in range(4)]
    assert counted(chances, apart) == pytest.approx(sum(chances), abs=1e-9)


def test_the_count_is_the_expectation_over_all_sets_of_finds():
    generator = torch.Generator().manual_seed(0)
    boxes = 0.3 + 0.2 * torch.rand(1, 5, 4, dtype=torch.float64, generator=generator)
    chances = torch.rand(1, 5, dtype=torch.float64, generator=generator)
    same = sameness(overlaps(boxes))[0].fill_diagonal_(1)
    assert ((same > 0.1) & (same < 0.9)).any()
    expected = 0.0
    for there in itertools.product((0.0, 1.0), repeat=5):
        z = torch.tensor(there, dtype=torch.float64)
        likelihood = (z * chances[0] + (1 - z) * (1 - chances[0])).prod()
        expected += likelihood * (z / (same @ z).clamp(min=1)).sum()
    torch.testing.assert_close(expected_count(chances, boxes)[0], expected, rtol=0, atol=1e-4)


def test_overlaps_are_ious():
    boxes = torch.tensor([[LEFT, LEFT, (0.275, 0.5, 0.15, 0.4), RIGHT, (0.2, 0.5, 0.0, 0.0)]])
    expected = torch.tensor([1, 1, 0.5, 0, 0])
    torch.testing.assert_close(overlaps(boxes)[0, 0], expected)
    ends = sameness(torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0]))
    torch.testing.assert_close(ends, torch.tensor([0, 0.0067, 0.5, 0.9933, 1]), rtol=0, atol=1e-3)


def test_more_evidence_of_an_object_counts_more():
    log_odds = torch.linspace(-8, 8, 33, dtype=torch.float64)
    for others in ([], [(RIGHT, 1.0)], [(LEFT, -1.0), (RIGHT, 3.0)]):
        boxes = torch.tensor([LEFT, *(box for box, _ in others)], dtype=torch.float64).expand(33, -1, -1)
        beside = torch.tensor([value for _, value in others], dtype=torch.float64).expand(33, -1)
        found = soft_threshold(torch.cat([log_odds[:, None], beside], 1), threshold=0.1, temperature=0.5)
        assert (expected_count(found, boxes).diff() > 0).all()


def test_gradients_agree_with_finite_differences():
    generator = torch.Generator().manual_seed(3)
    log_odds = torch.randn(2, 6, dtype=torch.float64, generator=generator, requires_grad=True)
    boxes = (0.3 + 0.3 * torch.rand(2, 6, 4, dtype=torch.float64, generator=generator)).requires_grad_(True)

    def count(log_odds, boxes):
        return expected_count(soft_threshold(log_odds, 0.3, 0.5), boxes)

    assert torch.autograd.gradcheck(count, (log_odds, boxes))
    assert torch.autograd.gradcheck(lambda x: soft_maximum(x.sigmoid(), 0.05), (log_odds,))


def test_the_soft_threshold_is_the_probability_at_one_half_and_half_at_the_threshold():
    log_odds = torch.linspace(-3, 3, 7)
    torch.testing.assert_close(soft_threshold(log_odds, 0.5, 1.0), log_odds.sigmoid())
    at = torch.tensor(0.1).logit()
    assert soft_threshold(at, 0.1, 0.3).item() == pytest.approx(0.5)


def test_the_soft_maximum_stays_in_range_and_rises_with_every_value():
    values = torch.rand(4, 100, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    found = soft_maximum(values, 0.01)
    found.sum().backward()
    highest = values.amax(1)
    assert (found <= highest).all()
    assert (found >= highest - 0.01 * np.log(100) - 1e-6).all()
    assert (values.grad >= 0).all()
    assert soft_maximum(torch.full((1, 100), 0.7), 0.01).item() == pytest.approx(0.7, abs=1e-6)


# -- prompts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "name", "number"),
    [
        ("a cat", "cat", 1),
        ("An Orange CAT.", "cat", 1),
        ("a photo of three red cats", "cat", 3),
        ("ten people and two dogs", "person", 10),
        ("two hot dogs and a cat", "hot dog", 2),
        ("12 butterflies", "butterfly", 12),
        ("cats, two of them", "cat", None),
        ("four wolves", "wolf", 4),
        ("five buses", "bus", 5),
        ("a catalogue of dogmas", None, None),
    ],
)
def test_prompts_are_read(prompt, name, number):
    found = find_object(prompt, ["dog", "cat", "hot dog", "person", "butterfly", "wolf", "bus"])
    assert (found and found[0]) == name
    if found:
        assert find_number(prompt, found[1]) == number


# -- preprocessing ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(40, 40), (64, 50), (50, 77), (32, 100), (200, 60), (32, 48), (16, 20)])
def test_yolos_pixels_are_its_processors(shape):
    processing = pytest.importorskip("transformers.models.yolos.image_processing_pil_yolos")
    processor = processing.YolosImageProcessorPil(size={"shortest_edge": 40, "longest_edge": 90})
    theirs = processor(images=photo(*shape), return_tensors="pt")["pixel_values"]
    ours = yolos_pixels(tensor_of(photo(*shape)), 40, 90)
    assert ours.shape == theirs.shape
    assert (ours - theirs).abs().max() * 0.23 < 1.5 / 255


@pytest.mark.parametrize("shape", [(32, 32), (64, 50), (20, 90)])
def test_owlvit_pixels_are_its_processors(owlvit, shape):
    processing = pytest.importorskip("transformers.models.owlvit.image_processing_pil_owlvit")
    processor = processing.OwlViTImageProcessorPil(size={"height": 32, "width": 32})
    theirs = processor(images=photo(*shape), return_tensors="pt")["pixel_values"]
    reward = ObjectCount(model=owlvit, object="cat", count=1)
    reward(tensor_of(photo(*shape)), [""])  # loads it
    seen = []
    reward._detector.model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["pixel_values"]), with_kwargs=True
    )
    reward(tensor_of(photo(*shape)), [""])
    assert (seen[0] - theirs).abs().max() * 0.27 < 1.5 / 255


# -- detectors -------------------------------------------------------------------------------------------------


def test_yolos_finds_what_transformers_finds(yolos):
    from transformers import YolosForObjectDetection

    images, names = torch.rand(3, 3, 32, 48), ["cat", "dog", "person"]
    log_odds, boxes = ObjectCount("yolos", yolos, objects=names)._detector.detect(images, names)
    model = YolosForObjectDetection.from_pretrained(yolos).eval()
    with torch.no_grad():
        said = model(pixel_values=yolos_pixels(images, 32, 48))
    expected = said.logits.softmax(2)[torch.arange(3), :, torch.tensor([2, 4, 1])]
    torch.testing.assert_close(log_odds.sigmoid(), expected)
    torch.testing.assert_close(boxes, said.pred_boxes)


def test_owlvit_finds_what_transformers_finds(owlvit):
    from transformers import AutoTokenizer, OwlViTForObjectDetection

    images, names = torch.rand(2, 3, 32, 32), ["cat", "octopus"]
    log_odds, boxes = ObjectCount(model=owlvit, objects=names)._detector.detect(images, names)
    model = OwlViTForObjectDetection.from_pretrained(owlvit).eval()
    tokenizer = AutoTokenizer.from_pretrained(owlvit)
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    pixels = (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
    for row, query in enumerate(("a photo of a cat", "a photo of an octopus")):
        text = tokenizer([query, "a photo of a tree"], padding="max_length", max_length=16, return_tensors="pt")
        with torch.no_grad():
            said = model(pixel_values=pixels[row : row + 1], **text)
        torch.testing.assert_close(log_odds[row], said.logits[0, :, 0])
        torch.testing.assert_close(boxes[row], said.pred_boxes[0])


# -- rewards ---------------------------------------------------------------------------------------------------


def test_removal_is_one_less_what_is_found(yolos):
    images, names = torch.rand(3, 3, 32, 48), ["cat"] * 3
    likely = ObjectRemoval("yolos", yolos, object="cat")._detector.detect(images, names).log_odds.sigmoid()
    hard = ObjectRemoval("yolos", yolos, object="cat", temperature=1e-5)
    torch.testing.assert_close(hard(images, names), 1 - likely.amax(1), rtol=0, atol=1e-4)
    threshold = float(likely.median())
    mean = ObjectRemoval("yolos", yolos, object="cat", reduce="mean", threshold=threshold)(images, names)
    for row, score in zip(likely, mean, strict=True):
        found = row[row > threshold]
        assert score.item() == pytest.approx(1 - (float(found.mean()) if len(found) else 0), abs=1e-6)
    nothing = ObjectRemoval("yolos", yolos, object="cat", reduce="mean", threshold=1 - 1e-6)
    torch.testing.assert_close(nothing(images, names), torch.ones(3))


def test_the_count_is_compared_with_the_prompt(detector):
    images = torch.rand(3, 3, 32, 40)
    prompts = ["a cat", "two people", "four dogs and a cat"]
    reward = ObjectCount(**detector, objects=["dog", "cat", "person"])
    count = reward.count(images, ["cat", "person", "dog"])
    assert (count > 0).all()
    torch.testing.assert_close(reward(images, prompts), -(count - torch.tensor([1.0, 2.0, 4.0])).abs())
    fixed = ObjectCount(**detector, object="cat", count=7)
    cats = reward.count(images, ["cat"] * 3)
    torch.testing.assert_close(fixed(images, ["whatever"] * 3), -(cats - 7).abs())


@pytest.mark.parametrize("kind", [ObjectCount, ObjectRemoval])
@pytest.mark.parametrize("shape", [(32, 32), (24, 60)])
def test_it_is_frozen_and_differentiable_and_bytes_score_alike(detector, kind, shape):
    reward = kind(**detector, objects=["cat", "dog"])
    pixels = torch.randint(0, 256, (2, 3, *shape), dtype=torch.uint8)
    images = (pixels.float() / 255).requires_grad_(True)
    prompts = ["a cat", "three dogs"]
    scores = reward(images, prompts)
    scores.sum().backward()
    assert scores.shape == (2,)
    assert (images.grad.flatten(1).abs().sum(1) > 0).all()
    assert torch.equal(reward(pixels, prompts), scores.detach())
    assert kind is ObjectCount or ((scores >= 0) & (scores <= 1)).all()
    modules = list(reward.modules())
    assert modules
    assert not any(parameter.requires_grad for module in modules for parameter in module.parameters())
    assert not any(module.training for top in modules for module in top.modules())
    assert torch.equal(reward.to("cpu")(pixels, prompts), scores.detach())
    assert len(reward.weights_sha256) == 64


def test_images_do_not_sway_each_other(detector):
    images = torch.rand(3, 3, 32, 40)
    reward = ObjectCount(**detector, objects=["cat", "dog"])
    prompts = ["a cat", "two dogs", "three cats"]
    alone = [reward(images[row : row + 1], [prompt]) for row, prompt in enumerate(prompts)]
    torch.testing.assert_close(reward(images, prompts), torch.cat(alone))


# -- what is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (ObjectCount, {"detector": "detr", "object": "cat"}, "detector: expected owlvit or yolos, not 'detr'"),
        (ObjectCount, {}, "give either `object`, or `objects`"),
        (ObjectCount, {"object": "cat", "objects": ["dog"]}, "give either `object`, or `objects`"),
        (ObjectCount, {"object": " "}, "object: expected a name, not ' '"),
        (ObjectCount, {"objects": "cat"}, "objects: expected a list of names, not 'cat'"),
        (ObjectCount, {"objects": []}, "objects: expected a list of names"),
        (ObjectCount, {"object": "cat", "count": -1}, "count: expected a whole number"),
        (ObjectCount, {"object": "cat", "count": True}, "count: expected a whole number"),
        (ObjectCount, {"object": "cat", "threshold": 1.0}, "threshold: expected a number between 0 and 1"),
        (ObjectCount, {"object": "cat", "temperature": 0}, "temperature: expected a number above 0"),
        (ObjectRemoval, {"object": "cat", "reduce": "sum"}, "reduce: expected max or mean"),
        (ObjectRemoval, {"object": "cat", "temperature": float("nan")}, "temperature: expected a number above 0"),
    ],
)
def test_options_that_do_not_fit_are_named(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)


def test_yolos_names_the_classes_it_knows(yolos):
    with pytest.raises(ValueError, match="yolos knows no 'giraffe'; it knows cat, dog, hot dog, person"):
        ObjectRemoval("yolos", yolos, objects=["cat", "giraffe"])


def test_a_model_of_another_kind_is_refused(owlvit, yolos):
    with pytest.raises(ValueError, match=r"detector yolos cannot load .*model_type 'owlvit'"):
        ObjectRemoval("yolos", owlvit, object="cat")
    with pytest.raises(ValueError, match=r"detector owlvit cannot load .*model_type 'yolos'"):
        ObjectRemoval("owlvit", yolos, object="cat")


def test_prompts_that_say_too_little_are_quoted(yolos):
    images = torch.rand(1, 3, 32, 32)
    with pytest.raises(RewardError, match="'a tree' names none of the objects cat, dog"):
        ObjectRemoval("yolos", yolos, objects=["cat", "dog"])(images, ["a tree"])
    with pytest.raises(RewardError, match="'cats' does not say how many of 'cat'; give `count`"):
        ObjectCount("yolos", yolos, object="cat")(images, ["cats"])
    with pytest.raises(RewardError, match="'two trees' does not say how many of 'cat'"):
        ObjectCount("yolos", yolos, object="cat")(images, ["two trees"])


@pytest.mark.parametrize(("name", "repository"), [("owlvit", "google/owlvit-base-patch32"), ("yolos", "hustvl/yolos")])
def test_missing_weights_are_one_sentence(monkeypatch, name, repository):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=f"hf download {repository}") as caught:
        ObjectRemoval(name, object="cat")
    assert "\n" not in str(caught.value)


def test_a_folder_that_lacks_a_file_is_named(yolos, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no config\.json in"):
        ObjectCount("yolos", str(tmp_path), object="cat")
    shutil.copy(Path(yolos) / "config.json", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no model\.safetensors or pytorch_model\.bin in"):
        ObjectCount("yolos", str(tmp_path), object="cat")
    shutil.copy(Path(yolos) / "model.safetensors", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"there is no preprocessor_config\.json in"):
        ObjectCount("yolos", str(tmp_path), object="cat")
    (tmp_path / "preprocessor_config.json").write_text('{"size": 512, "max_size": 864}', encoding="utf-8")
    found = ObjectCount("yolos", str(tmp_path), object="cat")._detector
    assert (found.shortest, found.longest) == (512, 864)
