"""Reading a sweep: YAML 1.2, scales, overrides, grids, and the schema that editors use."""

from pathlib import Path

import pytest

from bench.sweep.load import load_sweep, variants_of
from bench.sweep.overlay import apply_override, apply_scale
from bench.sweep.schema import json_schema
from bench.sweep.yaml_source import parse

SWEEPS = Path(__file__).parents[3] / "sweeps"


def tree(text: str):
    return parse(text, "sweep.yaml")


def test_yaml_is_1_2():
    values = tree("a: 1e-3\nb: no\nc: 0x10\nd: 012\ne: 2024-01-01\nf: ~\ng: '1'\nh: true\ni: 1_000").plain()
    assert values == {
        "a": 1e-3,
        "b": "no",
        "c": 16,
        "d": 12,
        "e": "2024-01-01",
        "f": None,
        "g": "1",
        "h": True,
        "i": 1000,
    }


def test_every_value_knows_its_line():
    root = tree("a: 1\nb:\n  - x\n  - y: 2\n    z: [3,\n        4]\n")
    assert root.locate(("a",)) == "sweep.yaml:1"
    assert root.locate(("b", 1, "z")) == "sweep.yaml:5"
    assert root.locate(("b", 1, "z", 1)) == "sweep.yaml:6"
    assert root.locate(("b", 1, "nope", 3)) == "sweep.yaml:4"


BASE = """\
model: small
reward: {name: a, option: 1}
budget: {reward_queries: 100, seconds: 5}
prompts: {train: animals, heldout: x}
seeds: [0, 1, 2]
methods:
  - {name: base}
  - {name: ddpo, settings: {learning_rate: 1, clip: 2}}
  - {name: ddpo, variant: v1.5, settings: {learning_rate: 3}}
scales:
  paper:
    model: large
    reward: {name: b}
    budget: {images: 7}
    prompts: {train: all}
    seeds: [5]
    methods:
      - {variant: ddpo, settings: {clip: 9}}
      - {name: rwr}
"""


def test_scale_merges_mappings_and_methods_and_replaces_the_rest():
    merged = apply_scale(tree(BASE), "paper").plain()
    assert merged == {
        "model": "large",
        "reward": {"name": "b"},
        "budget": {"images": 7},
        "prompts": {"train": "all", "heldout": "x"},
        "seeds": [5],
        "methods": [
            {"name": "base"},
            {"name": "ddpo", "variant": "ddpo", "settings": {"learning_rate": 1, "clip": 9}},
            {"name": "ddpo", "variant": "v1.5", "settings": {"learning_rate": 3}},
            {"name": "rwr"},
        ],
    }


@pytest.mark.parametrize(
    ("override", "read"),
    [
        ("model=other", lambda s: s["model"] == "other"),
        ("budget.reward_queries=3e2", lambda s: s["budget"] == {"reward_queries": 300.0, "seconds": 5}),
        ("seeds=[7, 8]", lambda s: s["seeds"] == [7, 8]),
        ("seeds.1=9", lambda s: s["seeds"] == [0, 9, 2]),
        ("methods.ddpo.settings.learning_rate=3e-4", lambda s: s["methods"][1]["settings"]["learning_rate"] == 3e-4),
        ("methods.v1.5.settings.clip=4", lambda s: s["methods"][2]["settings"] == {"learning_rate": 3, "clip": 4}),
        ("methods.base.sampler.eta=0.5", lambda s: s["methods"][0]["sampler"] == {"eta": 0.5}),
        ("prompts.heldout=null", lambda s: s["prompts"]["heldout"] is None),
        ("description=a = b", lambda s: s["description"] == "a = b"),
    ],
)
def test_override(override, read):
    assert read(apply_override(tree(BASE), override).plain())


def test_override_comes_after_the_scale(sweep_file):
    sweep_file.write_text(sweep_file.read_text() + "scales:\n  big: {budget: {images: 50}}\n")
    loaded = load_sweep(sweep_file, "big", ["budget.images=60", "budget.seconds=9"])
    assert loaded.sweep.budget == {"images": 60, "seconds": 9}
    assert loaded.sweep.primary_axis == "images"
    assert loaded.run_name == "tiny-big"


def test_grid_makes_a_variant_of_every_combination(sweep_file):
    text = sweep_file.read_text().replace(
        "batch_size: 2", "loss_scale: 1.0\n    grid: {batch_size: [2, 4], learning_rate: [1e-3]}"
    )
    sweep_file.write_text(text)
    loaded = load_sweep(sweep_file)
    found = {variant.name: variant.settings for variant in variants_of(loaded.sweep, loaded.root)}
    assert list(found) == [
        "base",
        "alignprop-batch_size-2-learning_rate-0.001",
        "alignprop-batch_size-4-learning_rate-0.001",
        "ddpo",
    ]
    assert found["alignprop-batch_size-4-learning_rate-0.001"] == {
        "loss_scale": 1.0,
        "batch_size": 4,
        "learning_rate": 1e-3,
    }


@pytest.mark.parametrize("path", sorted(SWEEPS.glob("*.yaml")), ids=lambda path: path.name)
def test_shipped_sweeps_are_valid_at_every_scale(path):
    scales = load_sweep(path).sweep.scales
    for scale in scales:
        assert load_sweep(path, scale).sweep.scales == {}
    head = path.read_text().split("schema:")[0]
    assert head.startswith("# yaml-language-server: $schema=schema.json\n")
    assert f"bench run sweeps/{path.name}" in head
    assert "--set " in head


def test_schema_is_current():
    assert (SWEEPS / "schema.json").read_text() == json_schema(), "python -m bench.sweep.schema > sweeps/schema.json"
