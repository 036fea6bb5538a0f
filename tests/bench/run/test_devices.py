"""Every method's trial on a device that is not the host, without one (`tests/on_meta.py`)."""

import pytest
import torch

from bench.build.trial_spec import Budget, EvaluationPlan
from bench.conformance.expectations import expectations_of
from bench.run import trial as trials
from bench.store.trial_folder import TrialFolder
from bench.sweep.schema import Sampler
from methods import registry
from methods.alignprop import AlignProp
from models.meter import Meter
from models.paths.ddim import DDIM
from models.workers import Workers
from tests.bench.run.test_trial import make_trial
from tests.on_meta import on_meta

NATIVE = [name for name in registry.names() if not registry.load(name).own_trainer]


REPEATED = ("updates_per_rollout", "rows_per_image", "value_updates", "repeats", "timesteps_per_image")
"""Settings that say how often a step does the same again: once is enough here."""


@pytest.fixture(scope="module")
def counted():
    """The FLOPs of a row, which the trials of one model need not count each for itself."""
    return {}


@pytest.fixture
def device(monkeypatch, counted):
    """Trials have their policy and their rewards on the meta device."""
    begin = Meter.__init__

    def begun(meter, *given, **named):
        begin(meter, *given, **named)
        meter._flops = counted

    monkeypatch.setattr(Meter, "__init__", begun)
    for name in ("policy_of", "rewards_of"):
        build = getattr(trials, name)
        monkeypatch.setattr(trials, name, lambda *given, build=build: build(*given[:-1], "meta"))
    with on_meta() as mode:
        yield mode


def on_device(model, name):
    """A trial of two steps, each of which is evaluated."""
    cls = registry.load(name)
    once = {setting: 1 for setting in REPEATED if setting in cls.Settings.model_fields}
    settings = cls.Settings(**{**expectations_of(cls).small, **once}).model_dump(mode="json")
    plan = EvaluationPlan(every=1.0, images=2, seed=9, sampler=Sampler(steps=1, guidance=1.0, eta=0.0), average=0.5)
    guided = {"sampler": Sampler(steps=2, guidance=2.0, eta=1.0)} if cls.trains else {}
    few = {"prompts_train": ("a cat", "a dog"), "prompts_heldout": (), "evaluate": plan}
    return make_trial(model, name, settings=settings, budget=Budget(axis="steps", limit=2.0), **few, **guided)


@pytest.mark.parametrize("name", NATIVE)
def test_a_trial_steps_evaluates_and_continues_from_its_checkpoint(name, tiny_model, tmp_path, device):
    trial, folder = on_device(tiny_model, name), TrialFolder(tmp_path / "trial")
    before = trials.TrialLoop(trial, folder)
    before.resume_or_begin()
    before.step()
    after = trials.TrialLoop(trial, folder)
    after.resume_or_begin()
    after.step()
    after.finish()
    assert after.meter.ledger.steps == (2 if name != "base" else 0)
    assert device.in_loops() == []


def test_a_tensor_of_the_host_in_a_method_is_found(tiny_model, tmp_path, device, monkeypatch):
    monkeypatch.setattr(AlignProp, "loss", lambda self, rewards: -rewards * torch.ones(len(rewards)))
    loop = trials.TrialLoop(on_device(tiny_model, "alignprop"), TrialFolder(tmp_path / "trial"))
    loop.resume_or_begin()
    with pytest.raises(RuntimeError, match=r"aten\.mul\.Tensor is given tensors of the host and of the device"):
        loop.step()


@pytest.mark.parametrize(
    ("ask", "what"),
    [
        (lambda mean: mean.sum().item(), "a value"),
        (lambda mean: bool((mean > 0).all()), "a value"),
        (lambda mean: mean[mean.flatten(1).sum(1) > 0], "a mask"),
        (lambda mean: mean.cpu(), "a copy to the host"),
        (lambda mean: torch.ones(3).to(mean.device), "a copy to the device"),
        (lambda mean: mean[[0]], "a copy to the device"),
    ],
)
def test_what_a_denoising_loop_waits_for_is_found(ask, what, tiny_model, device, monkeypatch):
    clean = DDIM.clean

    def asking(path, prediction):
        ask(prediction.state)
        return clean(path, prediction)

    monkeypatch.setattr(DDIM, "clean", asking)
    policy = trials.policy_of(on_device(tiny_model, "base"), Meter(), Workers(), "cpu")
    state = torch.zeros(2, *policy.state_shape, device="meta")
    policy.sample(state, policy.encode(["a cat", "a dog"]), lambda key: state)
    assert [found.partition(" in ")[0] for found in device.in_loops()] == [what]
