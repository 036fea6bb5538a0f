"""Scores that are NaN or infinite: of the optimised reward a failure with its name, of another one a warning."""

import io
import json
import math

import pandas as pd
import pytest
import torch

from bench.build import plugins
from bench.build.trial_spec import RewardRef
from bench.run.progress import watching
from bench.run.scores import not_finite, not_finite_metrics
from bench.run.worker import run_and_record
from bench.store.records import TrialWarning
from bench.store.run_folder import RunFolder
from bench.store.trial_folder import TrialFolder
from bench.sweep.schema import RewardSpec
from tests.bench.run.test_trial import make_trial

REWARDS = """\
calls = {"once": 0}


def plain(images, prompts):
    return images.mean((1, 2, 3))


def fussy(images, prompts):
    return [float("nan") if index == 0 else 0.5 for index in range(len(images))]


def lofty(images, prompts):
    return [float("inf") if index == 0 else 0.5 for index in range(len(images))]


def once(images, prompts):
    calls["once"] += 1
    scores = images.mean((1, 2, 3)).clone()
    if calls["once"] == 4:
        scores[0] = float("nan")
    return scores


def counted(images, prompts):
    calls["counted"] = calls.get("counted", 0) + 1
    if calls["counted"] == counted.bad:
        raise OSError("gone")
    return images.mean((1, 2, 3))


def steep(images, prompts):
    bright = images.mean((1, 2, 3))
    return (bright - bright.detach()).sqrt() + bright


steep.differentiable = True


def huge(images, prompts):
    import torch

    return torch.full((len(images),), 70000.0).half()
"""


@pytest.fixture
def ref(tmp_path):
    """A reward of the plugin, as a trial has it."""
    plugin = tmp_path / "mine.py"
    plugin.write_text(REWARDS)

    def make(spec):
        spec = {"name": spec} if isinstance(spec, str) else spec
        parts = {
            key: [{**part, "name": f"{plugin}:{part['name']}"} for part in value]
            for key, value in spec.items()
            if key == "sum"
        }
        name = {"name": f"{plugin}:{spec['name']}"} if "name" in spec else {}
        built = RewardSpec(**{**spec, **parts, **name})
        return RewardRef(spec=built, label=built.shown, differentiable=False, fingerprint="x")

    return make


def cause_of(folder):
    return json.loads((folder.path / "trial.json").read_text())["cause"]


def test_the_words():
    nan, inf = math.nan, math.inf
    scores = torch.tensor([1.0, nan, inf, -inf])
    assert not_finite("mine", torch.ones(4), {"part": scores}) is None, "a part may be clipped: it is a column only"
    said = not_finite("a+b", scores, {"a": torch.ones(4), "b": torch.tensor([1.0, nan, 1.0, 1.0])})
    assert said == (
        "reward 'a+b' gave 3 scores that are not finite (1 NaN and 2 infinite) of 4; "
        "its part 'b' gave 1 score that is not finite (1 NaN) of 4"
    )


@pytest.mark.parametrize(
    ("reward", "words"),
    [
        ("fussy", "RewardError: reward 'fussy' gave 1 score that is not finite (1 NaN) of 6"),
        ("lofty", "reward 'lofty' gave 1 score that is not finite (1 infinite) of 6, in the evaluation after step 0"),
        ("huge", "reward 'huge' gave 6 scores that are not finite (6 infinite) of 6"),
        ({"name": "fussy", "label": "mine"}, "reward 'mine' gave"),
        ({"sum": [{"name": "plain"}, {"name": "fussy", "weight": 2}]}, "reward 'plain+fussy' gave"),
        ({"sum": [{"name": "plain"}, {"name": "lofty", "weight": 0}]}, "its part 'lofty' gave 1 score"),
    ],
)
def test_the_optimised_reward_fails_the_trial_by_name(reward, words, ref, tiny_model, tmp_path):
    folder = TrialFolder(tmp_path / "trial")
    trial = make_trial(tiny_model).model_copy(update={"reward": ref(reward), "gold": None})
    assert run_and_record(trial, folder) == "failed", "not diverged: the same command tries it again"
    assert words in cause_of(folder)


def test_a_nan_that_passes_is_tried_again(ref, tiny_model, tmp_path):
    folder = TrialFolder(tmp_path / "trial")
    trial = make_trial(tiny_model).model_copy(update={"reward": ref("once"), "gold": None})
    assert run_and_record(trial, folder) == "failed"
    said, _, where = cause_of(folder).partition("; ")
    assert said.endswith("reward 'once' gave 1 score that is not finite (1 NaN) of 4, at step 1")
    assert where == "the traceback is in trials/trial/error.txt"
    assert run_and_record(trial, folder) == "done"

    again = TrialFolder(tmp_path / "again")
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.py").write_text(REWARDS)
    spec = RewardSpec(name=f"{other / 'mine.py'}:once")
    retried = trial.model_copy(update={"reward": trial.reward.model_copy(update={"spec": spec}), "retries": 1})
    assert run_and_record(retried, again) == "done"


@pytest.mark.parametrize("call", [1, 2, 3, 4, 5])
def test_an_error_that_passes_is_seen_in_whichever_call_it_comes(call, ref, tiny_model, tmp_path):
    """Own rewards are asked twice more, to see whether they repeat; no call that counts is among those."""
    folder = TrialFolder(tmp_path / "trial")
    reward = ref("counted")
    plugins.load_object(reward.spec.name).bad = call
    trial = make_trial(tiny_model).model_copy(update={"reward": reward, "gold": None})
    assert run_and_record(trial, folder) == "failed"
    assert "RewardError: Reward 'counted' raised OSError: gone (mine.py:" in cause_of(folder)


def test_a_gradient_that_is_not_finite_is_the_rewards_and_no_divergence(ref, tiny_model, tmp_path):
    folder = TrialFolder(tmp_path / "trial")
    reward = ref("steep").model_copy(update={"differentiable": True})
    trial = make_trial(tiny_model, "draft").model_copy(update={"reward": reward, "gold": None})
    assert run_and_record(trial, folder) == "failed", "not diverged: the same command tries it again"
    assert "Reward 'steep' has a gradient that is not finite, for" in cause_of(folder)


def test_gold_and_reported_rewards_warn_once_and_the_trial_goes_on(ref, tiny_model, tmp_path):
    run = RunFolder(tmp_path / "run")
    trial = make_trial(tiny_model).model_copy(
        update={"reward": ref("plain"), "gold": ref("fussy"), "rewards": (ref("lofty"),)}
    )
    run.write_plan({}, [trial], name="test", parallel=1)
    folder, stream = run.trial(trial.key), io.StringIO()
    with watching([trial], run, stream):
        assert run_and_record(trial, folder) == "done"
    lines = [line for line in stream.getvalue().splitlines() if line.startswith("warning: ")]
    told = f"warning: {trial.key}: "
    # Six images of training prompts and two held-out ones, each split scored by itself.
    assert lines == [
        f"{told}gold reward 'fussy' gave 2 scores that are not finite (2 NaN) of 8, at point 0; "
        "no mean is taken over such values",
        f"{told}reward 'lofty' gave 2 scores that are not finite (2 infinite) of 8, at point 0; "
        "no mean is taken over such values",
    ]
    last = folder.read_curve()[-1].values["train"]
    assert math.isnan(last["gold"])
    assert math.isfinite(last["reward"])


def test_a_warning_is_kept_with_its_trial_and_forgotten_with_its_point(tmp_path):
    folder = TrialFolder(tmp_path / "trial")
    folder.write_status("running")
    folder.warn("gold", 2, "first")
    folder.warn("gold", 3, "later")
    folder.write_status("done")
    assert folder.warnings() == {"gold": TrialWarning(point=2, text="first")}
    folder.cut(2)
    assert folder.warnings()
    folder.cut(1)
    assert folder.warnings() == {}
    assert folder.recorded_status() == "done"


def test_not_finite_metrics_are_named_by_their_reward(tiny_model):
    values = [1.0, math.nan, math.inf, 2.0, math.nan]
    rows = pd.DataFrame({"metric": ["reward", "gold", "reward/x", "reward/x", "diversity"], "value": values})
    assert not_finite_metrics(rows, make_trial(tiny_model)) == {
        "gold": "gold reward 'colourfulness' gave 1 score that is not finite (1 NaN) of 1",
        "reward/x": "reward 'x' gave 1 score that is not finite (1 infinite) of 2",
        "diversity": "diversity gave 1 score that is not finite (1 NaN) of 1",
    }
