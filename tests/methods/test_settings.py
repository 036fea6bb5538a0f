"""What is published of a setting is data on it, and a method's plain name stands for what is published."""

import itertools

import pytest
from pydantic import Field

from bench.build.objects import sampler_settings
from bench.sweep.load import load_sweep, variants_of
from bench.sweep.shipped import SHIPPED, shipped
from methods import registry
from methods.base import TrainingSettings
from methods.settings import OURS, Settings, modifications, provenance, setting

NATIVE = [name for name in registry.names() if not registry.load(name).own_trainer]


@pytest.mark.parametrize("name", registry.names())
def test_every_setting_of_a_built_in_method_has_a_source(name):
    for key, field in registry.load(name).Settings.model_fields.items():
        known = provenance(field)
        assert known["source"], f"{key} has neither a source nor OURS"
        assert (known["published"] is None) == (known["source"] == OURS), key
        assert isinstance(known["scales"], bool), key


@pytest.mark.parametrize("name", registry.names())
def test_a_published_value_is_one_that_the_setting_can_have(name):
    model = registry.load(name).Settings
    known = {key: provenance(field)["published"] for key, field in model.model_fields.items()}
    published = {key: value for key, value in known.items() if value is not None and key != "keep_steps"}
    assert model(**published).model_dump(mode="json", include=set(published)) == published


@pytest.mark.parametrize("name", NATIVE)
def test_a_plain_name_stands_for_what_is_published(name):
    assert modifications(registry.load(name).Settings()) == []


def plain_rows():
    """The rows of the shipped sweeps that carry a native method's plain name, with their settings."""
    sweeps = {name: load_sweep(path) for name, path in shipped().items()}
    return [
        pytest.param(variant.method, dict(variant.settings), id=f"{name}-{variant.name}")
        for name, loaded in sweeps.items()
        for variant in variants_of(loaded.sweep, loaded.root)
        if variant.name == variant.method in NATIVE
    ]


@pytest.mark.parametrize(("name", "settings"), plain_rows())
def test_a_row_with_a_plain_name_modifies_nothing(name, settings):
    assert modifications(registry.load(name).Settings(**settings)) == []


SEARCHED = {path.stem: path for path in (*shipped().values(), *(SHIPPED / "tuning").glob("*.yaml"))}


@pytest.mark.parametrize("sweep", [name for name, path in SEARCHED.items() if load_sweep(path).sweep.search])
def test_a_search_under_a_plain_name_moves_what_scales_and_a_regulariser_for_gold(sweep):
    """Where gold chooses too, reward chooses among configurations whose regulariser is as published."""
    search = load_sweep(SEARCHED[sweep]).sweep.search
    regulariser = {"drift_weight"} if "gold" in search.criteria else set()
    for name, space in search.space.items():
        if name in NATIVE:
            fields = registry.load(name).Settings.model_fields
            assert all(provenance(fields[key])["scales"] for key in space.keys() - regulariser), name


@pytest.mark.parametrize("sweep", [path.stem for path in (SHIPPED / "tuning").glob("*.yaml")])
def test_all_configurations_of_a_method_train_on_equally_many_rows_a_query(sweep):
    """Also those of another number of images a round. What is sampled is equal too; the base model's predictions, which
    only a configuration with a regulariser needs, are left out."""
    loaded = load_sweep(SEARCHED[sweep])
    search, given = loaded.sweep.search, sampler_settings(loaded.sweep.sampler)
    variants = {variant.name: variant for variant in variants_of(loaded.sweep, loaded.root)}
    for name, space in search.space.items() if search else ():
        variant = variants[name]
        cls = registry.load(variant.method)
        choices = {key: each.choice for key, each in space.items() if each.choice and key != "drift_weight"}
        rates = set()
        for values in itertools.product(*choices.values()):
            settings = cls.Settings(**variant.settings, **dict(zip(choices, values, strict=True)))
            cost = cls.cost(settings, cls.prompts_per_step(settings), cls.default_sampler or given)
            rates.add(cost["nfe"] / cost["reward_queries"])
        assert len(rates) == 1, (name, rates)


class Parent(Settings, source="the parent's paper"):
    rate: float = setting(1.0, "rate", published=2.0, scales=True, gt=0)
    pair: tuple[int, int] = setting((1, 2), "pair", published=(3, 4), source="another paper")
    kept: int = setting(0, "kept", published=0)
    term: float = setting(0.0, "term", source=OURS)
    bare: int = Field(default=1, description="bare")


class Child(Parent, source="the child's paper", published={"rate": 5.0, "kept": None, "bare": 6}):
    own: int = setting(1, "own", published=1)


def facts(model, name):
    return tuple(provenance(model.model_fields[name]).values())


def test_a_field_carries_its_published_value_and_its_class_the_source():
    assert facts(Parent, "rate") == (2.0, "the parent's paper", True)
    assert facts(Parent, "pair") == ([3, 4], "another paper", False)
    assert facts(Parent, "kept") == (0, "the parent's paper", False)
    assert facts(Parent, "term") == (None, OURS, False)
    assert facts(Parent, "bare") == (None, None, None)


def test_a_class_says_what_is_published_of_inherited_settings_and_leaves_its_parent_alone():
    assert facts(Child, "rate") == (5.0, "the child's paper", True)
    assert facts(Child, "pair") == ([3, 4], "another paper", False)
    assert facts(Child, "kept") == (None, OURS, False)
    assert facts(Child, "bare") == (6, "the child's paper", None)
    assert facts(Child, "own") == (1, "the child's paper", False)
    assert facts(Parent, "rate") == (2.0, "the parent's paper", True)
    assert Child().rate == 1.0
    with pytest.raises(ValueError, match="greater than 0"):
        Child(rate=0.0)


def test_the_json_schema_has_it_too():
    published = {name: field.get("published") for name, field in Child.model_json_schema()["properties"].items()}
    assert published == {"rate": 5.0, "pair": [3, 4], "kept": None, "term": None, "bare": 6, "own": 1}
    assert Parent.model_json_schema()["properties"]["rate"]["published"] == 2.0


def test_what_does_not_scale_and_differs_is_a_modification():
    assert modifications(Parent()) == ["pair"], "rate scales, bare says nothing"
    assert modifications(Parent(pair=(3, 4))) == []
    assert modifications(Parent(pair=(3, 4), kept=1, term=0.5)) == ["kept", "term"]


def test_a_published_value_needs_a_source_and_a_setting():
    with pytest.raises(TypeError, match=r"Without\.rate: the published value has no source"):

        class Without(Settings):
            rate: float = setting(1.0, "rate", published=2.0)

    with pytest.raises(TypeError, match="Misspelt: published is given for weight_decy, which is no setting"):

        class Misspelt(TrainingSettings, source="paper", published={"weight_decy": 0.1}):
            learning_rate: float = Field(default=1.0, description="of a method with pydantic's own fields")
