"""Tuning and comparison in one command: what is tried, what is chosen, what it cost, and what is run again."""

import json
import re
from functools import partial
from pathlib import Path

import pytest

from bench.errors import BenchError
from bench.plan.planner import Planner
from bench.run.search import choosing, tuning
from bench.run.search.candidates import Candidates
from bench.store.run_folder import RunFolder
from bench.sweep.load import load_sweep
from tests.bench.bodies import fake_points
from tests.bench.planned import plan


@pytest.fixture
def inline(run_inline, searched_file):
    """Runs the searched sweep in this process."""
    return partial(run_inline, searched_file)


def record_of(folder: Path) -> dict:
    return json.loads((folder / "tuning" / "search.json").read_text())


def test_candidates_have_seeds_and_prompts_of_their_own(searched_file):
    loaded = load_sweep(searched_file, None, ["search.prompts={train: [a hen, an owl]}", "search.seeds=[100, 101]"])
    found = Candidates(Planner(loaded)).drawn("ddpo")
    assert [each.trials[0].variant for each in found] == ["ddpo-t00", "ddpo-t01", "ddpo-t02"]
    trials = [trial for each in found for trial in each.trials]
    assert {trial.seed for trial in trials} == {100, 101}
    assert {trial.prompts_train for trial in trials} == {("a hen", "an owl")}
    assert {trial.prompts_heldout for trial in trials} == {()}, "what is reported is not looked at"
    assert all(trial.budget == plan(loaded)[1].budget for trial in trials), "each at the comparison's full budget"
    assert [trial.settings["clip_range"] for trial in trials[::2]] == [each.values["clip_range"] for each in found]
    assert all(trial.settings["images_per_prompt"] == 2 for trial in trials), "what the sweep sets stays"


@pytest.mark.integration
def test_the_best_mean_over_seeds_is_compared_on_fresh_ones(inline, tmp_path):
    answer = inline("search.seeds=[100, 101]", "search.samples=2")
    assert answer.code == 0, answer.err
    run = RunFolder.open(tmp_path / "run")
    kept = record_of(run.path)
    assert [method["variant"] for method in kept["methods"]] == ["alignprop", "ddpo"]
    folder = RunFolder.open(run.path / "tuning")
    assert len(folder.planned()) == 2 * 2 * 2
    for method in kept["methods"]:
        for row in method["configurations"]:
            last = [folder.trial(key).read_curve()[-1].values["train"]["reward"] for key in row["trials"]]
            assert row["score"] == pytest.approx(sum(last) / 2)
        assert method["score"] == max(row["score"] for row in method["configurations"])
        compared = [run.trial(row.trial).read().spec for row in run.planned() if row.variant == method["variant"]]
        assert [spec["seed"] for spec in compared] == [0, 1]
        for spec in compared:
            assert {name: spec["settings"][name] for name in method["chosen"]} == method["chosen"]
        ends = [folder.trial(key).read_curve()[-1].axes for row in method["configurations"] for key in row["trials"]]
        for axis in choosing.COSTS:
            assert method["cost"][axis] == pytest.approx(sum(end[axis] for end in ends)), "the whole bill"
    report = (run.path / "report" / "report.md").read_text()
    assert "## Tuning" in report
    assert "seeds 100 and 101, which are not reported" in report
    again = load_sweep(run.sweep_path)
    assert again.sweep.search is None
    assert [trial.key for trial in plan(again)] == [row.trial for row in run.planned()], "the stored sweep is tuned"


@pytest.mark.slow
def test_nothing_is_tuned_twice_and_a_changed_search_is(inline, tmp_path):
    assert inline().code == 0
    first = record_of(tmp_path / "run")
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "run" / "tuning").rglob("trial.json")}
    assert inline("retries=1").code == 0
    assert record_of(tmp_path / "run") == first
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    assert inline("search.samples=4").code == 0
    second = record_of(tmp_path / "run")
    assert [len(method["configurations"]) for method in second["methods"]] == [4, 4]
    for before, after in zip(first["methods"], second["methods"], strict=True):
        assert after["configurations"][:3] == before["configurations"], "the first three are taken over"
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


@pytest.mark.slow
def test_optuna_learns_from_what_it_was_told_and_takes_up_where_it_stopped(inline, tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    overrides = ("search.algorithm=optuna", "search.samples=4", "search.at_once=2", "seeds=[0]")
    assert inline(*overrides, out=tmp_path / "whole").code == 0
    whole = record_of(tmp_path / "whole")
    rounds = []
    real = tuning.mean_score

    def stop_in_the_second_round(folder, candidate, metric):
        rounds.append(candidate.number)
        if candidate.number == 2:
            raise KeyboardInterrupt
        return real(folder, candidate, metric)

    monkeypatch.setattr(tuning, "mean_score", stop_in_the_second_round)
    assert inline(*overrides).code == 130
    monkeypatch.setattr(tuning, "mean_score", real)
    assert not (tmp_path / "run" / "tuning" / "search.json").exists()
    assert inline(*overrides).code == 0
    resumed = record_of(tmp_path / "run")

    def tried(record):
        return [[row["values"] for row in method["configurations"]] for method in record["methods"]]

    assert tried(resumed) == tried(whole), "the same suggestions"
    assert [method["chosen"] for method in resumed["methods"]] == [method["chosen"] for method in whole["methods"]]


@pytest.mark.slow
def test_a_configuration_that_fails_cannot_win_and_if_all_do_the_cause_is_told(inline, searched_file, tmp_path):
    method = "import math\nfrom methods.alignprop import AlignProp\n\nclass Picky(AlignProp):\n    name = 'picky'\n"
    method += "    def step(self, prompts):\n        if self.settings.learning_rate > LIMIT:\n"
    method += "            raise RuntimeError('too fast')\n        return super().step(prompts)\n"
    overrides = (
        f"methods=[{{name: '{tmp_path}/picky.py:Picky', variant: picky, settings: {{batch_size: 2}}}}]",
        "search.space={picky: {learning_rate: [1e-4, 1e-3, 1e-2]}}",
    )
    (tmp_path / "picky.py").write_text("LIMIT = 5e-4\n" + method)
    assert inline(*overrides).code == 0
    (picky,) = record_of(tmp_path / "run")["methods"]
    assert picky["chosen"] == {"learning_rate": 1e-4}
    assert picky["statuses"] == {"done": 1, "failed": 2}
    assert "2 failed" in (tmp_path / "run" / "report" / "report.md").read_text()
    (tmp_path / "picky.py").write_text("LIMIT = 0\n" + method)
    answer = inline(*overrides, out=tmp_path / "other")
    assert answer.code == 2
    assert "no configuration of picky finished" in answer.err
    assert "too fast" in answer.err


def fails(trial, folder):
    raise ConnectionError("a blip")


def statuses(record):
    return {method["variant"]: method["statuses"] for method in record["methods"]}


def test_what_failed_is_tried_again_and_what_was_chosen_stands_until_then(inline, body, cli, searched_file, tmp_path):
    body.special = {"ddpo-t01": fails}
    answer = inline()
    assert answer.code == 0, answer.err
    assert statuses(record_of(tmp_path / "run")) == {"alignprop": {"done": 3}, "ddpo": {"done": 2, "failed": 1}}
    told = [line for line in answer.err.splitlines() if line.startswith("1 configuration failed; the same command")]
    assert len(told) == 1
    assert f"bench status {tmp_path}/run/tuning" in told[0]
    planned = cli("plan", searched_file, "--out", tmp_path / "run")
    assert "tuned already" in planned.out
    assert "1 configuration that failed will be tried again" in planned.out
    body.calls.clear()
    assert inline().code == 0, "and as often as it fails there is a choice among the others"
    assert body.calls == [("ddpo-t01", 100)], "nothing else"
    body.special, body.calls[:] = {}, []
    answer = inline()
    assert answer.code == 0
    assert body.calls == [("ddpo-t01", 100)]
    assert "tries again" not in answer.err
    assert statuses(record_of(tmp_path / "run")) == {"alignprop": {"done": 3}, "ddpo": {"done": 3}}
    body.calls.clear()
    assert inline().code == 0
    assert body.calls == []


def test_a_configuration_that_wins_late_is_compared(inline, body, tmp_path):
    assert inline("seeds=[0]").code == 0
    before = record_of(tmp_path / "run")["methods"][1]["chosen"]

    def better(trial, folder):
        fake_points(trial, folder, 2)
        folder.append_point(2, {trial.budget.axis: trial.budget.limit, "steps": 2}, {"train": {"reward": 9.0}})

    body.special = {"ddpo-t02": fails}
    assert inline("seeds=[0]", out=tmp_path / "late").code == 0
    body.special = {"ddpo-t02": better}
    assert inline("seeds=[0]", out=tmp_path / "late").code == 0
    method = record_of(tmp_path / "late")["methods"][1]
    assert method["chosen"] == method["configurations"][2]["values"] != before
    (compared,) = [row for row in RunFolder.open(tmp_path / "late").trials() if row.planned.variant == "ddpo"]
    assert {name: compared.record.spec["settings"][name] for name in before} == method["chosen"]


def test_an_interruption_while_trying_again_is_continued(inline, body, tmp_path):
    body.special = {"ddpo-t01": fails}
    assert inline().code == 0

    def stop(trial, folder):
        fake_points(trial, folder, 2)
        raise KeyboardInterrupt

    body.special = {"ddpo-t01": stop}
    assert inline().code == 130
    body.special, body.calls[:] = {}, []
    assert inline().code == 0
    assert body.calls == [("ddpo-t01", 100)]


def test_optuna_tries_again_what_failed_and_keeps_what_it_suggested(inline, body, tmp_path):
    pytest.importorskip("optuna")
    body.special = {"ddpo-t01": fails}
    overrides = ("search.algorithm=optuna", "search.samples=6", "search.at_once=2")
    assert inline(*overrides).code == 0
    before = record_of(tmp_path / "run")
    body.special, body.calls[:] = {}, []
    assert inline(*overrides).code == 0
    assert body.calls == [("ddpo-t01", 100)]
    after = record_of(tmp_path / "run")
    for one, other in zip(before["methods"], after["methods"], strict=True):
        values = [[row["values"] for row in method["configurations"]] for method in (one, other)]
        assert values[0] == values[1]


def test_what_another_search_pruned_is_decided_anew(inline, body, tmp_path):
    assert inline().code == 0
    folder = RunFolder.open(tmp_path / "run" / "tuning")
    key = folder.planned()[-1].trial
    folder.trial(key).write_status("pruned", "stopped by ASHA", search="another one")
    (folder.path / "search.json").unlink()
    body.calls.clear()
    assert inline().code == 0
    assert body.calls == [(folder.trial(key).read().variant, 100)]
    folder.trial(key).write_status("pruned", "stopped by ASHA", search=record_of(tmp_path / "run")["fingerprint"])
    (folder.path / "search.json").unlink()
    body.calls.clear()
    assert inline().code == 0
    assert body.calls == []


def test_a_damaged_record_is_written_again_from_the_trials(inline, body, tmp_path):
    assert inline().code == 0
    path = tmp_path / "run" / "tuning" / "search.json"
    whole = path.read_text()
    assert json.loads(whole)["version"] == 1
    body.calls.clear()
    wrong_score = re.sub('"score": [-0-9.]+', '"score": "high"', whole)
    for damaged in (whole[:-9], whole.replace("fingerprint", "print"), wrong_score):
        path.write_text(damaged)
        answer = inline()
        assert answer.code == 0
        assert "search.json is damaged; it is written again from the stored trials" in answer.err
        assert path.read_text() == whole
    later = whole.replace('"version": 1', '"version": 2')
    path.write_text(later)
    answer = inline()
    assert answer.code == 2
    assert "search.json: is of version 2, and this package reads versions up to 1" in answer.err
    assert (path.read_text(), body.calls) == (later, [])


def test_how_many_run_at_a_time_is_the_tunings_own(inline, body, tmp_path, monkeypatch):
    """Not the comparison's: one method and one seed are one trial, and eight configurations are eight."""
    monkeypatch.setattr("bench.run.executors.inline.parallel", lambda trials, address=None: 16)
    only = ("methods=[{name: alignprop, settings: {batch_size: 2}}]", "seeds=[0]", "search.samples=8")
    space = "search.space={alignprop: {learning_rate: {loguniform: [1e-4, 1e-2]}}}"
    answer = inline(*only, space)
    assert answer.code == 0, answer.err
    run = RunFolder.open(tmp_path / "run")
    assert "tiny-tuning: 8 trials, 8 reward_queries each, 8 at a time" in answer.err
    assert run.tuning.plan_record().parallel == 8
    assert run.plan_record().parallel == 1
    answer = inline(*only, space, "search.algorithm=optuna", "search.at_once=4", out=tmp_path / "rounds")
    assert answer.code == 0
    assert RunFolder.open(tmp_path / "rounds").tuning.plan_record().parallel == 4


def test_status_shows_the_tuning_until_there_is_something_to_compare(cli, searched_file, tmp_path):
    loaded = load_sweep(searched_file)
    found = tuning.Tuning(Planner(loaded), RunFolder(tmp_path / "run"), "inline")
    with pytest.raises(BenchError, match="no configuration"):
        found.run(lambda *_: False)
    answer = cli("status", tmp_path / "run")
    assert answer.code == 0
    assert "ddpo-t02-s100" in answer.out
