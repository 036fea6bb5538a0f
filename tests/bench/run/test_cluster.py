"""A Ray cluster of several nodes on this machine: joined, used, left, and bereft of a node in the middle of a trial."""

import subprocess
import time

import pytest

from bench.store.run_folder import RunFolder
from tests.bench.run.test_ray import ENDINGS, command, run
from tests.bench.run.test_trial import points

pytestmark = [pytest.mark.integration, pytest.mark.timeout(400)]


@pytest.fixture
def cluster():
    """A head without cores and two nodes with one each, as trials on it must go to the nodes."""
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        found.add_node(num_cpus=1)
    try:
        yield found
    finally:
        found.shutdown()


@pytest.fixture
def slow_sweep(tmp_path, sweep_text):
    (tmp_path / "ends.py").write_text(ENDINGS)
    path = tmp_path / "slow.yaml"
    methods = f"methods:\n  - name: {tmp_path}/ends.py:Slow\n    settings: {{prompts_per_rollout: 1}}\n"
    head, rest = sweep_text.split("methods:\n")
    text = head + methods + rest[rest.index("seeds:") :]
    path.write_text(text.replace("reward_queries: 8", "reward_queries: 160").replace("every: 4", "every: 16"))
    return path


def test_two_trials_run_at_once_on_a_cluster_that_goes_on_without_us(cluster, sweep_file, tmp_path):
    once = (sweep_file, "--set", "seeds=[0]")
    done = run(*once, "--address", cluster.address, "--out", tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert "2 at a time (ray)" in done.stderr
    assert {row.record.status for row in RunFolder(tmp_path / "run").trials()} == {"done"}
    one_trial = ("--set", "methods=[{name: base}]", "--address", cluster.address)
    again = run(*once, *one_trial, "--out", tmp_path / "again")
    assert again.returncode == 0, "the cluster is still there"
    alone = run(*once, "--executor", "inline", "--out", tmp_path / "alone")
    assert alone.returncode == 0
    for row in RunFolder(tmp_path / "run").planned():
        curves = [points(RunFolder(tmp_path / name).trial(row.trial)) for name in ("run", "alone")]
        assert curves[0] == curves[1]


@pytest.mark.slow
def test_a_node_that_is_killed_costs_its_trial_a_second_run_of_the_command(cluster, slow_sweep, tmp_path):
    folder = RunFolder(tmp_path / "run")
    arguments = (slow_sweep, "--address", cluster.address, "--out", folder.path)
    first = subprocess.Popen(command(*arguments), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: folder.exists() and all(len(folder.trial(r.trial).read_curve()) > 1 for r in folder.planned()))
    cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
    _, said = first.communicate(timeout=200)
    assert first.returncode == 3, said
    statuses = sorted(row.record.status for row in folder.trials())
    assert statuses == ["done", "interrupted"] or statuses == ["done", "failed"], folder.trials()
    cluster.add_node(num_cpus=1)
    assert run(*arguments).returncode == 0
    alone = run(slow_sweep, "--executor", "inline", "--out", tmp_path / "alone")
    assert alone.returncode == 0
    for row in folder.planned():
        assert points(folder.trial(row.trial)) == points(RunFolder(tmp_path / "alone").trial(row.trial))


def test_no_cluster_is_one_sentence(sweep_file, tmp_path):
    done = run(sweep_file, "--address", "127.0.0.1:1", "--out", tmp_path / "run")
    assert done.returncode == 2
    assert done.stderr.startswith("error: --address 127.0.0.1:1: no Ray cluster there")
    assert len(done.stderr.splitlines()) <= 3


def test_a_cluster_is_rays(cli, sweep_file):
    answer = cli("run", sweep_file, "--address", "a:1", "--executor", "inline")
    assert answer.code == 2
    assert "--address: only the ray executor can join a cluster" in answer.err


def wait_for(condition, seconds=180):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.2)
