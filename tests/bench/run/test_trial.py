"""The trial loop on a tiny model: budget, points, resume, divergence."""

import json
from dataclasses import replace

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from bench.build.trial_spec import Budget, EvaluationPlan, RewardRef, Trial
from bench.conformance.expectations import expectations_of
from bench.run.trial import TrialLoop, run_trial
from bench.store.trial_folder import TrialFolder
from bench.sweep.prompts import spread
from bench.sweep.schema import Lora, RewardSpec, Sampler
from methods import registry
from methods.ddpo import DDPO
from rewards.base import RewardError

SETTINGS = {
    "alignprop": {"batch_size": 2},
    "ddpo": {"prompts_per_rollout": 2, "images_per_prompt": 2},
    "rwr": {"prompts_per_rollout": 2, "images_per_prompt": 2, "rows_per_image": 1.0, "batch_size": 4},
}
TIMES = {"train_seconds", "reward_seconds", "eval_seconds", "log_seconds", "wall_seconds", "device_seconds"}
MACHINE = TIMES | {"peak_memory_bytes"}


def make_trial(model, method="ddpo", reward=None, limit=12.0, every=4.0, **changes) -> Trial:
    spec = RewardSpec(name=reward or "colourfulness")
    reference = RewardRef(spec=spec, label="colourfulness", differentiable=True, fingerprint="x")
    cls = registry.load(method)
    evaluated = Sampler(steps=2, guidance=1.0, eta=0.0)
    fields = {
        "sweep": "test",
        "variant": method,
        "method": method,
        "reference": method,
        "settings": cls.Settings(**SETTINGS.get(method, expectations_of(cls).small)).model_dump(mode="json"),
        "seed": 0,
        "model": str(model),
        "model_name": "tiny",
        "sampler": Sampler(steps=2, guidance=1.0, eta=1.0) if cls.trains else evaluated,
        "lora": Lora(rank=2),
        "reward": reference,
        "gold": reference,
        "prompts_train": ("a cat", "a dog", "a fox"),
        "prompts_heldout": ("two dogs",),
        "budget": Budget(axis="reward_queries", limit=limit),
        "evaluate": EvaluationPlan(every=every, images=2, seed=9, sampler=evaluated),
        "identity": "0" * 64,
    }
    return Trial(**(fields | changes))


def points(folder: TrialFolder) -> list[dict]:
    """The curve without what depends on the clock and the machine."""
    return [
        {**point.stored(), "axes": {axis: spent for axis, spent in point.axes.items() if axis not in MACHINE}}
        for point in folder.read_curve()
    ]


QUERIES = {"base": [0], "best-of-n": [0, 6, 12], "alignprop": [0, 4, 8, 12], "ddpo": [0, 4, 8, 12]}


@pytest.mark.parametrize("method", QUERIES)
def test_a_trial_from_nothing_to_its_end(method, tiny_model, tmp_path):
    folder = TrialFolder(tmp_path / "trial")
    run_trial(make_trial(tiny_model, method), folder)
    curve = [point.stored() for point in folder.read_curve()]
    assert [row["axes"]["reward_queries"] for row in curve] == QUERIES[method]
    if method != "best-of-n":  # whose choice among held-out candidates is evaluation too
        ends = 2 * 3 * 2 * 2 if registry.load(method).trains else 0  # training prompts under the training sampler
        assert curve[-1]["axes"]["eval_queries"] == len(curve) * 4 * 2 * 2 + ends, "4 prompts, 2 images, 2 rewards"
    rows = folder.read_evaluation()
    assert set(rows["point"]) == {row["point"] for row in curve}
    for row in curve:
        here = rows[(rows["point"] == row["point"]) & (rows["split"] == "heldout") & (rows["metric"] == "gold")]
        assert row["values"]["heldout"]["gold"] == pytest.approx(here["value"].mean())
    assert len(list((folder.samples / "point-0000").glob("*.png"))) == 4
    assert (folder.adapter / "pytorch_lora_weights.safetensors").exists() == registry.load(method).trains


@pytest.mark.parametrize("method", ["alignprop", "ddpo", "rwr", "best-of-n"])
def test_killed_anywhere_it_continues_to_the_same_curve(method, tiny_model, tmp_path):
    trial = make_trial(tiny_model, method)
    straight = TrialFolder(tmp_path / "straight")
    run_trial(trial, straight)

    class Killed(BaseException):
        pass

    cut = TrialFolder(tmp_path / "cut")
    steps = {"alignprop": 3}.get(method, 2)
    loop = TrialLoop(trial, cut)
    loop.resume_or_begin()
    for _ in range(steps):
        loop.step()
    # Killed after a point was written and before its checkpoint: the point must be written again, once.
    loop.folder.save_checkpoint = lambda *_: (_ for _ in ()).throw(Killed())
    with pytest.raises(Killed):
        loop.evaluate()
    run_trial(trial, TrialFolder(cut.path))
    assert points(cut) == points(straight)
    pd.testing.assert_frame_equal(cut.read_evaluation(), straight.read_evaluation(), check_exact=True)


# -- which adapter is evaluated and kept ---------------------------------------------------------------------------


def adapters(folder: TrialFolder) -> dict[str, dict[str, Tensor]]:
    """Name of the folder -> the adapter in it, for all that the trial has kept."""
    files = folder.path.glob("adapter*/**/pytorch_lora_weights.safetensors")
    return {file.parent.name: load_file(file) for file in files}


def evaluating(every: float = 4, **changes) -> EvaluationPlan:
    sampler = Sampler(steps=2, guidance=1.0, eta=0.0)
    return EvaluationPlan(every=every, images=2, seed=9, sampler=sampler, **changes)


def test_the_reward_under_the_training_sampler_is_at_both_ends_of_the_curve(tiny_model, tmp_path):
    folder = TrialFolder(tmp_path / "trial")
    trial = make_trial(tiny_model, limit=10.0)  # its last step is a short one, between two evaluations
    run_trial(trial, folder)
    curve = folder.read_curve()
    assert [point.axes["reward_queries"] for point in curve] == [0, 4, 8, 10]
    found = [point.values["train"].get("training_sampler_reward") for point in curve]
    assert [value is not None for value in found] == [True, False, False, True]
    assert all("training_sampler_reward" not in point.values["heldout"] for point in curve)

    same = TrialFolder(tmp_path / "same")
    run_trial(trial.model_copy(update={"sampler": trial.evaluate.sampler, "method": "rwr", "reference": "rwr",
        "settings": make_trial(tiny_model, "rwr").settings}), same)  # fmt: skip
    assert not any("training_sampler_reward" in point.values["train"] for point in same.read_curve())


def test_a_methods_warnings_reach_the_trial_once(tiny_model, tmp_path, monkeypatch):
    folder = TrialFolder(tmp_path / "trial")
    step = DDPO.step

    def warned(method, prompts):
        return replace(step(method, prompts), warnings={"few": f"few at step {method.iteration}"})

    monkeypatch.setattr(DDPO, "step", warned)
    run_trial(make_trial(tiny_model), folder)
    assert [warning.text for warning in folder.warnings().values()] == ["few at step 1 (until point 1)"]


def test_adapters_are_kept_along_the_curve_as_the_sweep_says(tiny_model, tmp_path):
    kept = {}
    for keep in ("last", "best", "all"):
        folder = TrialFolder(tmp_path / keep)
        run_trial(make_trial(tiny_model, "alignprop", keep=keep), folder)
        kept[keep] = adapters(folder)
    curve = {point.point: point.values["train"]["reward"] for point in folder.read_curve()}
    best = f"point-{max(curve, key=curve.get):04d}"
    assert kept["last"].keys() == {"adapter"}
    assert kept["all"].keys() == {"adapter", *(f"point-{point:04d}" for point in curve)}
    assert kept["best"].keys() == {"adapter", best}
    for name, tensor in kept["all"][best].items():
        assert torch.equal(tensor, kept["best"][best][name])
    last = f"point-{max(curve):04d}"
    assert all(torch.equal(tensor, kept["all"]["adapter"][name]) for name, tensor in kept["all"][last].items())


def test_the_best_point_is_kept_whatever_the_sign_of_its_reward(tiny_model, tmp_path):
    folder = TrialFolder(tmp_path / "trial")
    loop = TrialLoop(make_trial(tiny_model, "alignprop", keep="best"), folder)
    for point, (reward, kept) in enumerate([(-2.0, 0), (0.0, 1), (-1.0, 1), (float("nan"), 1), (0.5, 4)]):
        loop.point = point
        loop.keep_adapter(reward)
        assert adapters(folder).keys() == {f"point-{kept:04d}"}


def test_a_moving_average_is_evaluated_and_written_and_survives_an_interruption(tiny_model, tmp_path):
    plain, averaged = TrialFolder(tmp_path / "plain"), TrialFolder(tmp_path / "averaged")
    every_update = SETTINGS["alignprop"]["batch_size"]
    run_trial(make_trial(tiny_model, "alignprop", keep="all", evaluate=evaluating(every_update)), plain)
    trial = make_trial(tiny_model, "alignprop", keep="all", evaluate=evaluating(every_update, average=0.75))
    run_trial(trial, averaged)
    # The average follows from the adapters of the trial without one.
    weights = adapters(plain)
    for name in weights["adapter"]:
        expected = weights["point-0000"][name]
        for point in (1, 2, 3):
            expected = 0.75 * expected + 0.25 * weights[f"point-{point:04d}"][name]
            torch.testing.assert_close(adapters(averaged)[f"point-{point:04d}"][name], expected)
    assert [row.get("extra") for row in points(plain)] == [row.get("extra") for row in points(averaged)]
    assert points(plain)[3]["values"] != points(averaged)[3]["values"]

    cut = TrialFolder(tmp_path / "cut")
    loop = TrialLoop(trial, cut)
    loop.resume_or_begin()
    loop.step()
    run_trial(trial, TrialFolder(cut.path))
    assert points(cut) == points(averaged)


def test_a_share_of_the_adapter_is_evaluated(tiny_model, tmp_path):
    curves = {}
    for scale in (0.0, 0.5, 1.0):
        folder = TrialFolder(tmp_path / str(scale))
        run_trial(make_trial(tiny_model, "alignprop", evaluate=evaluating(scale=scale)), folder)
        curves[scale] = points(folder)
    rewards = {scale: [row["values"]["train"]["reward"] for row in curve] for scale, curve in curves.items()}
    assert len(set(rewards[0.0])) == 1, "the base model at every point"
    assert rewards[0.0][0] == rewards[0.5][0] == rewards[1.0][0]
    assert rewards[0.0][3] < rewards[0.5][3] < rewards[1.0][3]
    assert [row.get("extra") for row in curves[0.0]] == [row.get("extra") for row in curves[1.0]]


@pytest.fixture
def interrupted(tiny_model, tmp_path):
    """A trial, its folder after three points of four, and the points that it has in the end."""
    trial, folder = make_trial(tiny_model, "alignprop"), TrialFolder(tmp_path / "trial")
    run_trial(trial, TrialFolder(tmp_path / "straight"))
    loop = TrialLoop(trial, folder)
    loop.resume_or_begin()
    while loop.point < 2:
        loop.step()
    return trial, folder, points(TrialFolder(tmp_path / "straight"))


def test_what_keeps_a_checkpoint_from_being_read_costs_an_attempt_and_no_point(interrupted, monkeypatch):
    trial, folder, expected = interrupted
    before = {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()}

    def no_memory(*args, **kwargs):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(torch, "load", no_memory)
        with pytest.raises(MemoryError):
            run_trial(trial, folder)
    assert {path: path.read_bytes() for path in folder.path.rglob("*") if path.is_file()} == before
    run_trial(trial, folder)
    assert points(folder) == expected


@pytest.mark.filterwarnings("ignore:.*set aside")
@pytest.mark.parametrize("lacking", ["curve", "evaluation"])
def test_a_checkpoint_ahead_of_what_was_copied_with_it_leaves_no_gap(interrupted, lacking):
    trial, folder, expected = interrupted
    if lacking == "curve":
        folder.cut_curve(1)
    else:
        folder.cut_evaluation(1)
    run_trial(trial, folder)
    assert points(folder) == expected
    assert set(folder.read_evaluation()["point"]) == {0, 1, 2, 3}


def test_the_same_trial_twice_is_bitwise_the_same(tiny_model, tmp_path):
    first, second = TrialFolder(tmp_path / "a"), TrialFolder(tmp_path / "b")
    for folder in (first, second):
        torch.manual_seed(hash(folder.key) % 1000)  # nothing may depend on the global generator
        run_trial(make_trial(tiny_model), folder)
    assert json.dumps(points(first)) == json.dumps(points(second))


def test_seeds_differ_but_share_the_evaluation(tiny_model, tmp_path):
    curves = []
    for seed in (0, 1):
        folder = TrialFolder(tmp_path / str(seed))
        run_trial(make_trial(tiny_model, seed=seed), folder)
        curves.append(points(folder))
    assert curves[0][0]["values"] == curves[1][0]["values"], "point 0 is the base model"
    assert curves[0][-1]["values"] != curves[1][-1]["values"]


PEER = """
import torch
from methods.base import Method, Settings, StepMetrics


class Peer(Method):
    name = "a-peer"
    summary = "its own optimiser, its own random state"
    reward_access = "gradient"
    Settings = Settings
    own_trainer = True

    def __init__(self, *args):
        super().__init__(*args)
        self.own = torch.optim.SGD(self.policy.trainable_parameters(), lr=0.1, momentum=0.9)

    @classmethod
    def prompts_per_step(cls, settings):
        return 2

    @classmethod
    def cost(cls, settings, prompts, sampler):
        return {"reward_queries": prompts, "images": prompts, "updates": 1}

    def step(self, prompts):
        start = torch.randn(len(prompts), *self.policy.state_shape)
        keep = [True] * self.policy.sampler.steps
        noise = lambda timestep: torch.randn(len(prompts), *self.policy.state_shape)
        latents = self.policy.sample(start, self.policy.encode(prompts), noise, keep=keep)
        reward = self.reward(self.policy.decode(latents), list(prompts))
        self.own.zero_grad()
        (-reward.mean()).backward()
        self.own.step()
        mean = float(reward.detach().mean())
        return StepMetrics(-mean, mean, 0.0, 1)

    def state_dict(self):
        return super().state_dict() | {"own": self.own.state_dict()}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.own.load_state_dict(state["own"])
"""


def test_a_peer_with_its_own_optimiser_runs_and_resumes(tiny_model, tmp_path):
    plugin = tmp_path / "peer.py"
    plugin.write_text(PEER)
    trial = make_trial(tiny_model, "alignprop", reference=f"{plugin}:Peer", settings={})
    folder = TrialFolder(tmp_path / "trial")
    loop = TrialLoop(trial, folder)
    assert loop.optimiser is None, "its settings are none of AdamW's"
    loop.resume_or_begin()
    for _ in range(2):
        loop.step()
    momentum = loop.method.own.state_dict()["state"][0]["momentum_buffer"]
    again = TrialLoop(trial, TrialFolder(folder.path))
    again.resume_or_begin()
    assert torch.equal(again.method.own.state_dict()["state"][0]["momentum_buffer"], momentum)
    while again.step():
        pass
    again.finish()
    curve = [point.stored() for point in folder.read_curve()]
    assert [row["axes"]["reward_queries"] for row in curve] == [0, 4, 8, 12]
    assert curve[-1]["axes"]["updates"] == 6
    assert curve[-1]["values"]["train"]["drift"] > 0


NAN_REWARD = """
calls = 0
def score(images, prompts):
    global calls
    calls += 1
    return images.mean((1, 2, 3)) * (float("nan") if calls > {after} else 1.0)
score.differentiable = True
"""


def test_a_nan_score_ends_the_trial_and_keeps_the_last_good_checkpoint(tiny_model, tmp_path):
    plugin = tmp_path / "nan_reward.py"
    plugin.write_text(NAN_REWARD.format(after=8))
    folder = TrialFolder(tmp_path / "trial")
    with pytest.raises(RewardError, match=r"^reward 'colourfulness' gave \d scores? that (is|are) not finite"):
        run_trial(make_trial(tiny_model, "alignprop", reward=f"{plugin}:score"), folder)
    found = folder.load_checkpoint()
    assert found is not None
    assert all(torch.isfinite(value).all() for value in found["policy"].values())


def test_pictures_are_spread_over_the_prompts():
    assert spread("abcdefghij", 4) == ("a", "c", "f", "h")
    assert spread("ab", 4) == ("a", "b")
