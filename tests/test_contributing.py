"""CONTRIBUTING's steps are followed literally: the file is written, checked, named in a sweep, and run."""

import re
import shlex
from pathlib import Path

import pytest

from bench.cli import run_command
from bench.plan.planner import plan
from bench.run.trial import run_trial
from bench.store.trial_folder import TrialFolder
from bench.sweep.load import load_sweep

ROOT = Path(__file__).parents[1]

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
MOST_LINES = 90
"""A page."""

SWEEP = """
schema: 1
name: mine
model: {model}
reward: colourfulness
prompts: {{train: [a cat, a dog]}}
sampler: {{steps: 2, guidance: 1.0, eta: 1.0}}
{methods}
seeds: [0]
budget: {{reward_queries: 16}}
"""


@pytest.fixture
def my_method(tmp_path, monkeypatch):
    """The folder in which an author works, with the example's file."""
    (code,) = re.findall(r"```python\n(# my_method\.py\n.*?)```", TEXT, re.DOTALL)
    (tmp_path / "my_method.py").write_text(code)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_passes_bench_test_as_it_is_written(my_method, capsys):
    (line,) = re.findall(r"```\n(bench test .*?)\n```", TEXT)
    assert run_command(shlex.split(line)[1:]) == 0
    out = capsys.readouterr().out
    assert "last-step: 12 passed, 0 failed, 1 do not apply" in out


def test_the_example_method_runs_in_a_sweep(my_method, tiny_model):
    (methods,) = re.findall(r"`(methods: \[\{name: \"my_method.py:LastStep\"\}\])`", TEXT)
    (my_method / "sweep.yaml").write_text(SWEEP.format(model=tiny_model, methods=methods))
    (trial,) = plan(load_sweep(my_method / "sweep.yaml"))
    folder = TrialFolder(my_method / "trial")
    run_trial(trial, folder)
    last = folder.read_curve()[-1].axes
    # 16 images of 2 steps, the last differentiated: 32 rows forward, 16 back.
    assert (last["reward_queries"], last["nfe_forward"], last["nfe_backward"]) == (16, 32, 16)


def test_the_section_is_under_a_page():
    (section,) = re.findall(r"## Add a method in ten minutes\n(.*?)\n## ", TEXT, re.DOTALL)
    assert len(section.splitlines()) <= MOST_LINES


def test_the_tree_names_every_module_of_bench_and_models():
    for folder in ("bench", "models"):
        for path in (ROOT / folder).glob("*.py"):
            if path.name not in ("__init__.py", "cli.py"):
                assert path.stem in TEXT or path.name in TEXT, f"CONTRIBUTING's tree does not name {folder}/{path.name}"


def test_the_tree_names_every_folder_of_code():
    for folder in ("bench", "models", "methods"):
        for path in (ROOT / folder).glob("*/__init__.py"):
            assert f"{path.parent.name}/" in TEXT, f"CONTRIBUTING's tree does not name {folder}/{path.parent.name}/"
