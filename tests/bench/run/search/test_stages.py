"""A tuning in two stages and by two criteria: what runs at which budget, what is chosen, and what is run again."""

import json
import re
from functools import partial

import pytest

from bench.store.run_folder import RunFolder

SEARCH = """
search:
  samples: 4
  seeds: [100]
  criteria: [reward, gold]
  budget: {reward_queries: 4}
  finals: {best: 1, seeds: [101, 102]}
  space:
    alignprop: {learning_rate: [1e-4, 1e-3, 1e-2, 3e-2]}
    ddpo: {learning_rate: [1e-3, 1e-2], clip_range: [1e-4, 1e-3]}
"""
PLANTED = {1e-4: (1.0, 2.2), 1e-3: (1.5, 2.6), 1e-2: (2.5, 1.0), 3e-2: (3.0, 0.5)}
"""Learning rate of alignprop -> reward and gold at the end; gold begins at 2."""


@pytest.fixture
def staged_file(sweep_file):
    text = sweep_file.read_text().replace("evaluate:\n", "evaluate:\n  gold: incompressibility\n")
    sweep_file.write_text(text + SEARCH)
    return sweep_file


@pytest.fixture
def inline(run_inline, staged_file):
    """Runs the sweep in this process."""
    return partial(run_inline, staged_file)


def planted(trial, folder):
    """A trial that ends as its learning rate has it, whatever its clip range."""
    rate = trial.settings.get("learning_rate")
    reward, gold = PLANTED[rate] if trial.method == "alignprop" else (1.0 + 100 * (rate or 0), 1.8 + 10 * (rate or 0))
    folder.cut(-1)
    for point, values in enumerate(({"reward": 1.0, "gold": 2.0}, {"reward": reward, "gold": gold})):
        folder.append_point(point, {trial.budget.axis: trial.budget.limit * point, "steps": point}, {"train": values})


@pytest.fixture
def plant(body, monkeypatch):
    """The trial loop is `planted`; `plant.instead` are the trials that do something else: (variant, seed) -> what."""

    class Plant:
        calls = body.calls
        instead = {}  # noqa: RUF012

        def get(self, variant, other):
            return lambda trial, folder: self.instead.get((trial.variant, trial.seed), planted)(trial, folder)

    body.special = found = Plant()
    return found


def record_of(folder):
    kept = json.loads((folder / "tuning" / "search.json").read_text())
    return {method["variant"]: method for method in kept["methods"]}


def test_the_first_stage_is_short_and_the_best_by_each_criterion_run_whole(inline, plant, tmp_path):
    answer = inline()
    assert answer.code == 0, answer.err
    folder = RunFolder.open(tmp_path / "run").tuning
    rows = {row.trial: folder.trial(row.trial).read() for row in folder.planned()}
    first = [row for row in rows.values() if row.seed == 100]
    finals = [row for row in rows.values() if row.seed != 100]
    assert {row.spec["budget"]["limit"] for row in first} == {4.0}
    assert {row.spec["budget"]["limit"] for row in finals} == {8.0}
    assert {row.spec["evaluate"]["every"] for row in rows.values()} == {4.0}
    assert len(first) == 8
    rates = {(row.method, row.seed, row.spec["settings"]["learning_rate"]) for row in finals}
    assert rates == {
        *(("alignprop", seed, rate) for seed in (101, 102) for rate in (3e-2, 1e-3)),
        *(("ddpo", seed, 1e-2) for seed in (101, 102)),
    }
    assert "8 trials, 4 reward_queries each" in answer.err
    assert "6 trials, 8 reward_queries each" in answer.err


def test_the_comparison_has_both_choices_and_the_reason_where_there_is_none(inline, plant, cli, staged_file, tmp_path):
    assert inline("seeds=[0, 1]").code == 0
    run = RunFolder.open(tmp_path / "run")
    found = {(row.planned.variant, row.planned.seed): row.record for row in run.trials()}
    assert set(found) == {(v, s) for v in ("base", "alignprop", "alignprop-gold", "ddpo", "ddpo-gold") for s in (0, 1)}
    rates = {variant: row.spec["settings"].get("learning_rate") for (variant, _), row in found.items()}
    assert (rates["alignprop"], rates["alignprop-gold"], rates["ddpo"]) == (3e-2, 1e-3, 1e-2)
    why = "no configuration of ddpo raised gold in the tuning: 1.900 at best, the base model's is 2.000"
    assert {(found["ddpo-gold", s].status, found["ddpo-gold", s].cause) for s in (0, 1)} == {("skipped", why)}
    assert all(row.status == "done" for (variant, _), row in found.items() if variant != "ddpo-gold")
    report = (run.path / "report" / "report.md").read_text()
    assert "2 trials skipped: ddpo-gold (seed 0) and ddpo-gold (seed 1)" in report
    tuning = report.partition("## Tuning")[2]
    assert re.search(r"\| alignprop \|.*learning_rate 0\.03 .*learning_rate: largest", tuning)
    assert re.search(r"\| alignprop-gold \|.*learning_rate 0\.001 ", tuning)
    assert why in tuning
    assert "2 of 4 configurations of ddpo count (clip_range changed nothing" in tuning
    plan = cli("plan", staged_file, "--out", run.path)
    assert plan.code == 0
    assert f"ddpo-gold: skipped: {why}" in plan.out
    plant.calls.clear()
    assert inline("seeds=[0, 1]").code == 0, "skipped is no failure, and stays skipped"
    assert plant.calls == []


def test_the_record_names_copies_edges_and_both_choices(inline, plant, tmp_path):
    answer = inline()
    methods = record_of(tmp_path / "run")
    alignprop, ddpo = methods["alignprop"], methods["ddpo"]
    assert (alignprop["counted"], ddpo["counted"], len(ddpo["configurations"])) == (4, 2, 4)
    assert alignprop["edges"] == {"learning_rate": "largest"}
    assert alignprop["by_gold"]["edges"] == {}
    assert alignprop["by_gold"]["chosen"] == {"learning_rate": 1e-3}
    assert (alignprop["by_gold"]["gold"], alignprop["by_gold"]["gold_at_start"]) == (2.6, 2.0)
    copied = {row["same_as"]: row for row in ddpo["configurations"] if "same_as" in row}
    assert len(copied) == 2
    for original, row in copied.items():
        assert row["inert"] == ["clip_range"]
        assert row["values"]["learning_rate"] == ddpo["configurations"][original]["values"]["learning_rate"]
        assert "final" not in row
    final = next(row["final"] for row in ddpo["configurations"] if "final" in row)
    assert final["statuses"] == ["done", "done"]
    assert ddpo["statuses"] == {"done": 4 + 2}
    assert ddpo["cost"]["reward_queries"] == 4 * 4 + 2 * 8
    assert "tuned alignprop: learning_rate 0.03 (largest tried) (best of 4 configurations, 3.000)" in answer.err
    assert "tuned alignprop-gold: learning_rate 0.001 (gold 2.600)" in answer.err
    assert "2 of 4 configurations of ddpo count (clip_range changed nothing, " in answer.err


@pytest.mark.parametrize(("variant", "seed"), [("alignprop-t02", 100), ("ddpo-t00", 100), ("alignprop-final", 102)])
def test_a_tuning_that_is_stopped_in_either_stage_goes_on(inline, plant, tmp_path, variant, seed):
    assert inline(out=tmp_path / "whole").code == 0
    whole = list(plant.calls)

    def stop(trial, folder):
        planted(trial, folder)
        raise KeyboardInterrupt

    if variant == "alignprop-final":
        variant = next(name for name, at in whole if name.startswith("alignprop") and at == seed)
    plant.calls.clear()
    plant.instead = {(variant, seed): stop}
    assert inline().code == 130
    assert not (tmp_path / "run" / "tuning" / "search.json").exists()
    begun, plant.instead = list(plant.calls), {}
    plant.calls.clear()
    assert inline().code == 0
    assert sorted([*begun, *plant.calls]) == sorted([*whole, (variant, seed)]), "no trial twice but the stopped one"
    assert record_of(tmp_path / "run") == record_of(tmp_path / "whole")


def test_a_final_that_failed_is_tried_again(inline, plant, tmp_path):
    def fails(trial, folder):
        raise ConnectionError("a blip")

    assert inline(out=tmp_path / "whole").code == 0
    name = next(variant for variant, seed in plant.calls if variant.startswith("alignprop") and seed == 101)
    plant.instead = {(name, 101): fails}
    answer = inline()
    assert answer.code == 0, answer.err
    assert "1 configuration failed; the same command tries again" in answer.err
    plant.calls.clear()
    plant.instead = {}
    assert inline().code == 0
    assert (name, 101) in plant.calls
    assert record_of(tmp_path / "run") == record_of(tmp_path / "whole")


def test_one_configuration_that_wins_by_both_is_one_row(inline, plant, tmp_path, monkeypatch):
    monkeypatch.setitem(PLANTED, 3e-2, (3.0, 4.0))
    answer = inline()
    assert answer.code == 0
    assert record_of(tmp_path / "run")["alignprop"]["by_gold"]["chosen"] == {"learning_rate": 3e-2}
    assert "tuned alignprop-gold: gold chooses the configuration that reward chooses" in answer.err
    run = RunFolder.open(tmp_path / "run")
    assert "alignprop-gold" not in {row.variant for row in run.planned()}
    assert "gold chooses the configuration that reward chooses" in (run.path / "report" / "report.md").read_text()


def test_the_plan_tells_the_cost_of_both_stages(cli, staged_file):
    out = cli("plan", staged_file).out
    first, finals = (line for line in out.splitlines() if "configurations of 2 methods" in line)
    assert first.startswith("tuned first by random: 4 configurations of 2 methods, 8 trials, at most ")
    assert "up to 2 variants more by gold" in first
    assert finals.startswith("then finals: 2 configurations of 2 methods, 8 trials, at most ")


def test_without_finals_the_choice_is_made_at_the_short_budget(inline, plant, tmp_path):
    assert inline("search.finals=null").code == 0
    folder = RunFolder.open(tmp_path / "run").tuning
    assert {folder.trial(row.trial).read().spec["budget"]["limit"] for row in folder.planned()} == {4.0}
    assert record_of(tmp_path / "run")["alignprop"]["chosen"] == {"learning_rate": 3e-2}


def test_optuna_suggests_the_first_stage_and_the_finals_follow(inline, plant, tmp_path):
    pytest.importorskip("optuna")
    assert inline("search.algorithm=optuna").code == 0
    method = record_of(tmp_path / "run")["alignprop"]
    finals = [row for row in method["configurations"] if "final" in row]
    rewards = {row["values"]["learning_rate"]: row["score"] for row in method["configurations"]}
    assert method["chosen"] == {"learning_rate": max(rewards, key=rewards.get)}
    assert {seed for name, seed in plant.calls if name.endswith("-final")} == {101, 102}
    assert 1 <= len(finals) <= 2
    plant.calls.clear()
    assert inline("search.algorithm=optuna").code == 0
    assert plant.calls == []


@pytest.mark.slow
@pytest.mark.integration
def test_a_search_by_two_criteria_in_two_stages_trains_and_goes_on(inline, tmp_path, monkeypatch):
    small = ("search.samples=2", "search.finals.seeds=[101]", "seeds=[0]")
    answer = inline(*small, out=tmp_path / "whole")
    assert answer.code == 0, answer.err
    with monkeypatch.context() as patch:

        def stopped(*_):
            raise KeyboardInterrupt

        patch.setattr("bench.run.search.tuning.result", stopped)
        assert inline(*small).code == 130
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "tuning").rglob("curve.jsonl")}
    assert inline(*small).code == 0
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps, "every trial of the tuning had ended"
    resumed, whole = record_of(tmp_path / "run"), record_of(tmp_path / "whole")
    assert resumed.keys() == whole.keys() == {"alignprop", "ddpo"}
    for variant, method in whole.items():
        again = resumed[variant]
        for key in ("chosen", "score", "by_gold", "configurations", "edges", "counted", "statuses"):
            assert again[key] == method[key]
        judged = [row["final"] for row in method["configurations"] if "final" in row]
        assert method["score"] == max(row["score"] for row in judged)
        assert all(row["gold_at_start"] == judged[0]["gold_at_start"] for row in judged), "the base model's"
        raised = [row["gold"] for row in judged if row["gold"] > row["gold_at_start"]]
        assert (method["by_gold"]["chosen"] is not None) == bool(raised)
        if raised:
            assert method["by_gold"]["gold"] == max(raised)


def test_a_space_in_which_every_configuration_modifies_the_method_is_refused(inline, body):
    found = inline("search.space.ddpo={drift_weight: [1.0, 3.0, 10.0, 30.0]}")
    assert found.code == 2
    assert "every configuration of ddpo changes drift_weight, which the method's plain name does not allow" in found.err
    assert not body.calls


def test_reward_leaves_what_modifies_the_method_to_gold(inline, plant, tmp_path):
    inline("search.space.ddpo={learning_rate: [1e-3, 1e-2], drift_weight: [0.0, 10.0]}")
    method = record_of(tmp_path / "run")["ddpo"]
    modified = {row["values"]["drift_weight"]: row["modified"] for row in method["configurations"]}
    assert modified == {0.0: [], 10.0: ["drift_weight"]}
    assert method["chosen"]["drift_weight"] == 0.0
