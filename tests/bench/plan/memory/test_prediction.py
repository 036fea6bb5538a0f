"""Memory predicted before a trial and measured in it, what fits a card, and the causes of running out."""

import json

import pytest
import torch

from bench.errors import BenchError, cause_of, ran_out_of_memory
from bench.plan.memory import beside
from bench.plan.memory.fitting import GIB, card_bytes, fits
from bench.plan.memory.prediction import Adapter, build_rewards, predict, predict_trial
from bench.plan.memory.weighing import Weighing
from bench.run.trial import TrialLoop, run_trial
from bench.run.worker import run_and_record, with_advice
from bench.store.trial_folder import TrialFolder
from tests.bench.run.test_trial import make_trial, points


def both(trial, path):
    """The prediction, for as many kept steps as the first step drew, and that step's measurement."""
    loop = TrialLoop(trial, TrialFolder(path))
    loop.encode_prompts()
    loop.step()
    (measured,) = loop.folder.read().memory
    predicted = predict_trial(trial, build_rewards(trial))
    kept = measured.get("kept_steps")
    return predicted.with_kept(kept and int(kept)).as_dict(), measured


def agree(predicted, measured, within):
    for part in ("parameters", "gradients", "optimiser"):
        assert predicted[part] == measured[part], part
    assert predicted["activations"] == pytest.approx(measured["activations"], rel=within)


SLOW = [pytest.param(method, marks=pytest.mark.slow) for method in ("draft", "draft-lv", "refl", "rwr", "d3po", "nft")]


@pytest.fixture(autouse=True)
def unpredicted():
    """Here a run is predicted beside."""


@pytest.mark.parametrize("method", ["alignprop", "ddpo", "dpo", *SLOW])
def test_one_worker_needs_what_was_predicted(method, tiny_model, tmp_path):
    predicted, measured = both(make_trial(tiny_model, method, limit=40.0), tmp_path / "trial")
    # Rollouts, and latents between the calls, are not in the dry pass: kilobytes, of which a tiny model has few.
    agree(predicted, measured, within=0.1)


@pytest.mark.parametrize("level", ["block", "step"])
def test_every_level_of_checkpointing(level, tiny_model, tmp_path):
    trial = make_trial(tiny_model, "alignprop", limit=40.0)
    settings = {**trial.settings, "checkpointing": level, "truncation": "full"}
    predicted, measured = both(trial.model_copy(update={"settings": settings}), tmp_path / "trial")
    assert (predicted["checkpointing"], predicted["kept_steps"]) == (level, 2)
    agree(predicted, measured, within=0.05)


def test_bf16_halves_the_base_and_not_the_adapter(tiny_model, tmp_path):
    trial = make_trial(tiny_model, "draft", limit=40.0)
    predicted, measured = both(trial.model_copy(update={"precision": "bf16"}), tmp_path / "trial")
    agree(predicted, measured, within=0.1)
    whole = predict_trial(trial, build_rewards(trial))
    assert predicted["parameters"]["denoiser"] < 0.51 * whole.parameters["denoiser"]
    assert predicted["parameters"]["adapter"] == whole.parameters["adapter"]


def test_measuring_changes_no_number(tiny_model, tmp_path, monkeypatch):
    trial = make_trial(tiny_model, "alignprop")
    measured, plain = TrialFolder(tmp_path / "measured"), TrialFolder(tmp_path / "plain")
    run_trial(trial, measured)

    def unwatched(loop, wanted):
        return loop.method.step(loop.draw_prompts(wanted))

    monkeypatch.setattr(TrialLoop, "weighed_step", unwatched)
    run_trial(trial, plain)
    assert json.dumps(points(measured)) == json.dumps(points(plain))
    assert measured.read().memory
    assert plain.read().memory is None


def test_a_trainer_of_its_own_hides_its_optimiser(tiny_model, tmp_path):
    loop = TrialLoop(make_trial(tiny_model, "alignprop"), TrialFolder(tmp_path / "trial"))
    weighing = Weighing(loop.policy, loop.rewards.values(), None)
    with weighing.step():
        held = torch.zeros(100)
    assert held.nbytes == 400
    found = weighing.as_dict()
    assert (found["gradients"], found["optimiser"], found["activations"]) == (None, None, 400)


def test_shares_of_an_adapter_by_hand():
    adapter = Adapter((5, 8))
    assert [adapter.share(stage, 2) for stage in range(4)] == [13, 8, 8, 7], "16 in halves; 3 of 5 and 4 of 8"
    assert adapter.parameters(0, 2) == 52
    assert adapter.parameters(1, 2) == 64, "padded to a multiple of four"
    assert [adapter.gradients(stage, 2) for stage in range(4)] == [52, 52, 32, 28]
    assert [adapter.optimiser(stage, 2) for stage in range(4)] == [112, 100, 100, 60]


def test_sharding_over_more_workers_never_needs_more(tiny_model):
    trial = make_trial(tiny_model, "ddpo")
    for stage in (2, 3):
        held = []
        for workers in (1, 2):
            found = predict_trial(trial.model_copy(update={"zero": stage, "workers": workers}), build_rewards(trial))
            held.append(sum(found.parameters.values()) + found.gradients + found.optimiser)
        assert held[0] > held[1]


def test_what_cannot_be_told_is_none(tiny_model):
    peer = make_trial(tiny_model, "ddpo", variant="peer", reference="trl-ddpo")
    elsewhere = make_trial("nobody/has-this", "ddpo")
    assert predict([peer, elsewhere]) == {"peer": None, "ddpo": None}


def test_cards():
    assert card_bytes("24GB") == card_bytes("24 gib") == card_bytes("RTX 4090") == 24 * GIB
    assert card_bytes("512MB") == GIB // 2
    assert card_bytes("NVIDIA A100") == 80 * GIB
    with pytest.raises(BenchError, match="neither a size nor a card's name"):
        card_bytes("big")


def test_the_cheapest_that_fits_comes_first(tiny_model):
    trial = make_trial(tiny_model, "alignprop")
    found, smallest = fits(trial, GIB)
    assert smallest is None
    assert (found[0].precision, found[0].checkpointing, found[0].micro_batch) == ("fp32", "none", 32)
    assert [fit.bytes for fit in found] == sorted((fit.bytes for fit in found), reverse=True)
    assert len({(fit.precision, fit.checkpointing) for fit in found}) == len(found) > 1
    assert found[0].overrides(trial) == ["methods.alignprop.settings.checkpointing=none"]
    tight = int(found[0].bytes / 0.9) - 1
    (fit,) = fits(trial, tight, most=1)[0]
    assert fit.bytes < found[0].bytes
    assert (fit.checkpointing, fit.micro_batch) == ("none", 1), "a step has two images"


def test_where_nothing_fits_the_smallest_is_told(tiny_model):
    found, smallest = fits(make_trial(tiny_model, "ddpo"), 1000)
    assert not found
    assert smallest.precision == "bf16"
    assert smallest.bytes > 1000


@pytest.mark.integration
def test_plan_tells_memory_time_and_what_fits(cli, sweep_file):
    one = ("--set", "seeds=[0]")
    answer = cli("plan", sweep_file, "--card", "1GB", *one)
    assert answer.code == 0, answer.err
    assert "predicted for each worker (1 worker, ZeRO stage 0)" in answer.out
    assert "alignprop  ZeRO 0, fp32, checkpointing none, micro-batch 32" in answer.out
    rows = json.loads(cli("plan", sweep_file, "--dry", "--json", *one).out)
    ddpo = next(row for row in rows if row["variant"] == "ddpo")
    assert ddpo["memory"]["gradients"] > 0
    assert ddpo["seconds"] > 0
    assert "fits" not in ddpo
    assert "memory" not in json.loads(cli("plan", sweep_file, "--json").out)[0], "and nothing is looked at unasked"


@pytest.mark.integration
def test_a_report_shows_both(cli, sweep_file, tmp_path, monkeypatch):
    monkeypatch.setattr(beside, "patience", lambda taken: 300.0)  # the trials are over before it could be predicted
    out = tmp_path / "run"
    answer = cli("run", sweep_file, "--executor", "inline", "--out", out, "--set", "seeds=[0]")
    assert answer.code == 0, answer.err
    text = (out / "report" / "report.md").read_text()
    assert "## Memory of a worker" in text
    assert "Memory of a worker" in (out / "report" / "report.html").read_text()
    plan = json.loads((out / "plan.json").read_text())
    assert set(plan["memory"]) == {"alignprop", "ddpo"}


ENDS = """
import torch
from methods.ddpo import DDPO

class Ends(DDPO):
    name = "ends"
    def step(self, prompts):
        raise {error}
"""


@pytest.mark.parametrize(
    "error",
    [
        'torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")',
        "MemoryError()",
        'RuntimeError("[enforce fail] DefaultCPUAllocator: can\'t allocate memory: you tried to allocate 99 bytes.")',
    ],
)
def test_running_out_of_memory_says_what_to_change(error, tiny_model, tmp_path):
    plugin = tmp_path / "ends.py"
    plugin.write_text(ENDS.format(error=error))
    folder = TrialFolder(tmp_path / "trial")
    trial = make_trial(tiny_model, "ddpo", variant="mine", reference=f"{plugin}:Ends")
    assert run_and_record(trial, folder) == "failed"
    cause = folder.read().cause
    assert "out of memory; try --set methods.mine.settings.micro_batch=16 or resources.precision=bf16" in cause
    assert error.split("(")[0].removeprefix("torch.") in cause


def test_advice_fits_the_trial(tiny_model):
    trial = make_trial(tiny_model, "alignprop", workers=2, zero=2)
    advice = with_advice("MemoryError", trial)
    for change in ("micro_batch=16", "checkpointing=step", "zero=3", "offload=true", "precision=bf16"):
        assert change in advice
    settings = {**trial.settings, "micro_batch": 1, "checkpointing": "step"}
    spent = {"zero": 3, "offload": True, "precision": "bf16", "settings": settings}
    assert "a card with more memory" in with_advice("MemoryError", trial.model_copy(update=spent))
    assert with_advice("ValueError: no", trial) == "ValueError: no"
    assert not ran_out_of_memory(cause_of(ValueError("a memory of it")))
