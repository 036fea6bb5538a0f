"""docs/models.md's page on a model of one's own is followed literally: two files are written, and the sweep is run."""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
import torch

from bench.build.plugins import load_family
from bench.cli import run_command
from bench.errors import BenchError
from bench.plan.model_facts import facts_of
from bench.sweep.load import load_sweep
from models.adapter import AdapterSettings
from models.meter import Meter
from models.noise import SeedStream
from models.policy import Policy
from models.sampler import SamplerSettings
from tests.bench.planned import plan

TEXT = (Path(__file__).parents[1] / "docs" / "models.md").read_text()


@pytest.fixture
def page(tmp_path, monkeypatch):
    """The folder in which the reader works, with the page's two files."""
    for name, language in (("colours.py", "python"), ("colours.yaml", "yaml")):
        (code,) = re.findall(rf"```{language}\n(# {re.escape(name)}\n.*?)```", TEXT, re.DOTALL)
        (tmp_path / name).write_text(code)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_runs_as_it_is_written_and_alignprop_learns(page):
    (line,) = re.findall(r"```\n(bench run colours.*?)\n```", TEXT)
    assert run_command([*shlex.split(line)[1:], "--executor", "inline"]) == 0
    results = pd.read_parquet(page / "runs/colours/results.parquet")
    reward = results[(results["metric"] == "reward") & (results["split"] == "train")]
    reward = reward.groupby("variant")["value"].last()
    assert reward["base"] == pytest.approx(0, abs=0.02), "red and blue cancel, green is neither"
    assert reward["alignprop"] > 0.2
    assert (page / "runs/colours/report/report.html").is_file()


def test_the_base_model_samples_the_gaussians_that_the_page_says(page):
    policy = Policy(
        load_family(f"{page / 'colours.py'}:Colours"),
        SamplerSettings(500, eta=1.0),
        Meter(),
        AdapterSettings(rank=2, targets=("colour",)),
    )
    prompts = ["red", "blue"] * 32

    def noise(key):
        return SeedStream(0).noise("test", 0, key, range(len(prompts)), policy.state_shape)

    images = policy.sample(policy.start(noise(-1)), policy.encode(prompts), noise)
    pixels = 32 * 64
    for row, colour in ((0, (0.7, 0.3, 0.3)), (1, (0.3, 0.3, 0.7))):
        own = images[row::2].transpose(0, 1).flatten(1)
        torch.testing.assert_close(own.mean(1), torch.tensor(colour), rtol=0, atol=4 * 0.1 / pixels**0.5)
        # Steps of finite size widen the pictures by some per cent.
        torch.testing.assert_close(own.std(1), torch.full((3,), 0.1), rtol=0.1, atol=0)


def test_the_adapter_is_written_as_peft_reads_it(page):
    from peft import PeftModel

    family = load_family(f"{page / 'colours.py'}:Colours")
    policy = Policy(family, SamplerSettings(2), Meter(), AdapterSettings(rank=2, targets=("colour",)))
    with torch.no_grad():
        for parameter in policy.trainable_parameters():
            parameter.normal_()
    policy.save_adapter(page / "adapter")
    fresh = load_family(f"{page / 'colours.py'}:Colours").parts["denoiser"]
    words = torch.eye(3)
    expected = family.parts["denoiser"].colour(words)
    assert not torch.allclose(expected, fresh.colour(words))
    torch.testing.assert_close(
        PeftModel.from_pretrained(fresh, page / "adapter").base_model.model.colour(words), expected
    )


def test_the_identity_follows_the_weights(page):
    source = (page / "colours.py").read_text()
    # A buffer that is a single number has an identity too.
    source = source.replace(
        "self.register_buffer", 'self.register_buffer("count", torch.tensor(0))\n        self.register_buffer'
    )
    (page / "colours.py").write_text(source)
    (trial, *_) = plan(load_sweep(page / "colours.yaml"))
    (page / "colours.py").write_text(source.replace("[0.7, 0.3, 0.3]", "[0.8, 0.3, 0.3]"))
    (other, *_) = plan(load_sweep(page / "colours.yaml"))
    assert trial.identity != other.identity


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("class Colours(Family)", "class Colours", "is no model: expected a subclass of models.families.base.Family"),
        ("pixels = 64", "", "cannot be built: .*abstract.*pixels"),
        ("return final", "return final[:, :1]", r"decode\(final\) gives torch.float32 \[1, 1, 8, 8\]; expected"),
        ("return denoiser(state", "return denoiser(state[:, :2]", "shape|cannot be sampled"),
        ("pooled=words", "pooled=torch.cat([words, words])", "must give one row for the prompt"),
    ],
)
def test_a_model_that_breaks_the_contract_is_refused_by_the_plan(page, old, new, problem):
    source = (page / "colours.py").read_text()
    assert source.count(old) == 1
    (page / "colours.py").write_text(source.replace(old, new))
    with pytest.raises(BenchError, match=rf"colours.yaml:4: model: .*{problem}"):
        plan(load_sweep(page / "colours.yaml"))


def test_a_peer_that_knows_one_family_is_refused_in_one_sentence(page):
    sweep = (page / "colours.yaml").read_text().replace("{name: ddpo}", "{name: trl-ddpo}")
    (page / "colours.yaml").write_text(sweep)
    with pytest.raises(
        BenchError, match="trl-ddpo works on models of the family stable_diffusion; this one's is colours"
    ):
        plan(load_sweep(page / "colours.yaml"))


def test_a_method_that_needs_gaussian_steps_is_refused_where_there_are_none(page):
    (page / "mine.py").write_text(
        "from methods.alignprop import AlignProp\n\n\nclass Mine(AlignProp):\n    needs_gaussian_steps = True\n"
    )
    sweep = (page / "colours.yaml").read_text().replace("{name: ddpo}", "{name: 'mine.py:Mine', variant: mine}")
    (page / "colours.yaml").write_text(sweep)
    assert plan(load_sweep(page / "colours.yaml"))
    source = (page / "colours.py").read_text().replace("DDIM(scheduler), device", "Discrete(scheduler), device")
    (page / "colours.py").write_text(
        source.replace("class Colours", "class Discrete(DDIM):\n    gaussian = False\n\n\nclass Colours")
    )
    assert facts_of(f"{page / 'colours.py'}:Colours").path.gaussian is False
    with pytest.raises(BenchError, match="needs the mean of a Gaussian step"):
        plan(load_sweep(page / "colours.yaml"))
