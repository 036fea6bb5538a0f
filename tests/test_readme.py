"""The README's commands and examples as they are written: planned here, run by tests/test_installed.py."""

import re
import shlex
import subprocess
import sys

import pytest
from PIL import Image

from bench.cli import run_command
from tests.readme import COMMANDS, ROOT, TEXT, write_examples

MOST_WORDS = 700


def test_the_readme_is_short_and_has_one_picture():
    assert len(TEXT.split()) <= MOST_WORDS
    (picture,) = re.findall(r"!\[.+?\]\((.+?)\)", TEXT)
    with Image.open(ROOT / picture) as image:
        assert image.width >= 1600, "two pixels for each that GitHub shows"


def test_every_command_is_of_a_kind_that_is_tested():
    assert {shlex.split(command)[0] for command in COMMANDS} == {"make", "source", "bench"}
    assert "VENV ?= .venv\n" in (ROOT / "Makefile").read_text()
    assert [command for command in COMMANDS if command.startswith("source")] == ["source .venv/bin/activate"]


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("make ")])
def test_make_knows_its_targets(command):
    done = subprocess.run([*shlex.split(command), "-n"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {"run": "bench run ", "test": "python -m pytest "}[command.split()[1]] in done.stdout


@pytest.mark.parametrize("command", [command for command in COMMANDS if command.startswith("bench ")])
def test_bench_accepts_its_commands_in_another_folder(command, tmp_path, monkeypatch, capsys):
    write_examples(tmp_path)
    monkeypatch.chdir(tmp_path)
    _, verb, *arguments = shlex.split(command)
    code = run_command(["plan" if verb == "run" else verb, *arguments])  # what is dear is planned, not run
    assert code == 0, capsys.readouterr().err


@pytest.mark.slow
def test_the_picture_is_drawn_from_committed_results(tmp_path):
    (script,) = re.findall(r"\((docs/\w+\.py)\)", TEXT)
    drawn = tmp_path / "overview.png"
    subprocess.run([sys.executable, ROOT / script, drawn], check=True)
    with Image.open(drawn) as image, Image.open(ROOT / "docs/overview.png") as committed:
        assert image.size == committed.size
