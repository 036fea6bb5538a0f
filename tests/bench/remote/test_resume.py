"""Real runs: killed, and continued from the store alone; and the same on a server that speaks S3."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from bench.remote.place import Place
from bench.store import RunFolder
from tests.bench.test_trial import points

SLOW = """
import time
from methods.ddpo import DDPO

class Slow(DDPO):
    name = "slow"
    def step(self, prompts):
        time.sleep(0.3)
        return super().step(prompts)
"""


def command(*arguments):
    """`bench`, which uploads every 0.2 s."""
    code = "import bench.remote.mirror as mirror; mirror.SYNC_SECONDS = 0.2; from bench.cli import main; main()"
    return [sys.executable, "-c", code, *map(str, arguments)]


@pytest.fixture
def slow_sweep(tmp_path, sweep_text):
    (tmp_path / "slow.py").write_text(SLOW)
    path = tmp_path / "slow.yaml"
    head, rest = sweep_text.split("methods:\n")
    methods = f"methods:\n  - name: {tmp_path}/slow.py:Slow\n    settings: {{prompts_per_rollout: 1}}\n"
    text = head + methods + rest[rest.index("seeds:") :]
    text = text.replace("seeds: [0, 1]", "seeds: [0]")
    path.write_text(text.replace("reward_queries: 8", "reward_queries: 96").replace("every: 4", "every: 16"))
    return path


def on_machine(folder, *arguments, **options):
    """Starts `bench run` in a folder of its own."""
    folder.mkdir(exist_ok=True)
    return subprocess.Popen(
        command("run", *arguments, "--executor", "inline"),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        **options,
    )


def killed_and_continued(slow_sweep, tmp_path, url, environment):
    """A run killed after a checkpoint is in the store, continued on another machine, beside one that was not."""
    place = Place(url)
    first = on_machine(tmp_path / "first", slow_sweep, "--out", url, env=environment)
    end = time.monotonic() + 120
    try:
        while not [name for name in place.listing() if name.endswith("-0002.sha256")]:
            assert first.poll() is None, first.communicate()[0]
            assert time.monotonic() < end, "no checkpoint came into the store"
            time.sleep(0.1)
    finally:
        first.send_signal(signal.SIGKILL)
        first.communicate()
    shutil.rmtree(tmp_path / "first")
    second = on_machine(tmp_path / "second", slow_sweep, "--out", url, env=environment)
    said, _ = second.communicate(timeout=200)
    assert second.returncode == 0, said
    assert "point=2 " not in said, "it goes on behind the checkpoint"
    alone = on_machine(tmp_path / "alone", slow_sweep, "--out", tmp_path / "alone" / "run")
    said, _ = alone.communicate(timeout=200)
    assert alone.returncode == 0, said
    expected = RunFolder(tmp_path / "alone" / "run")
    key = expected.planned()[0]["trial"]
    shutil.rmtree(tmp_path / "second")
    copy = tmp_path / "copy.jsonl"
    for name in ("curve.jsonl", "evaluation.parquet", "adapter/pytorch_lora_weights.safetensors"):
        place.download(f"trials/{key}/{name}", copy.parent / "copy" / key / name)
    got = RunFolder(tmp_path).trial(key).__class__(tmp_path / "copy" / key)
    assert len(points(got)) == 7
    assert points(got) == points(expected.trial(key))
    assert got.read_evaluation().equals(expected.trial(key).read_evaluation())
    weights = "pytorch_lora_weights.safetensors"
    assert (got.adapter / weights).read_bytes() == (expected.trial(key).adapter / weights).read_bytes()
    assert not [name for name in place.listing() if "/checkpoint/" in name]


@pytest.mark.integration
@pytest.mark.timeout(300)
def test_killed_and_continued_from_the_store_alone(slow_sweep, tmp_path):
    killed_and_continued(slow_sweep, tmp_path, f"file://{tmp_path}/store/run", None)


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_same_on_a_server_that_speaks_s3(slow_sweep, tmp_path, monkeypatch):
    pytest.importorskip("s3fs", reason="s3fs is not installed (the extra `s3`)")
    server = pytest.importorskip("moto.server", reason="moto is not installed (pip install 'moto[server]')")
    import s3fs

    served = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    served.start()
    try:
        host, port = served.get_host_and_port()
        settings = {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        }
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("bucket")
        killed_and_continued(slow_sweep, tmp_path, "s3://bucket/runs/slow", {**os.environ, **settings})
        assert not [name for name in Place("s3://bucket/runs/slow").listing() if name.endswith(".tmp")]
        missing = on_machine(
            tmp_path / "missing", slow_sweep, "--out", "s3://no-such-bucket/run", env={**os.environ, **settings}
        )
        said, _ = missing.communicate(timeout=100)
        assert missing.returncode == 2, said
        assert "s3://no-such-bucket/run: cannot be written" in said
    finally:
        served.stop()
