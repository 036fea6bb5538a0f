"""CONTRIBUTING's steps are followed literally: the file is written, checked, named in a sweep, and run."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from bench.cli import run_command
from bench.run.trial import run_trial
from bench.store.trial_folder import TrialFolder
from bench.sweep.load import load_sweep
from tests.bench.planned import plan

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
    first, second = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    (tmp_path / "my_method.py").write_text(f"{first}\n\n{second}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_example_passes_bench_test_as_it_is_written(my_method, capsys):
    (line,) = re.findall(r"```\n(bench test .*?)\n```", TEXT)
    assert run_command(shlex.split(line)[1:]) == 0
    out = capsys.readouterr().out
    assert "last-step: 12 passed, 0 failed, 1 do not apply" in out


def test_the_policy_gradient_passes_bench_test_and_is_as_short_as_its_title_says(my_method, capsys):
    assert run_command(["test", "my_method.py:ScoreFunction"]) == 0
    assert "score-function: 12 passed, 0 failed, 1 do not apply" in capsys.readouterr().out
    tree = ast.parse((my_method / "my_method.py").read_text())
    (cls,) = [node for node in tree.body if getattr(node, "name", "") == "ScoreFunction"]
    (step,) = [node for node in cls.body if getattr(node, "name", "") == "step"]
    assert step.end_lineno - step.lineno + 1 <= 25


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


def test_every_folder_says_what_it_is_for_and_the_tree_names_the_storeys():
    for folder in ("bench", "methods", "models", "reports", "rewards"):
        for path in (ROOT / folder).rglob("__init__.py"):
            assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path
    for path in (ROOT / "bench").glob("*/__init__.py"):
        assert f"{path.parent.name}/" in TEXT, f"CONTRIBUTING's tree does not name bench/{path.parent.name}/"


def test_bench_and_models_name_the_modules_that_lie_in_them():
    for folder in ("bench", "models"):
        text = (ROOT / folder / "__init__.py").read_text(encoding="utf-8")
        for path in (ROOT / folder).glob("*.py"):
            if path.name != "__init__.py":
                assert path.name in text, f"{folder}/__init__.py does not name {path.name}"
