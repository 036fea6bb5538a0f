"""`make gpu` tries itself on the CPU: every piece, in a machine that has neither Ray nor DeepSpeed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.performance.on_gpu import ROOT, SIZES, contestants

pytestmark = pytest.mark.integration

WITHOUT = """
from functools import partial
from importlib.machinery import PathFinder

found = PathFinder.find_spec

def find(name, *where):
    return None if name.partition(".")[0] in ("ray", "deepspeed") else found(name, *where)

PathFinder.find_spec = partial(find)
"""


def run_tiny(folder: Path, *pieces: str) -> Path:
    """The output of the pieces at size `tiny`, or of all; they exit with 0."""
    without, output = folder / "without", folder / "gpu"
    without.mkdir()
    (without / "sitecustomize.py").write_text(WITHOUT)
    paths = os.pathsep.join([str(without), str(ROOT), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "tests.performance.on_gpu", "--size", "tiny", "--out", str(output), *pieces]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return output


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    """The output of the pieces that time Stable Diffusion and hold the plan beside it."""
    return run_tiny(tmp_path_factory.mktemp("gpu"), "sd-2", "plan")


def read(output: Path, piece: str) -> dict:
    return json.loads((output / f"{piece}.json").read_text())


@pytest.mark.slow
def test_every_piece_writes_what_it_found(tmp_path):
    output = run_tiny(tmp_path)
    assert set(read(output, "outcomes").values()) == {"good"}
    assert read(output, "tests")["tests"] > 0
    assert read(output, "quickstart")["gain_over_the_cpus"] == 1  # both are on the CPU
    assert read(output, "quickstart")["repeats_bitwise"]


def test_each_contestant_has_its_seconds_its_floor_and_its_memory(output):
    results = {result["label"]: result for result in read(output, "sd-2")["results"]}
    assert set(results) == {contestant.label for contestant in contestants(SIZES["tiny"], 2)}
    for result in results.values():
        assert result["seconds"] > 0
        assert result["over_floor"] > 1
        assert result["peak_gib"] > 0
    ours, recomputing = results["AlignProp, K = 2"], results["AlignProp, K = 2, recomputing as TRL does"]
    assert ours["each"][0]["recomputed_tflop"] == 0
    assert recomputing["each"][0]["tflop"] == ours["each"][0]["tflop"], "the floor is without what is computed again"
    assert recomputing["each"][0]["recomputed_tflop"] > 0
    assert 0 < recomputing["predicted_gib"] < ours["predicted_gib"]
    assert results["DDPO, an epoch"]["predicted_gib"] > 0


@pytest.mark.slow
def test_a_piece_that_fails_leaves_the_others_and_the_exit_code(tmp_path):
    command = [
        sys.executable,
        "-m",
        "tests.performance.on_gpu",
        "--size",
        "tiny",
        "--out",
        str(tmp_path),
        "plan",
        "tests",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert read(tmp_path, "outcomes") == {"plan": "failed with exit code 1", "tests": "good"}
