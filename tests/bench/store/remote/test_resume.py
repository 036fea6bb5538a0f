"""Real runs: killed, and continued from the store alone; and the same on a server that speaks S3."""

import shutil
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file

from bench.store.remote.fetching import TRIALS, fetch_copy
from bench.store.remote.place import Place
from bench.store.run_folder import RunFolder
from tests.bench.bodies import slow_method
from tests.bench.run.test_trial import points


def command(*arguments):
    """`bench`, which uploads every 0.2 s."""
    code = "import bench.store.remote.mirror as mirror; mirror.SYNC_SECONDS = 0.2; from bench.cli import main; main()"
    return [sys.executable, "-c", code, *map(str, arguments)]


@pytest.fixture
def slow_sweep(tmp_path, sweep_text):
    path = tmp_path / "slow.yaml"
    head, rest = sweep_text.split("methods:\n")
    slow = slow_method(tmp_path, "ddpo", "DDPO", 0.3)
    methods = f"methods:\n  - name: {slow}\n    settings: {{prompts_per_rollout: 1}}\n"
    text = head + methods + rest[rest.index("seeds:") :]
    text = text.replace("seeds: [0, 1]", "seeds: [0]")
    path.write_text(text.replace("reward_queries: 8", "reward_queries: 64").replace("every: 4", "every: 16"))
    return path


def killed_and_continued(slow_sweep, tmp_path, url, cli, monkeypatch):
    """A run killed after a checkpoint is in the store, continued on another machine, beside one that was not."""
    place = Place(url)
    machines = [tmp_path / name for name in ("first", "second", "alone")]
    for machine in machines:
        machine.mkdir()
    arguments = ("run", slow_sweep, "--executor", "inline", "--out")
    first = subprocess.Popen(
        command(*arguments, url), cwd=machines[0], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    end = time.monotonic() + 120
    try:
        while not [name for name in place.listing() if name.endswith("-0002.sha256")]:
            assert first.poll() is None, first.communicate()[0]
            assert time.monotonic() < end, "no checkpoint came into the store"
            time.sleep(0.1)
    finally:
        first.kill()
        first.communicate()
    shutil.rmtree(machines[0])
    monkeypatch.chdir(machines[1])
    second = cli(*arguments, url)
    assert second.code == 0, second.err
    assert "point=2 " not in second.err, "it goes on behind the checkpoint"
    monkeypatch.chdir(machines[2])
    alone = cli(*arguments, "run")
    assert alone.code == 0, alone.err
    expected = RunFolder(machines[2] / "run")
    got = fetch_copy(place, tmp_path / "copy", TRIALS)
    (row,) = expected.planned()
    got, expected = got.trial(row.trial), expected.trial(row.trial)
    assert len(points(got)) == 5
    assert points(got) == points(expected)
    assert got.read_evaluation().equals(expected.read_evaluation())
    # Not the file's bytes: safetensors writes the keys of its header in an order of its own.
    weights = [load_file(folder.adapter / "pytorch_lora_weights.safetensors") for folder in (got, expected)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert not [name for name in place.listing() if "/checkpoint/" in name]


@pytest.mark.integration
@pytest.mark.timeout(300)
def test_killed_and_continued_from_the_store_alone(slow_sweep, tmp_path, cli, monkeypatch):
    killed_and_continued(slow_sweep, tmp_path, f"file://{tmp_path}/store/run", cli, monkeypatch)


@pytest.fixture
def s3(monkeypatch):
    """A server on this machine with an empty `s3://bucket`."""
    pytest.importorskip("s3fs", reason="s3fs is not installed (the extra `s3`)")
    server = pytest.importorskip("moto.server", reason="moto is not installed (pip install 'moto[server]')")
    import s3fs

    served = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    served.start()
    host, port = served.get_host_and_port()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("bucket")
    yield
    s3fs.S3FileSystem.clear_instance_cache()
    served.stop()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_same_on_a_server_that_speaks_s3(s3, slow_sweep, tmp_path, cli, monkeypatch):
    place = Place("s3://bucket/runs/slow")
    killed_and_continued(slow_sweep, tmp_path, place.url, cli, monkeypatch)
    assert not [name for name in place.listing() if name.endswith(".tmp")], "an object appears whole by itself"
    answer = cli("run", slow_sweep, "--executor", "inline", "--out", "s3://no-such-bucket/run")
    assert answer.code == 2
    assert "\nerror: s3://no-such-bucket/run: cannot be written" in answer.err
