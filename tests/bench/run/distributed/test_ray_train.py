"""Trials with two workers under a real Ray, and every way in which one of them can end."""

import json

import pytest

from bench.store.run_folder import RunFolder
from tests.bench.run.test_ray import ENDINGS, run
from tests.bench.run.test_trial import points

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]

METHODS = f"""\
{ENDINGS}
class OnTheSecond:
    def step(self, prompts):
        return super().step(prompts) if self.policy.workers.rank == 1 else DDPO.step(self, prompts)

class SecondRaises(OnTheSecond, Raises):
    pass

class SecondDies(OnTheSecond, Dies):
    pass
"""

SWEEP = """\
schema: 1
name: two
model: {model}
reward: colourfulness
prompts: {{train: [a cat, a dog, a fox]}}
sampler: {{steps: 3, eta: 1.0}}
methods: [{methods}]
seeds: [0]
budget: {{reward_queries: 8}}
evaluate: {{every: 4, sampler: {{steps: 2, eta: 0.0}}}}
resources: {{workers: 2, zero: {zero}}}
"""


ALIGNPROP = "{name: alignprop, settings: {batch_size: 2}}"


@pytest.mark.slow
def test_two_workers_under_ray_and_in_process_give_the_same_curve(tmp_path, tiny_model):
    path = tmp_path / "two.yaml"
    path.write_text(SWEEP.format(model=tiny_model, methods=f"{{name: base}}, {ALIGNPROP}", zero=2))
    for executor in ("ray", "inline"):
        done = run(path, "--executor", executor, "--out", tmp_path / executor)
        assert done.returncode == 0, done.stderr
    curves = [
        {row.trial: points(found.trial(row.trial)) for row in found.planned()}
        for found in (RunFolder(tmp_path / "ray"), RunFolder(tmp_path / "inline"))
    ]
    assert curves[0] == curves[1]
    assert len(curves[0]) == 2


@pytest.mark.slow
def test_a_worker_that_fails_is_told_by_its_own_cause(tmp_path, tiny_model):
    (tmp_path / "ends.py").write_text(METHODS)
    path = tmp_path / "two.yaml"
    small = "settings: {prompts_per_rollout: 1, images_per_prompt: 2}"
    ends = [f"{{name: {tmp_path}/ends.py:{name}, {small}}}" for name in ("SecondRaises", "Diverges", "SecondDies")]
    path.write_text(SWEEP.format(model=tiny_model, methods=", ".join([*ends, ALIGNPROP]), zero=0))
    done = run(path, "--json", "--out", tmp_path / "run")
    assert done.returncode == 3, done.stderr
    ends = {row["method"]: (row["status"], row["cause"]) for row in json.loads(done.stdout)["trials"]}
    assert ends["raises"][0] == "failed"
    assert ends["raises"][1].startswith("RuntimeError: it broke (ends.py:8); the traceback is in trials/")
    assert ends["diverges"][0] == "diverged"
    assert "the loss is nan at step 1" in ends["diverges"][1]
    assert ends["dies"][0] == "failed"
    assert "worker" in ends["dies"][1]
    assert ends["alignprop"] == ("done", None), "and the others go on"
    assert not list((tmp_path / "run").glob("trials/*/workers"))


def test_more_workers_than_cores_is_said_before_anything_starts(cli, tmp_path, tiny_model):
    path = tmp_path / "two.yaml"
    text = SWEEP.format(model=tiny_model, methods="{name: base}", zero=0)
    path.write_text(text.replace("workers: 2", "workers: 512"))
    answer = cli("run", path, "--out", tmp_path / "run")
    assert answer.code == 2
    assert "512 cores a trial (512 workers with 1 each) are asked for" in answer.err
    assert not (tmp_path / "run").exists()
