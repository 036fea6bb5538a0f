"""Trials of earlier plans stay in a run's folder, and the next plan says so and why."""

import json

import pytest

from bench.errors import Diverged
from bench.store.left_aside import left_aside
from bench.store.run_folder import RunFolder
from bench.sweep.load import load_sweep
from tests.bench.bodies import fake_points
from tests.bench.planned import plan


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "run")


@pytest.fixture
def before(folder, sweep_file):
    """The trials of an earlier plan, with `--set`s of its own: alignprop was interrupted, the others are done."""

    def leave(*overrides, statuses=("done", "interrupted", "done")):
        trials = plan(load_sweep(sweep_file, overrides=("seeds=[0]", *overrides)))
        for trial, status in zip(trials, statuses, strict=True):
            left = folder.trial(trial.key)
            with left.lock():
                left.write_status("running", spec=trial.model_dump(mode="json"), variant=trial.variant, seed=trial.seed)
                fake_points(trial, left, 2)
                left.write_status(status)
        return trials

    return leave


def now(sweep_file, *overrides):
    return plan(load_sweep(sweep_file, overrides=overrides))


@pytest.mark.parametrize(
    ("was", "why"),
    [
        ("resources.workers=2", "resources.workers 2 → 1"),
        ("resources.precision=bf16", "resources.precision bf16 → fp32"),
        ("methods.alignprop.settings.learning_rate=0.25", "methods.alignprop.settings.learning_rate 0.25 → 0.008"),
        ("budget.reward_queries=12", "budget.reward_queries 12 → 8"),
        ("prompts.train=[a cat, a dog]", "prompts.train, 2 prompts → 3"),
        ("prompts.train=[a cat, a dog, a cow]", "prompts.train"),
        ("sampler.steps=5", "sampler.steps 5 → 3"),
        ("lora.rank=3", "lora.rank 3 → 4, lora.alpha 3 → 4"),
        ("evaluate.sampler.steps=4", "evaluate.sampler.steps 4 → 2"),
        ("reward=compressibility-proxy", "reward compressibility-proxy → colourfulness"),
        ("evaluate.gold=compressibility", "evaluate.gold compressibility → none"),
    ],
)
def test_what_has_changed_is_said(before, folder, sweep_file, was, why):
    old = before(was)
    aside = left_aside(folder, now(sweep_file))
    name = next(trial.key for trial in old if trial.variant == "alignprop")
    assert aside.unfinished == (
        f"1 unfinished trial of an earlier plan left aside ({name}): {why}; "
        "kept in run/trials/; undo the change to continue",
    )


def test_nothing_is_said_of_what_the_plan_has_or_what_was_never_begun(before, folder, sweep_file):
    before()
    assert left_aside(folder, now(sweep_file)) == left_aside(RunFolder(folder.path / "none"), now(sweep_file))
    left = folder.trial("ddpo-s0-00000000")
    left.write_status("skipped", "needs trl")
    assert left_aside(folder, now(sweep_file)).unfinished == ()


def test_what_has_an_end_is_kept_and_counted_once(before, folder, sweep_file):
    before("resources.workers=2", statuses=("done", "diverged", "done"))
    aside = left_aside(folder, now(sweep_file))
    assert aside.unfinished == ()
    assert len(aside.finished) == 1
    assert aside.finished[0].startswith("3 finished trials of an earlier plan kept in run/trials/, not in the report (")
    assert aside.finished[0].endswith("): resources.workers 2 → 1")


def test_a_seed_and_a_method_that_were_taken_out(before, folder, sweep_file):
    before(statuses=("done", "interrupted", "failed"))
    aside = left_aside(folder, now(sweep_file, "seeds=[1]"))
    assert len(aside.unfinished) == 1
    assert "2 unfinished trials of an earlier plan left aside (alignprop-s0-" in aside.unfinished[0]
    assert ": seed 0 is no longer in the sweep;" in aside.unfinished[0]
    aside = left_aside(folder, now(sweep_file, "methods=[{name: base}]"))
    assert [text.partition("): ")[2].partition(";")[0] for text in aside.unfinished] == [
        "alignprop is no longer in the sweep",
        "ddpo is no longer in the sweep",
    ]


def test_a_source_that_was_edited(before, folder, sweep_file, monkeypatch):
    before()
    monkeypatch.setattr("bench.plan.identity.method_source", lambda reference: "edited")
    aside = left_aside(folder, now(sweep_file))
    assert "the source of its method, or of a module that the method uses, has changed;" in aside.unfinished[0]


def test_a_reward_of_ones_own_that_was_edited(before, folder, sweep_file, tmp_path):
    path = tmp_path / "own.py"
    path.write_text("def score(images, prompts):\n    return images.mean((1, 2, 3))\n\nscore.differentiable = True\n")
    before(f"reward={path}:score")
    path.write_text(path.read_text().replace("mean", "amax"))
    aside = left_aside(folder, now(sweep_file, f"reward={path}:score"))
    assert ": the source or the weights of reward score;" in aside.unfinished[0]


def test_a_record_without_a_specification(before, folder, sweep_file):
    old = before("resources.workers=2")
    path = folder.trials_path / next(trial.key for trial in old if trial.variant == "alignprop") / "trial.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "spec"}))
    assert ": its settings have changed;" in left_aside(folder, now(sweep_file)).unfinished[0]


def test_run_and_plan_say_it_and_the_former_settings_continue(cli, sweep_file, tmp_path, body):
    def stop(trial, folder):
        fake_points(trial, folder, 2)
        raise KeyboardInterrupt

    def diverge(trial, folder):
        fake_points(trial, folder, 2)
        raise Diverged("the loss is nan")

    once = (sweep_file, "--set", "seeds=[0]", "--out", tmp_path / "run")
    body.special = {"ddpo": stop, "alignprop": diverge}
    assert cli("run", *once, "--executor", "inline", "--set", "lora.rank=3").code == 130
    body.special = {}
    said = "warning: 1 unfinished trial of an earlier plan left aside (ddpo-s0-"
    for verb in (("plan",), ("run", "--executor", "inline", "--json")):
        answer = cli(verb[0], *once, *verb[1:])
        assert answer.code == 0
        assert said in answer.err
        assert "lora.rank 3 → 4" in answer.err
        assert "2 finished trials of an earlier plan kept in run/trials/, not in the report (" in answer.err
    assert any("left aside" in text for text in json.loads(answer.out)["warnings"])
    body.calls.clear()
    again = cli("run", *once, "--executor", "inline", "--set", "lora.rank=3")
    assert body.calls == [("ddpo", 0)]
    assert "left aside" not in again.err
