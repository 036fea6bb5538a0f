"""Best of n in the trial loop: what it spends, what it keeps, and that it begins as the base model."""

import math

import pytest
import torch

from bench.build.trial_spec import EvaluationPlan
from bench.plan.estimate import estimate
from bench.run.trial import run_trial
from bench.store.trial_folder import TrialFolder
from bench.sweep.load import load_sweep
from bench.sweep.schema import Sampler
from tests.bench.planned import plan
from tests.bench.run.test_trial import make_trial, points

STEPS = 2
TRAIN, HELDOUT = 3 * 2, 1 * 2
"""Images evaluated: three training prompts and one held-out, two images each."""


def best_of_n(model, rounds, every=None, guidance=1.0, **changes):
    sampler = Sampler(steps=STEPS, guidance=guidance, eta=0.0)
    return make_trial(
        model,
        "best-of-n",
        limit=float(rounds * TRAIN),
        sampler=sampler,
        gold=None,
        evaluate=EvaluationPlan(every=float(every or TRAIN), images=2, seed=9, sampler=sampler),
        **changes,
    )


def curve_of(trial, path):
    folder = TrialFolder(path)
    run_trial(trial, folder)
    return points(folder), folder


def rewards(folder, point, split="train"):
    rows = folder.read_evaluation()
    rows = rows[(rows["point"] == point) & (rows["split"] == split) & (rows["metric"] == "reward")]
    return rows.set_index(["prompt", "sample"])["value"]


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_what_it_spends_by_hand(tiny_model, tmp_path, guidance):
    calls = STEPS * (2 if guidance != 1.0 else 1)
    curve, _ = curve_of(best_of_n(tiny_model, 3, guidance=guidance), tmp_path / "trial")
    assert len(curve) == 4
    for n, row in enumerate(curve):
        axes = row["axes"]
        assert axes["steps"] == n
        assert axes["reward_queries"] == axes["images"] == axes["decodes"] == n * TRAIN
        assert axes["nfe"] == axes["nfe_forward"] == n * TRAIN * calls
        assert axes["updates"] == axes["reward_gradients"] == axes["nfe_backward"] == 0
        # Training images are drawn for evaluation once, at point 0; held-out candidates are all evaluation's.
        assert axes["eval_nfe"] == (TRAIN + HELDOUT + n * HELDOUT) * calls
        assert axes["eval_queries"] == (n + 1) * (TRAIN + HELDOUT) + n * HELDOUT
        assert row["values"]["train"]["drift"] == row["values"]["heldout"]["drift"] == 0


def test_it_begins_as_the_base_model_and_never_falls(tiny_model, tmp_path):
    trial = best_of_n(tiny_model, 4)
    base, base_folder = curve_of(
        make_trial(tiny_model, "base", gold=None, sampler=trial.sampler, evaluate=trial.evaluate), tmp_path / "base"
    )
    curve, folder = curve_of(trial, tmp_path / "best")
    assert base[0]["values"] == curve[0]["values"], "nothing is chosen yet"
    assert base[0]["values"] == curve[1]["values"], "the best of one is the only one"
    assert rewards(folder, 1).equals(rewards(base_folder, 0))
    for split in ("train", "heldout"):
        for n in range(1, 4):
            assert (rewards(folder, n + 1, split) >= rewards(folder, n, split)).all()
    assert (rewards(folder, 4) > rewards(folder, 0)).any()
    assert [row["extra"].get("candidates") for row in curve] == [None, 1, 2, 3, 4]
    assert curve[4]["extra"]["kl_bound"] == pytest.approx(math.log(4) - 3 / 4)


def test_candidates_are_nested_and_the_best_is_the_best(tiny_model, tmp_path):
    """A longer trial passes through a shorter one's points, and a few evaluations change nothing in what is kept."""
    long, folder = curve_of(best_of_n(tiny_model, 4), tmp_path / "long")
    short, _ = curve_of(best_of_n(tiny_model, 2), tmp_path / "short")
    assert long[:3] == short
    _, sparse = curve_of(best_of_n(tiny_model, 4, every=3 * TRAIN), tmp_path / "sparse")
    assert rewards(sparse, 3).equals(rewards(folder, 4))
    assert rewards(sparse, 3, "heldout").equals(rewards(folder, 4, "heldout"))


def test_a_point_stands_at_the_shown_numbers_of_rounds(tiny_model, tmp_path):
    trial = best_of_n(tiny_model, 17, every=7 * TRAIN)
    curve, _ = curve_of(trial, tmp_path / "trial")
    assert [row["axes"]["steps"] for row in curve] == [0, 1, 4, 7, 14, 16, 17]
    assert estimate(trial).points >= len(curve)


def test_seeds_choose_from_other_candidates(tiny_model, tmp_path):
    first, _ = curve_of(best_of_n(tiny_model, 3), tmp_path / "0")
    other, _ = curve_of(best_of_n(tiny_model, 3, seed=1), tmp_path / "1")
    assert first[1]["values"] == other[1]["values"], "the first candidate is evaluation's"
    assert first[3]["values"]["train"]["reward"] != other[3]["values"]["train"]["reward"]


def test_the_cut_of_the_batch_changes_no_choice(tiny_model, tmp_path):
    whole, _ = curve_of(best_of_n(tiny_model, 3), tmp_path / "whole")
    cut, _ = curve_of(best_of_n(tiny_model, 3, settings={"micro_batch": 1}), tmp_path / "cut")
    for a, b in zip(whole, cut, strict=True):
        assert a["values"]["train"]["reward"] == pytest.approx(b["values"]["train"]["reward"], rel=1e-5)


def test_its_checkpoint_holds_what_it_shows(tiny_model, tmp_path):
    _, folder = curve_of(best_of_n(tiny_model, 2), tmp_path / "trial")
    payload = folder.load_checkpoint()
    assert payload["method"]["iteration"] == 2
    best = payload["method"]["best"]["train"]
    assert sorted(best) == list(range(TRAIN))
    assert all(entry["seen"] == 2 and torch.isfinite(entry["latents"]).all() for entry in best.values())
    shown = payload["point"]
    kept = sum(entry["reward"] for entry in best.values()) / TRAIN
    assert kept == pytest.approx(folder.read_curve()[shown].values["train"]["reward"], rel=1e-5)


def test_the_plan_knows_what_it_costs(sweep_file, tmp_path):
    loaded = load_sweep(
        sweep_file, None, ["methods=[{name: best-of-n}]", "budget.reward_queries=20", "evaluate.every=6"]
    )
    trial, *_ = plan(loaded)
    assert trial.sampler == trial.evaluate.sampler, "it samples as evaluation does"
    folder = TrialFolder(tmp_path / "trial")
    run_trial(trial, folder)
    axes = folder.read_curve()[-1].axes
    cost = estimate(trial)
    assert (cost.steps, cost.reward_queries, cost.nfe) == (3, axes["reward_queries"], axes["nfe"]) == (3, 18, 36)
    assert cost.eval_nfe == axes["eval_nfe"]
    assert cost.points >= len(folder.read_curve())


def test_a_budget_below_one_round_is_refused(cli, sweep_file):
    answer = cli("plan", sweep_file, "--set", "methods=[{name: best-of-n}]", "--set", "budget.reward_queries=5")
    assert answer.code == 2
    assert "5 is less than one step of best-of-n (6)" in answer.err


def test_a_sampler_of_its_own_is_refused(cli, sweep_file):
    answer = cli("plan", sweep_file, "--set", "methods=[{name: best-of-n, sampler: {steps: 9}}]")
    assert answer.code == 2
    assert "write evaluate.sampler instead" in answer.err
