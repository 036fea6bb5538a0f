"""Models that cannot be used, or not as they say, are known when a sweep is planned."""

import json

import pytest

from bench.plan.planner import Planner
from bench.sweep.load import load_sweep
from tests.bench.planned import plan
from tests.models.changed import changed, rescheduled


@pytest.fixture
def planned(cli, sweep_file):
    """`bench plan` on the tiny sweep with another model, and further overrides."""

    def call(model, *overrides):
        sets = [word for text in (f"model={model}", *overrides) for word in ("--set", text)]
        return cli("plan", sweep_file, *sets)

    return call


def test_another_kind_of_model_is_refused_when_it_is_planned(planned, tiny_model, tmp_path):
    model = changed(tiny_model, tmp_path / "model", "unet/config.json", in_channels=9)
    said = planned(model)
    assert said.code == 2
    assert "model: unet: takes 9 channels" in said.err
    assert "it is for inpainting" in said.err
    assert "trial" not in said.out


def test_a_file_is_no_missing_model(planned, tiny_model):
    said = planned(tiny_model / "unet" / "diffusion_pytorch_model.safetensors")
    assert said.code == 2
    assert "from_single_file('diffusion_pytorch_model.safetensors')" in said.err
    assert "no model" not in said.err


def test_a_target_that_matches_nothing_is_named(planned, tiny_model):
    said = planned(tiny_model, "lora.targets=[to_q, to_typo]")
    assert said.code == 2
    assert "lora.targets: 'to_typo' matches no module" in said.err


def test_a_replaced_scheduler_is_said_before_the_run_and_kept_with_it(cli, body, sweep_file, tiny_model, tmp_path):
    model = rescheduled(tiny_model, tmp_path / "model", _class_name="EulerDiscreteScheduler")
    said = cli("run", sweep_file, "--set", f"model={model}", "--executor", "inline", "--out", tmp_path / "run")
    assert said.code == 0
    told = [line.removeprefix("warning: ") for line in said.err.splitlines() if line.startswith("warning: ")]
    assert len([line for line in told if "its scheduler is EulerDiscreteScheduler: DDIM takes its place" in line]) == 1
    assert json.loads((tmp_path / "run" / "plan.json").read_text())["warnings"] == told
    assert "EulerDiscreteScheduler: DDIM takes its place" in (tmp_path / "run" / "report" / "report.html").read_text()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"set_alpha_to_one": True}, ["no noise in its step at t = 1", "set_alpha_to_one: false"]),
        ({"timestep_spacing": "linspace"}, ["no noise in its step at t = 0", "timestep_spacing: leading"]),
    ],
)
def test_a_step_without_noise_is_refused_for_those_who_need_its_probability(
    values, words, planned, tiny_model, tmp_path
):
    model = rescheduled(tiny_model, tmp_path / "model", **values)
    said = planned(model)
    assert said.code == 2
    assert "ddpo: the model's scheduler adds" in said.err
    assert all(word in said.err for word in words)
    assert planned(model, "methods=[{name: alignprop, settings: {batch_size: 2}}]").code == 0, "others need none"


def test_more_steps_than_timesteps_are_refused(planned, tiny_model):
    assert "more than the model's 1000 timesteps" in planned(tiny_model, "sampler.steps=1001").err
    said = planned(tiny_model, "evaluate.sampler.steps=1001")
    assert said.code == 2
    assert "evaluate.sampler.steps: 1001 steps" in said.err


def test_identity_follows_the_way_a_model_is_sampled(sweep_file, tiny_model, tmp_path):
    """Where the numbers of a finished trial are what they were, it stays finished."""
    plain = plan(load_sweep(sweep_file))[0]
    assert plain.sampler_version == "1"
    model = rescheduled(tiny_model, tmp_path / "model", timestep_spacing="trailing")
    other = plan(load_sweep(sweep_file, overrides=[f"model={model}"]))[0]
    assert other.sampler_version == "2"
    assert plan(load_sweep(sweep_file, overrides=[f"model={tiny_model}"]))[0].identity == plain.identity


def test_a_hub_id_that_is_not_here_is_planned_as_before(sweep_file, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert Planner(load_sweep(sweep_file, overrides=["model=owner/not-here"])).warnings == ()
