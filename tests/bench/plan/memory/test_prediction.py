"""Memory predicted before a trial, against what its step holds."""

import pytest

from bench.build.trial_spec import Sampler
from bench.plan.memory.prediction import Adapter, build_rewards, predict
from bench.run.trial import TrialLoop
from bench.store.trial_folder import TrialFolder
from tests.bench.plan.memory.weighing import weigh
from tests.bench.run.test_trial import make_trial


def predicted(trial):
    return predict(trial, build_rewards(trial))


def both(trial, path):
    return predicted(trial), weigh(TrialLoop(trial, TrialFolder(path)))


def agree(memory, measured, within):
    for part in ("parameters", "gradients", "optimiser"):
        assert getattr(memory, part) == measured[part], part
    # The pass has the gradients of an earlier micro-batch beside it; a step of one micro-batch makes them as it ends.
    late = measured["gradients"]
    assert (1 - within) * measured["activations"] < memory.activations < (1 + within) * (measured["activations"] + late)


def make(model, method, **changes):
    """A trial whose steps are all alike: AlignProp would draw how many denoising steps it keeps."""
    trial = make_trial(model, method, limit=400.0, **changes)
    return with_settings(trial, truncation="full") if method == "alignprop" else trial


def with_settings(trial, **settings):
    return trial.model_copy(update={"settings": {**trial.settings, **settings}})


SLOW = [
    pytest.param(method, marks=pytest.mark.slow)
    for method in ("draft", "draft-lv", "refl", "rwr", "rwr-sparse", "raft", "d3po", "nft")
]
"""All but DPOK, whose value function is larger than a tiny denoiser, and learns after the pass has ended."""


@pytest.mark.parametrize("method", ["alignprop", "ddpo", "dpo", *SLOW])
def test_a_step_holds_what_was_predicted(method, tiny_model, tmp_path):
    agree(*both(make(tiny_model, method), tmp_path / "trial"), within=0.1)


@pytest.mark.parametrize("level", ["block", "step"])
def test_every_level_of_checkpointing(level, tiny_model, tmp_path):
    trial = make(tiny_model, "alignprop")
    agree(*both(with_settings(trial, checkpointing=level), tmp_path / "trial"), within=0.1)


def test_kept_steps_that_the_pass_leaves_out_are_counted(tiny_model, tmp_path):
    trial = make(tiny_model, "alignprop", sampler=Sampler(steps=6, guidance=2.0, eta=1.0))
    memory, measured = both(trial, tmp_path / "trial")
    agree(memory, measured, within=0.1)
    fewer = predicted(with_settings(trial, truncation="fixed", keep_steps=3))
    assert fewer.activations < 0.7 * memory.activations


@pytest.mark.parametrize("truncation", ["uniform", "per-step"])
def test_a_random_number_of_kept_steps_is_predicted_at_its_most(truncation, tiny_model):
    trial = make(tiny_model, "alignprop", sampler=Sampler(steps=4, guidance=1.0, eta=1.0))
    assert predicted(with_settings(trial, truncation=truncation)) == predicted(trial)


def test_rollouts_of_all_prompts_are_held_while_few_are_passed(tiny_model, tmp_path):
    trial = make(tiny_model, "ddpo")
    trial = with_settings(trial, prompts_per_rollout=24, images_per_prompt=4, micro_batch=2)
    memory, measured = both(trial, tmp_path / "trial")
    agree(memory, measured, within=0.1)
    assert memory.activations > 1.2 * predicted(with_settings(trial, prompts_per_rollout=2)).activations


def test_bf16_halves_the_base_and_not_the_adapter(tiny_model, tmp_path):
    trial = make(tiny_model, "draft")
    memory, measured = both(trial.model_copy(update={"precision": "bf16"}), tmp_path / "trial")
    agree(memory, measured, within=0.1)
    whole = predicted(trial)
    assert memory.parameters["denoiser"] < 0.51 * whole.parameters["denoiser"]
    assert memory.parameters["adapter"] == whole.parameters["adapter"]


def test_shares_of_an_adapter_by_hand():
    adapter = Adapter((5, 8))
    assert [adapter.share(stage, 2) for stage in range(4)] == [13, 8, 8, 7], "16 in halves; 3 of 5 and 4 of 8"
    assert adapter.parameters(0, 2) == 52
    assert adapter.parameters(1, 2) == 64, "padded to a multiple of four"
    assert [adapter.gradients(stage, 2) for stage in range(4)] == [52, 52, 52, 28], "the border at 8 cuts the second"
    assert Adapter((8, 8)).gradients(2, 2) == 32
    assert [adapter.optimiser(stage, 2) for stage in range(4)] == [112, 100, 100, 60]


def test_sharding_over_more_workers_never_needs_more(tiny_model):
    trial = make(tiny_model, "ddpo")
    for stage in (2, 3):
        one, two = (predicted(trial.model_copy(update={"zero": stage, "workers": size})) for size in (1, 2))
        assert two.training - two.activations < one.training - one.activations


def test_a_method_that_trains_nothing_holds_what_an_evaluation_does(tiny_model):
    memory = predicted(make_trial(tiny_model, "base"))
    assert (memory.gradients, memory.optimiser, memory.activations) == (0, 0, 0)
    assert memory.total == memory.evaluating == sum(memory.parameters.values()) + memory.evaluation
    assert memory.evaluation > 0


def test_what_cannot_be_known_is_none(tiny_model):
    assert predicted(make_trial(tiny_model, "ddpo", variant="peer", reference="trl-ddpo")) is None
    assert predicted(make_trial("nobody/has-this", "ddpo")) is None


OWN = """
from methods.base import Method, StepMetrics, TrainingSettings
import torch

class OwnSettings(TrainingSettings):
    learning_rate: float = 1e-3

class Own(Method):
    name, summary, reward_access, Settings = "own", "one prediction of its own", "value", OwnSettings

    @classmethod
    def prompts_per_step(cls, settings):
        return 3

    @classmethod
    def cost(cls, settings, prompts, sampler):
        return {{}}

    def step(self, prompts):
        latents = self.seeds.noise("own", self.iteration, 0, range(len(prompts)), self.policy.state_shape)
        times = torch.zeros(len(prompts), dtype=torch.int64)
        error = self.policy.predict(latents, times, self.policy.encode(prompts)).epsilon.square()
        {check}
        self.optimiser.backward(error.mean())
        self.iteration += 1
        return StepMetrics(float(error.mean()), 0.0, self.optimiser.step(), 1)
"""


def test_a_method_of_ones_own_is_predicted_like_any_other(tiny_model, tmp_path):
    (tmp_path / "own.py").write_text(OWN.format(check="assert not bool((error < 0).any())"))
    trial = make_trial(tiny_model, reference=f"{tmp_path}/own.py:Own", variant="own", settings={})
    agree(*both(trial, tmp_path / "trial"), within=0.1)


def test_a_method_that_cannot_run_without_numbers_is_unknown(tiny_model, tmp_path):
    (tmp_path / "own.py").write_text(OWN.format(check="error.detach().numpy().tolist()"))
    assert predicted(make_trial(tiny_model, reference=f"{tmp_path}/own.py:Own", variant="own", settings={})) is None
