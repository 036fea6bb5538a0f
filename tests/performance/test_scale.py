"""The measurements of scale and of Ray's overhead, small: that they run and say what they measured."""

import json
import subprocess
import sys

import pytest

from tests.performance.overhead import ROOT, Ratio

pytestmark = pytest.mark.slow


def measured(module, target, *options):
    command = [sys.executable, "-m", f"tests.performance.{module}", "--json", str(target), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(target.read_text()), done.stdout


def test_scale(tmp_path):
    lines, table = measured("scale", tmp_path / "scale.json", "--sizes", "40", "--rows", "400", "--ray", "2")
    assert [line["stage"] for line in lines] == ["plan", "store", "again", "status", "report", "ray"]
    found = {line["stage"]: line for line in lines}
    assert found["again"]["left"] == 0
    assert 10_000 < found["report"]["html_bytes"] < 10_000_000
    assert found["ray"]["trials"] == 2
    assert len(table.splitlines()) == 7


def test_overhead(tmp_path):
    found, table = measured("overhead", tmp_path / "overhead.json", "--pairs", "1", "--queries", "32", "--alone")
    assert found["alone"]["ray"][0]["train_seconds"] > 0
    assert 0 < found["start"]["inline"]["median"] < found["first_point"]["inline"]["median"]
    assert "training seconds of a trial, Ray / inline" in table


def test_ratio():
    assert Ratio.of([3.0, 1.0, 2.0]) == Ratio(2.0, 1.0, 3.0)
