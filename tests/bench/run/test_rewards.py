"""Rewards inside a sweep: composed ones on the curve, networks of a user's own, and ways of going wrong."""

import json

import pandas as pd
import pytest
import torch

from bench.build.plugins import build_reward, load_object
from bench.run.trial import TrialLoop, run_trial
from bench.store.trial_folder import TrialFolder
from bench.sweep.schema import RewardSpec
from tests.bench.run.test_trial import make_trial, points

NETWORK = """\
import torch
torch.manual_seed(0)

class Taste:
    def __init__(self):
        self.network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Dropout(0.5), torch.nn.LazyLinear(1))
        self.network(torch.zeros(1, 3, {size}, {size}))

    def __call__(self, images, prompts):
        return self.network(images)[:, 0]

    differentiable = True

score = Taste()
"""


def statuses(answer):
    return {row["variant"]: (row["status"], row["cause"]) for row in json.loads(answer.out)["trials"]}


def test_every_part_is_on_the_curve(cli, sweep_file, tmp_path):
    (tmp_path / "mine.py").write_text("def score(images, prompts):\n    return images.mean((1, 2, 3))\n")
    reward = "{sum: [{name: colourfulness, weight: 2}, {name: 'mine.py:score', weight: -1, label: dark}]}"
    arguments = ("--set", f"reward={reward}", "--set", "methods=[{name: ddpo, settings: {prompts_per_rollout: 2}}]")
    answer = cli("run", sweep_file, *arguments, "--set", "seeds=[0]", "--executor", "inline", "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    rows = pd.read_parquet(tmp_path / "run" / "results.parquet")
    values = rows[rows["split"] == "train"].pivot(index="point", columns="metric", values="value")
    torch.testing.assert_close(
        torch.tensor((2 * values["reward/colourfulness"] - values["reward/dark"]).to_numpy()),
        torch.tensor(values["reward"].to_numpy()),
        atol=1e-6, rtol=0,
    )  # fmt: skip
    images, own = 8, 6  # at each point; at the first and the last also under the training sampler
    assert rows["eval_queries"].max() == (rows["point"].max() + 1) * images + 2 * own, "a part is no query of its own"


def test_a_users_network_is_frozen_and_never_steps(tiny_model, tmp_path):
    plugin = tmp_path / "taste.py"
    plugin.write_text(NETWORK.format(size=image_size(tiny_model)))
    reward = build_reward(RewardSpec(name=f"{plugin}:score"))
    (network,) = reward.modules()
    before = [parameter.clone() for parameter in network.parameters()]
    folder = TrialFolder(tmp_path / "trial")
    run_trial(make_trial(tiny_model, "alignprop", reward=f"{plugin}:score"), folder)
    assert folder.read_curve()[-1].axes["updates"] > 0
    assert all(torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in network.parameters())
    assert not network.training, "dropout would be another reward at every call"


def image_size(model):
    from diffusers import AutoencoderKL, UNet2DConditionModel

    vae = AutoencoderKL.load_config(str(model), subfolder="vae")
    unet = UNet2DConditionModel.load_config(str(model), subfolder="unet")
    return unet["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1)


BROKEN = {
    "raises": ("raise ValueError('no luck')", "RewardError: Reward 'score' raised ValueError: no luck (mine.py:3); "),
    "shape": ("return images.mean((2, 3))", "must return a tensor of shape (2,), not (2, 3)"),
    "dtype": ("return images.mean((1, 2, 3)).long()", "must return floats, not torch.int64"),
    "cut": ("return images.mean((1, 2, 3)).detach()", "its scores do not depend on the images"),
}


@pytest.mark.parametrize(
    "how", [how if how == "raises" else pytest.param(how, marks=pytest.mark.slow) for how in BROKEN]
)
def test_a_reward_that_fails_one_method_fails_one_trial(how, cli, sweep_file, tmp_path):
    """It goes wrong only where a gradient is wanted, so base and ddpo finish."""
    body, cause = BROKEN[how]
    (tmp_path / "mine.py").write_text(
        f"def score(images, prompts):\n    if images.requires_grad:\n        {body}\n"
        "    return images.mean((1, 2, 3))\nscore.differentiable = True\n"
    )
    answer = cli(
        "run", sweep_file, "--set", "reward=mine.py:score", "--set", "seeds=[0]", "--executor", "inline", "--json",
        "--out", tmp_path / "run",
    )  # fmt: skip
    assert answer.code == 3
    found = statuses(answer)
    assert found["alignprop"][0] == "failed"
    assert cause in found["alignprop"][1]
    trace = (tmp_path / "run" / found["alignprop"][1].rpartition("the traceback is in ")[2]).read_text()
    assert cause.partition(" (")[0].rpartition(": ")[2] in trace
    assert found["base"][0] == found["ddpo"][0] == "done"


def test_images_that_are_not_finite_are_the_policys_divergence(tiny_model, tmp_path, monkeypatch):
    from bench.errors import Diverged
    from models.policy import Policy

    monkeypatch.setattr(Policy, "decode", lambda self, latents: torch.full((len(latents), 3, 8, 8), torch.nan))
    with pytest.raises(Diverged, match="the images that were sampled hold NaN or infinite pixels"):
        run_trial(make_trial(tiny_model), TrialFolder(tmp_path / "trial"))


# -- what own code does to others ------------------------------------------------------------------------------

PLAIN = """\
import random

import numpy as np
import torch

{header}


def score(images, prompts):
    {body}
"""
TAME = "return 0.5 + 0 * images.mean((1, 2, 3))"
DRAW = "return [torch.rand(()).item() + np.random.rand() + random.random() for _ in prompts]"
RUDE = {
    "writes": "images.clamp_(0, 0.2); prompts.clear(); return 0.5 + 0 * images.mean((1, 2, 3))",
    "sets": "torch.set_default_dtype(torch.float64); torch.set_grad_enabled(False); torch.manual_seed(1); "
    "return [0.5] * len(prompts)",
}  # fmt: skip


def own_reward(folder, body=TAME, header=""):
    folder.mkdir(exist_ok=True)
    path = folder / "mine.py"
    path.write_text(PLAIN.format(body=body.replace("; ", "\n    "), header=header))
    return f"{path}:score"


def ran(model, folder, reward, method="ddpo", **changes):
    """The trial's folder; colourfulness is its gold."""
    found = TrialFolder(folder)
    run_trial(make_trial(model, method, reward=reward, **changes), found)
    return found


def numbers(folder):
    """All that was evaluated, and all pictures."""
    frame = folder.read_evaluation()
    return frame.to_dict("list"), {path.name: path.read_bytes() for path in folder.samples.rglob("*.png")}


@pytest.mark.parametrize("how", RUDE)
def test_a_rude_reward_changes_nothing_but_its_scores(how, tiny_model, tmp_path):
    """Gold, diversity, drift, pictures and what is learned are those beside a reward that gives the same scores."""
    tame = ran(tiny_model, tmp_path / "tame", own_reward(tmp_path / "a"))
    rude = ran(tiny_model, tmp_path / "rude", own_reward(tmp_path / "b", RUDE[how]))
    assert numbers(tame) == numbers(rude)
    assert [row.values for row in tame.read_curve()] == [row.values for row in rude.read_curve()]


def test_a_reward_that_draws_gives_one_trial_one_curve_also_when_resumed(tiny_model, tmp_path):
    reward = own_reward(tmp_path / "own", DRAW)
    first = ran(tiny_model, tmp_path / "first", reward)
    torch.rand(7)
    folder = TrialFolder(tmp_path / "second")
    loop = TrialLoop(make_trial(tiny_model, reward=reward), folder)
    loop.resume_or_begin()
    loop.step()
    torch.rand(7)
    run_trial(make_trial(tiny_model, reward=reward), folder)
    assert points(first) == points(folder)
    assert first.read().warnings is None, "what it draws is seeded, so it repeats"
    rows = first.read_evaluation()
    values = rows[(rows["metric"] == "reward") & (rows["split"] == "train")]
    assert values[values["point"] == 0]["value"].tolist() == values[values["point"] == 1]["value"].tolist()
    other = ran(tiny_model, tmp_path / "other", reward, seed=1)
    assert other.read_curve()[1].extra["reward"] != first.read_curve()[1].extra["reward"]


OWN_STATE = {
    "generator": ("rng = np.random.default_rng()", "return rng.random(len(prompts)).tolist()"),
    "counter": ("calls = []", "calls.append(1); return [float(len(calls))] * len(prompts)"),
    "entropy": ("", "return [random.SystemRandom().random() for _ in prompts]"),
    "torch's": ("g = torch.Generator()", "g.seed(); return torch.rand(len(prompts), generator=g)"),
}


@pytest.mark.parametrize("how", OWN_STATE)
def test_a_reward_that_cannot_be_contained_is_named(how, tiny_model, tmp_path):
    header, body = OWN_STATE[how]
    folder = ran(tiny_model, tmp_path / "trial", own_reward(tmp_path / "own", body, header), "base")
    told = folder.warnings()["repeat/score"]
    assert told.point == 0
    assert told.text.startswith("reward 'score' scores the same images differently when it is called again")


def test_who_cannot_be_contained_is_told_by_run_and_report(cli, sweep_file, tmp_path):
    header, body = OWN_STATE["generator"]
    reward = own_reward(tmp_path / "own", body, header)
    answer = cli(
        "run", sweep_file, "--set", f"reward={reward}", "--set", "methods=[{name: base}]", "--set", "seeds=[0]",
        "--executor", "inline", "--json", "--out", tmp_path / "run",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    (told,) = [text for text in json.loads(answer.out)["warnings"] if "scores the same images differently" in text]
    assert told.startswith("reward 'score'")
    assert answer.err.count(told) == 1
    assert any(line.startswith("warning: base-s0-") and told in line for line in answer.err.splitlines())
    assert told in (tmp_path / "run" / "report" / "report.md").read_text()


IMPORTS = {
    "dtype": "torch.set_default_dtype(torch.float64)",
    "grad": "torch.set_grad_enabled(False)",
    "seed": "torch.manual_seed(0); np.random.seed(0); random.seed(0)",
    "threads": "torch.set_num_threads(torch.get_num_threads() + 1)",
}


@pytest.mark.parametrize("how", IMPORTS)
def test_what_an_import_sets_is_undone(how, tmp_path):
    torch.manual_seed(5)
    before = (
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.get_num_threads(),
        torch.get_rng_state().tolist(),
    )
    build_reward(RewardSpec(name=own_reward(tmp_path / "own", header=IMPORTS[how])))
    after = (
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.get_num_threads(),
        torch.get_rng_state().tolist(),
    )
    assert before == after


def test_a_network_that_is_not_seeded_is_the_same_in_every_trial(tmp_path):
    """Its weights are drawn where the file is imported; another place on another machine draws the same."""
    header = "W = torch.rand(3).tolist() + np.random.rand(2).tolist() + [random.random()]"
    found = []
    for name in ("here", "there"):
        torch.rand(5)
        reward = own_reward(tmp_path / name, header=header)
        found.append(load_object(reward.replace(":score", ":W")))
    assert found[0] == found[1]


def test_what_a_trial_leaves_set_ends_with_it(tiny_model, tmp_path, monkeypatch):
    """Under --executor inline the next trial runs in the same process."""
    from bench.run.worker import run_and_record

    def leaves(trial, folder):
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)

    monkeypatch.setattr("bench.run.worker.run_trial", leaves)
    assert run_and_record(make_trial(tiny_model), TrialFolder(tmp_path / "trial")) == "done"
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
