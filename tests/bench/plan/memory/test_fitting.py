"""What of a sweep fits a card: the cheapest first, and no change that the sweep would refuse."""

import json

import pytest

from bench.errors import BenchError
from bench.plan.memory import fitting
from bench.plan.memory.fitting import GIB, card_bytes, differences, fit, smaller
from bench.plan.memory.prediction import Memory, build_rewards, predict
from bench.sweep.load import load_sweep
from tests.bench.planned import plan
from tests.bench.run.test_trial import make_trial


def by_hand(trial):
    """A trial of 10 bytes, and for each row of a micro-batch as many as its level of checkpointing stores."""
    row = {"none": 100, "block": 50, "step": 20}[trial.settings["checkpointing"]]
    each = row // 2 if trial.precision == "bf16" else row
    return Memory({"all": 4 if trial.zero == 3 else 10}, 0, 0, each * trial.settings["micro_batch"], 0)


def alignprop(model, **changes):
    trial = make_trial(model, "alignprop", **changes)
    return trial.model_copy(update={"settings": {**trial.settings, "micro_batch": 8, "checkpointing": "auto"}})


SMALLEST = {("settings", "checkpointing"): "step", ("settings", "micro_batch"): 1, ("resources", "precision"): "bf16"}


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (810, {("settings", "checkpointing"): "none"}),
        (310, {("settings", "checkpointing"): "none", ("settings", "micro_batch"): 2}),
        (65, {("settings", "checkpointing"): "block", ("settings", "micro_batch"): 1}),
        (20, SMALLEST),
    ],
)
def test_the_cheapest_that_fits(room, expected, tiny_model):
    trial = alignprop(tiny_model)
    changed, memory, fits = fit(trial, int(room / 0.9) + 1, by_hand)
    assert (differences(trial, changed), fits) == (expected, True)
    assert memory.total <= room


def test_where_nothing_fits_the_smallest_is_found(tiny_model):
    changed, memory, fits = fit(alignprop(tiny_model), 15, by_hand)
    assert (changed.precision, changed.settings["micro_batch"], memory.total, fits) == ("bf16", 1, 20, False)


def test_weights_are_sharded_where_there_are_workers_and_never_in_bf16(tiny_model, monkeypatch):
    monkeypatch.setattr(fitting, "check_deepspeed", lambda stage: None)
    trial = alignprop(tiny_model, workers=2)
    kinds = [(kind.zero, kind.precision) for kind in fitting._kinds(trial)]
    assert set(kinds) == {(0, "fp32"), (3, "fp32"), (0, "bf16")}
    sharded = trial.model_copy(update={"zero": 2})
    assert all(kind.precision == "fp32" for kind in fitting._kinds(sharded))

    def missing(stage):
        if stage:
            raise BenchError("stage 3 needs deepspeed", "resources.zero")

    monkeypatch.setattr(fitting, "check_deepspeed", missing)
    assert all(kind.zero == 0 for kind in fitting._kinds(trial))


def test_single_changes_are_those_that_the_trial_may_have(tiny_model, monkeypatch):
    monkeypatch.setattr(fitting, "check_deepspeed", lambda stage: None)
    assert smaller(alignprop(tiny_model, workers=2)) == {
        ("settings", "micro_batch"): 4,
        ("settings", "checkpointing"): "step",
        ("resources", "zero"): 3,
        ("resources", "precision"): "bf16",
    }
    assert ("settings", "checkpointing") not in smaller(make_trial(tiny_model, "ddpo"))
    sharded = alignprop(tiny_model, workers=2, zero=3)
    assert set(smaller(sharded)) == {("settings", "micro_batch"), ("settings", "checkpointing")}
    assert set(smaller(make_trial(tiny_model, "base"))) == {("resources", "precision")}


def test_cards():
    assert card_bytes("24GB") == card_bytes("24 gib") == 24 * GIB
    assert card_bytes("512MB") == GIB // 2
    for text in ("big", "0GB", "24"):
        with pytest.raises(BenchError, match="is no size"):
            card_bytes(text)


@pytest.mark.integration
def test_the_sweep_plans_what_is_advised_and_needs_as_little(cli, sweep_file):
    method = "{name: alignprop, settings: {batch_size: 8}, grid: {learning_rate: [1e-3]}}"
    overrides = ["seeds=[0]", f"methods=[{method}]"]
    arguments = ["plan", sweep_file, *(word for text in overrides for word in ("--set", text))]
    (trial,) = plan(load_sweep(sweep_file, None, overrides))
    least = trial.model_copy(update={"settings": {**trial.settings, "checkpointing": "none", "micro_batch": 2}})
    card = f"{predict(least, build_rewards(least)).total / 0.9 / (1 << 20) + 0.01:.3f}MB"
    (row,) = json.loads(cli(*arguments, "--card", card, "--json").out)
    assert row["fit"]["fits"]
    assert "methods.alignprop.settings.micro_batch=2" in row["fit"]["set"], "what --set calls a grid's entry"
    (again,) = plan(load_sweep(sweep_file, None, [*overrides, *row["fit"]["set"]]))
    assert predict(again, build_rewards(again)).total == row["fit"]["bytes"] < row["memory"]["total"]
    told = cli(*arguments, "--dry")
    assert told.code == 0, told.err
    assert "predicted for each worker (1 worker, ZeRO stage 0, fp32)" in told.out
    assert "memory" not in json.loads(cli(*arguments, "--json").out)[0], "and nothing is looked at unasked"
