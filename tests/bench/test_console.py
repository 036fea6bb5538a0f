"""Tables in a terminal."""

import json
import re

import pytest

from bench import console

COLUMNS = ["method", "statistic", "baseline", "run", "loss", "tolerance", "p", "would show", "verdict"]
ROW = ["alignprop", "held-out reward *", "6.149", "6.148", "0.00123 ± 0.0456", "0.123", "0.456", "0.0789", "passed"]


def printed(capsys, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(console.sys.stdout, "isatty", lambda: True, raising=False)
    console.table(COLUMNS, [ROW], right=COLUMNS[2:8])
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_no_word_is_broken_and_every_column_is_there(capsys, monkeypatch, width):
    lines = printed(capsys, monkeypatch, width)
    assert all(len(line.rstrip()) <= width for line in lines)
    words = " ".join(lines).split()
    assert set(" ".join([*COLUMNS, *ROW]).split()) <= set(words)
    blocks = sum("method" in line for line in lines)
    assert blocks == {60: 3, 80: 2, 100: 1, 200: 1}[width]
    assert words.count("alignprop") == blocks, "each part says what its row is of"


def test_json_has_no_number_that_json_lacks(capsys):
    console.say_json({"a": [float("nan"), (float("inf"), 1.5)], "b": {"c": float("-inf")}, "path": "x"})
    said = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert said == {"a": [None, [None, 1.5]], "b": {"c": None}, "path": "x"}
