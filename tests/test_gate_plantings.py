"""Real defects on the embedded model are caught by the committed baseline; `make gate` runs it unchanged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_embedded import bench

ROOT = Path(__file__).parents[1]
BASELINE = ROOT / "sweeps/baselines/gate.json"
SWEEP = ROOT / "sweeps/gate.yaml"
VARIANT = "ddpo-early-shared-noise"
HALVED = "[{name: alignprop, settings: {batch_size: 8, learning_rate: 4e-3}}]"
FLIPPED = f"""[{{name: "{ROOT / "tests/flipped_ddpo.py"}:FlippedDDPO", variant: {VARIANT}, settings:
  {{learning_rate: 5e-3, prompts_per_rollout: 2, images_per_prompt: 16, statistics: group, timestep_fraction: 0.6,
  timestep_choice: earliest, initial_noise: per-prompt}}}}]"""


def arguments(*overrides: str) -> list[str]:
    changes = [word for value in overrides for word in ("--set", value)]
    return ["run", str(SWEEP), "--executor", "inline", *changes, "--out", "run"]


@pytest.fixture(scope="module")
def planted(tmp_path_factory) -> dict[str, Path]:
    """Runs with a defect each, made at the same time: every one computes with one thread."""
    started = {}
    for name, methods in {"halved": HALVED, "flipped": FLIPPED}.items():
        folder = tmp_path_factory.mktemp(name)
        command = [sys.executable, "-c", "from bench.cli import main; main()", *arguments(f"methods={methods}")]
        started[folder / "run"] = (
            name,
            subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True),
        )
    found = {}
    for path, (name, process) in started.items():
        said = process.communicate()[1]
        assert process.returncode == 0, said
        found[name] = path
    return found


def check(path: Path, *options: str) -> tuple[int, dict]:
    done = bench("check", str(path), "--baseline", str(BASELINE), *options, "--json", cwd=path)
    said = json.loads(done.stdout)
    return done.returncode, said | {"by": {method["variant"]: method for method in said["methods"]}}


def elsewhere(path: Path) -> None:
    """Makes a run look as if another processor had made it, so that no curve is compared point by point."""
    for record in path.glob("trials/*/trial.json"):
        value = json.loads(record.read_text())
        value["provenance"]["hardware"]["cpu"] = "another"
        record.write_text(json.dumps(value))


@pytest.mark.integration
@pytest.mark.timeout(600)
def test_a_halved_learning_rate_is_caught(planted):
    code, said = check(planted["halved"])
    assert code == 1
    assert said["by"]["alignprop"]["verdict"] == "regression"
    assert said["by"][VARIANT]["verdict"] == "failed", "it was left out here, which is no pass either"
    assert any("learning_rate: not set, now 0.004" in note for note in said["notes"])


@pytest.mark.integration
@pytest.mark.timeout(600)
def test_a_flipped_advantage_is_caught(planted):
    code, said = check(planted["flipped"])
    assert code == 1
    assert said["by"][VARIANT]["verdict"] == "regression"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_unchanged_methods_pass_with_and_without_statistics(tmp_path):
    done = bench(*arguments(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    path = tmp_path / "run"
    code, said = check(path)
    assert (code, said["verdict"]) == (0, "passed")
    code, said = check(path, "--mode", "statistical")
    assert (code, {method["verdict"] for method in said["methods"]}) == (0, {"no loss shown"})
    elsewhere(path)
    code, said = check(path)
    assert (code, {method["verdict"] for method in said["methods"]}) == (0, {"no loss shown"})
    assert check(path, "--mode", "exact")[0] == 4
