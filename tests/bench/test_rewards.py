"""Rewards inside a sweep: composed ones on the curve, networks of a user's own, and ways of going wrong."""

import json

import pandas as pd
import pytest
import torch

from bench.plugins import build_reward
from bench.sweep import RewardSpec
from bench.trial import run_trial
from bench.trial_folder import TrialFolder
from tests.bench.test_trial import make_trial

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
    assert rows["eval_queries"].max() == rows["point"].max() * 8 + 8, "a part is no query of its own"


def test_a_users_network_is_frozen_and_never_steps(tiny_model, tmp_path):
    plugin = tmp_path / "taste.py"
    plugin.write_text(NETWORK.format(size=image_size(tiny_model)))
    reward = build_reward(RewardSpec(name=f"{plugin}:score"))
    (network,) = reward.modules()
    before = [parameter.clone() for parameter in network.parameters()]
    folder = TrialFolder(tmp_path / "trial")
    run_trial(make_trial(tiny_model, "alignprop", reward=f"{plugin}:score"), folder)
    assert folder.read_curve()[-1]["axes"]["updates"] > 0
    assert all(torch.equal(old, new) for old, new in zip(before, network.parameters(), strict=True))
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in network.parameters())
    assert not network.training, "dropout would be another reward at every call"


def image_size(model):
    from diffusers import AutoencoderKL, UNet2DConditionModel

    vae = AutoencoderKL.load_config(str(model), subfolder="vae")
    unet = UNet2DConditionModel.load_config(str(model), subfolder="unet")
    return unet["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1)


BROKEN = {
    "raises": ("raise ValueError('no luck')", "Reward 'score' raised ValueError: no luck"),
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
    assert found["base"][0] == found["ddpo"][0] == "done"


def test_images_that_are_not_finite_are_the_policys_divergence(tiny_model, tmp_path, monkeypatch):
    from bench.errors import Diverged
    from models.policy import Policy

    monkeypatch.setattr(Policy, "decode", lambda self, latents: torch.full((len(latents), 3, 8, 8), torch.nan))
    with pytest.raises(Diverged, match="the images that were sampled hold NaN or infinite pixels"):
        run_trial(make_trial(tiny_model), TrialFolder(tmp_path / "trial"))
