"""Which line of an exception's way is its author's."""

import json
import sys
from importlib import import_module

import pytest
import torch

from bench.authors import place_of
from bench.build.plugins import load_object
from bench.errors import InvalidSweepError, cause_of
from rewards.base import CallableReward, RewardError
from rewards.colour import Colourfulness

FILE = """\
import json
import torch


def own(images, prompts):
    raise ValueError("no luck")


def library(images, prompts):
    return json.loads("{")


def operator(images, prompts):
    return torch.ones(2) @ torch.ones(3)


def chained(images, prompts):
    try:
        return {}["label"]
    except KeyError as error:
        raise ValueError("no label") from error
"""
LINES = {"own": 6, "library": 10, "operator": 14, "chained": 19}


def caught(call, *arguments):
    try:
        call(*arguments)
    except Exception as error:
        return error
    raise AssertionError("it did not fail")


@pytest.mark.parametrize(("name", "line"), LINES.items())
def test_the_line_of_a_rewards_file(name, line, tmp_path):
    path = tmp_path / "r.py"
    path.write_text(FILE)
    reward = CallableReward(load_object(f"{path}:{name}"))
    error = caught(reward, torch.rand(2, 3, 4, 4), ["a", "b"])
    assert isinstance(error, RewardError)
    assert place_of(error) == f"r.py:{line}"
    assert cause_of(error).endswith(f" (r.py:{line})")


def test_an_installed_package_counts_where_it_is_a_reward_s(tmp_path, monkeypatch):
    """In site-packages, where libraries lie whose lines help nobody."""
    package = tmp_path / "site-packages" / "judges_for_this_test"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "inner.py").write_text(FILE)
    monkeypatch.syspath_prepend(str(package.parent))
    function = import_module("judges_for_this_test.inner").own
    images, prompts = torch.rand(2, 3, 4, 4), ["a", "b"]
    assert place_of(caught(CallableReward(function), images, prompts)).startswith("test_authors.py:")
    del sys.modules["judges_for_this_test.inner"]
    function = load_object("judges_for_this_test.inner:own")
    assert place_of(caught(CallableReward(function), images, prompts)) == "inner.py:6"


def test_neither_ours_nor_a_library_is_an_author():
    error = caught(eval, compile("Colourfulness()(1, [])", "<nowhere>", "eval"), {"Colourfulness": Colourfulness})
    error.__traceback__ = error.__traceback__.tb_next  # from the frame of this test on
    assert place_of(error) is None
    error = caught(json.loads, "{")
    error.__traceback__ = error.__traceback__.tb_next
    assert place_of(error) is None
    assert "(" not in cause_of(error).replace("(char 1)", "")


def test_problems_stand_in_the_order_of_their_lines_and_once():
    found = InvalidSweepError(["my s.yaml:12: b: x", "--set a=1: a: y", "my s.yaml:3: c: z", "my s.yaml:12: b: x"])
    assert found.lines() == ["my s.yaml:3: c: z", "my s.yaml:12: b: x", "--set a=1: a: y"]
