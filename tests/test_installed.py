"""The README's commands, run as they are written: in a copy of the repository, and where a wheel is installed."""

import os
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch

from tests.readme import COMMANDS, LOADING, ROOT, write_examples

BENCH = [command for command in COMMANDS if command.startswith("bench ")]
BIN = Path(sys.executable).parent
PACKAGES = ("bench", "methods", "models", "reports", "rewards", "sweeps")


def call(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs a line in a shell, with this interpreter's programs first."""
    variables = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **environment}
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, env=variables, capture_output=True, text=True, check=False
    )


def done(command: str, folder: Path, **environment: str) -> str:
    """What a line says on standard output that must succeed."""
    result = call(command, folder, **environment)
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    """The files of the repository."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def clone(tracked, tmp_path_factory) -> Path:
    """The repository's files without anything else, as a clone has them."""
    folder = tmp_path_factory.mktemp("clone") / "alignprop-bench"
    for name in tracked:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes((ROOT / name).read_bytes())
    return folder


@pytest.fixture(scope="module")
def wheel(clone, tmp_path_factory) -> Path:
    """A wheel of the repository."""
    pytest.importorskip("setuptools", minversion="77")
    folder = tmp_path_factory.mktemp("wheel")
    pip = shlex.join([sys.executable, "-m", "pip", "--disable-pip-version-check"])
    done(f"{pip} wheel . --quiet --no-deps --no-build-isolation --wheel-dir {folder}", clone)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> dict[str, str]:
    """The environment in which the wheel is what Python imports."""
    folder = tmp_path_factory.mktemp("site")
    pip = shlex.join([sys.executable, "-m", "pip", "--disable-pip-version-check"])
    done(f"{pip} install --quiet --no-deps --no-index --target {folder} {wheel}", folder)
    return {"PYTHONPATH": str(folder)}


@pytest.mark.integration
def test_the_wheel_has_every_file_of_the_packages(wheel, tracked):
    wanted = {name for name in tracked if name.split("/")[0] in PACKAGES}
    assert wanted <= set(zipfile.ZipFile(wheel).namelist())


@pytest.mark.integration
def test_an_installed_sweep_is_planned_in_another_folder(installed, tmp_path):
    where = done("python -c 'import bench; print(bench.__file__)'", tmp_path, **installed)
    assert where.startswith(installed["PYTHONPATH"])
    assert "4 configurations of 3 methods" in done("bench plan searched", tmp_path, **installed)
    assert not list(tmp_path.iterdir()), "planning writes nothing"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_commands_run_where_the_wheel_is_installed(installed, tmp_path):
    write_examples(tmp_path)
    for command in BENCH:
        lacking = "resources.gpus" in command and not torch.cuda.is_available()
        result = call(command, tmp_path, **installed)
        assert result.returncode == (2 if lacking else 0), f"{command}\n{result.stdout}\n{result.stderr}"
        assert not lacking or "and this machine has 0" in result.stderr
    assert (tmp_path / "runs/quickstart/report/report.html").is_file()
    (adapter,) = (tmp_path / "runs/mine/trials").glob("alignprop-s0-*/adapter")
    model = Path(installed["PYTHONPATH"]) / "models/emoji/v1"
    code = f"from diffusers import StableDiffusionPipeline\nMODEL = {str(model)!r}\n{LOADING}"
    code = code.replace("TRIAL", adapter.parent.name) + "print(pipeline.get_active_adapters())\n"
    assert "default" in done(shlex.join([sys.executable, "-c", code]), tmp_path, **installed)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_recipe_of_make_run_runs_in_a_clone(clone):
    """With a shorter sweep, and in this environment, as a package index may be out of reach."""
    ready = f"VENV={BIN.parent} -o {BIN.parent}/.installed"
    assert "report:" in done(f"make run {ready} SWEEP=quickstart", clone, PYTHONPATH=str(clone))
    assert (clone / "runs/quickstart/report/report.html").is_file()
