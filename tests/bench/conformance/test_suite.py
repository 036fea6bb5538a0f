"""The kit is tested by methods that are broken in one way each: exactly the check of that way must fail."""

import json
import re

import pytest
import torch
from pydantic import Field

from bench.conformance.expectations import Expectations
from bench.conformance.suite import CHECKS, build_subject, check_method, run_check
from bench.errors import BenchError
from methods.base import Method, StepMetrics, TrainingSettings, micro_batches
from methods.ddpo import DDPO
from methods.no_training import NoTraining
from models.noise import SeedStream


class GoodSettings(TrainingSettings):
    learning_rate: float = Field(default=1e-3, gt=0, description="constant")


class Good(Method):
    """The reward's gradient through every step; its hooks are what the broken ones break."""

    name = "good"
    summary = "reward gradient through every step"
    reward_access = "gradient"
    Settings = GoodSettings

    @classmethod
    def prompts_per_step(cls, settings):
        return 4

    @classmethod
    def cost(cls, settings, prompts, sampler):
        nfe = 2 * prompts * sampler.rows_per_prediction * sampler.steps
        return {"steps": 1, "updates": 1, "reward_queries": prompts, "images": prompts, "nfe": nfe}

    def step(self, prompts):
        rewards, losses = [], []
        for rows in micro_batches(len(prompts), self.settings.micro_batch):
            chosen, noise = list(prompts[rows]), self.noise(range(rows.start, rows.stop))
            start = self.policy.start(noise(-1))
            keep = [True] * self.policy.sampler.steps
            latents = self.policy.sample(start, self.policy.encode(chosen), noise, keep=keep)
            reward = self.reward(self.policy.decode(latents), chosen)
            loss = self.loss(reward, len(prompts))
            self.optimiser.backward(loss)
            rewards.append(reward.detach())
            losses.append(float(loss.detach()))
        norms = self.update()
        self.iteration += 1
        return StepMetrics(sum(losses), self.told(torch.cat(rewards)), norms[-1], len(norms))

    def noise(self, samples):
        return self.rollout_noise(samples)

    def loss(self, reward, total):
        return -reward.sum() / total

    def update(self):
        return [self.optimiser.step()]

    def told(self, rewards):
        return float(rewards.mean())


class Undescribed(GoodSettings):
    batch: int = 4


class SaysNothingOfASetting(Good):
    Settings = Undescribed


class UnderstatesItsCost(Good):
    @classmethod
    def cost(cls, settings, prompts, sampler):
        return super().cost(settings, prompts, sampler) | {"nfe": 1}


class DeniesItsGradient(Good):
    reward_access = "value"


class ClaimsAGradient(DDPO):
    name = "claims"
    reward_access = "gradient"


class Flatters(Good):
    def told(self, rewards):
        return float(rewards.max())


class UnfreezesTheDecoder(Good):
    def __init__(self, *args):
        super().__init__(*args)
        self.policy.parts["decoder"].requires_grad_(True)


class ForgetsALayer(Good):
    def update(self):
        self.policy.trainable_parameters()[1].grad = None
        return super().update()


class DividesByTheSpread(Good):
    def loss(self, reward, total):
        return -(reward.sum() / total) / (reward.detach() - reward.detach().mean()).abs().sum() ** 0.5

    def step(self, prompts):  # of the whole batch, or the cut would matter too
        self.settings = self.settings.model_copy(update={"micro_batch": 16})
        return super().step(prompts)


class LearnsFromAConstant(DDPO):
    name = "no-baseline"

    def _advantages(self, rewards, prompts):
        return rewards


class LearnsFromRounding(DDPO):
    name = "rounding"

    def _advantages(self, rewards, prompts):
        return (rewards - rewards.mean()) / (rewards.std(correction=0) + 1e-6)


class UpdatesOnNothing(Good):
    @classmethod
    def cost(cls, settings, prompts, sampler):
        return super().cost(settings, prompts, sampler) | {"updates": 2}

    def update(self):
        return [*super().update(), *super().update()]


class ForgetsItsState(Good):
    calls = 0

    def loss(self, reward, total):
        return super().loss(reward, total) * (1 + self.calls)

    def update(self):
        self.calls += 1
        return super().update()


class IgnoresItsSeed(Good):
    def __init__(self, settings, policy, reward, optimiser, seeds):
        super().__init__(settings, policy, reward, optimiser, SeedStream(0))


class DrawsGlobally(Good):
    def step(self, prompts):
        self.factor = 1 + torch.rand(())
        return super().step(prompts)

    def loss(self, reward, total):
        return super().loss(reward, total) * self.factor


class ScalesByTheMicroBatch(Good):
    """By so little that AdamW, whose step hardly depends on the gradient's scale, still goes the same way."""

    def loss(self, reward, total):
        return super().loss(reward, total) * (1 + 1e-3 / self.settings.micro_batch)


class ScalesLargePieces(Good):
    """By the rows of a piece, not by the setting: four rows and fewer are cut rightly."""

    def loss(self, reward, total):
        return super().loss(reward, total) * (1.5 if len(reward) > 4 else 1)


class UpdatesWithoutAGradient(Good):
    """Its loss always has a gradient, if only of zero."""

    def loss(self, reward, total):
        return super().loss(reward, total) + 0 * self.policy.trainable_parameters()[0].sum()


class DrawsByPosition(Good):
    """From its second step on, noise depends on how the batch is cut."""

    def noise(self, samples):
        offset = 1000 * self.settings.micro_batch if self.iteration else 0
        return self.rollout_noise([offset + index for index in samples])


class DrawsByPositionAndSaysSo(DrawsByPosition):
    expectations = Expectations(continuous=False)


class Fickle(NoTraining):
    calls = 0

    def sample(self, rows):
        self.calls += 1
        return super().sample(rows) * self.calls


BROKEN = {
    SaysNothingOfASetting: "contract",
    UnderstatesItsCost: "costs",
    DeniesItsGradient: "reward-access",
    ClaimsAGradient: "reward-access",
    UpdatesWithoutAGradient: "reward-access",
    Flatters: "metrics",
    UnfreezesTheDecoder: "adapter",
    ForgetsALayer: "adapter",
    DividesByTheSpread: "edge-cases",
    LearnsFromAConstant: "edge-cases",
    LearnsFromRounding: "edge-cases",
    UpdatesOnNothing: "empty-updates",
    ForgetsItsState: "resume",
    IgnoresItsSeed: "seeds",
    DrawsGlobally: "random-state",
    ScalesByTheMicroBatch: "micro-batch",
    ScalesLargePieces: "micro-batch",
    DrawsByPosition: "curve",
    Fickle: "sampling",
}


def failures(cls, model):
    """What fails. The curve takes half of the kit's time: for a broken method it is run only where it is to fail."""
    subject = build_subject(cls, {}, model)
    names = [name for name in CHECKS if name != "curve" or BROKEN.get(cls, "curve") == "curve"]
    findings = [run_check(subject, name) for name in names]
    return {finding.check: finding.reason for finding in findings if finding.outcome == "fail"}


@pytest.mark.parametrize("cls", BROKEN, ids=lambda cls: cls.__name__)
def test_a_broken_method_fails_its_check(cls, tiny_model):
    assert run_check(build_subject(cls, {}, tiny_model), BROKEN[cls]).outcome == "fail"


@pytest.mark.slow
@pytest.mark.parametrize("cls", BROKEN, ids=lambda cls: cls.__name__)
def test_and_no_other(cls, tiny_model):
    found = failures(cls, tiny_model)
    assert set(found) == {BROKEN[cls]}, found


def test_every_check_has_a_broken_method():
    assert set(BROKEN.values()) == set(CHECKS)


@pytest.mark.parametrize(
    "cls", [Good, pytest.param(DrawsByPositionAndSaysSo, marks=pytest.mark.slow)], ids=lambda cls: cls.__name__
)
def test_a_good_method_fails_none(cls, tiny_model):
    assert failures(cls, tiny_model) == {}


def test_a_peer_is_not_asked_what_it_cannot_give(tiny_model):
    class Peer(DrawsGlobally):
        own_trainer = True

    subject = build_subject(Peer, {}, tiny_model)
    for name in ("resume", "seeds", "random-state", "micro-batch", "curve"):
        finding = run_check(subject, name)
        assert finding.outcome == "does not apply"
        assert "own_trainer" in finding.reason
    assert run_check(subject, "costs").outcome == "pass"


def test_a_method_that_raises_has_failed(tiny_model):
    class Raises(Good):
        def step(self, prompts):
            raise RuntimeError("no such luck")

    finding = run_check(build_subject(Raises, {}, tiny_model), "metrics")
    assert finding.outcome == "fail"
    assert re.fullmatch(r"RuntimeError: no such luck \(test_suite.py:\d+\)", finding.reason)


# -- the two ways in -------------------------------------------------------------------------------------------


def test_check_method_for_an_authors_own_suite():
    report = check_method(Flatters, only=["contract", "metrics"])
    assert not report.passed
    assert [finding.check for finding in report.failures] == ["metrics"]
    assert "✗ metrics: it reports a reward of" in str(report)
    assert "✓ contract" in str(report)
    with pytest.raises(BenchError, match="did you mean metrics"):
        check_method(Good, only=["metric"])
    with pytest.raises(BenchError, match="batch_sze"):
        check_method("alignprop", {"batch_sze": 2})


FILE = """
from methods.no_training import NoTraining


class Mine(NoTraining):
    name = "mine"
    summary = "{summary}"
"""


def test_the_command(cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(FILE.format(summary="the model as it is"))
    good = cli("test", "mine.py:Mine")
    assert good.code == 0, good.err
    assert "✓ sampling" in good.out
    assert "– adapter        it trains nothing" in good.out
    assert "mine: 2 passed, 0 failed, 11 do not apply, in " in good.out
    (tmp_path / "mine.py").write_text(FILE.format(summary=""))
    bad = cli("test", "mine.py:Mine", "--json")
    assert bad.code == 1
    said = json.loads(bad.out)
    assert (said["method"], said["passed"]) == ("mine", False)
    assert [row["check"] for row in said["checks"] if row["outcome"] == "fail"] == ["contract"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["alignprp"], "did you mean alignprop?"),
        (["nowhere.py:Mine"], "there is no file"),
        (["base", "--set", "x=1"], "refuses the settings: x"),
        (["base", "--set", "x"], "is not KEY=VALUE"),
    ],
)
def test_what_is_not_there_is_bad_input(cli, arguments, words):
    answer = cli("test", *arguments)
    assert answer.code == 2
    assert words in answer.err
    assert len(answer.err.strip().splitlines()) <= 3
