"""Tables in a terminal, and JSON."""

import json
import re

import pytest

from bench import console

CHECK = ["method", "statistic", "baseline", "run", "loss", "tolerance", "p", "would show", "verdict"]
CHECKED = [
    ["alignprop", "held-out reward *", "6.149", "6.148", "0.00123 ± 0.0456", "0.123", "0.456", "0.0789", "passed"],
    ["alignprop-truncated-randomised-lr", "reward queries to the target", "1,030", "≥ 2,048", "1,020", "580", "<0.001",
     "", "regression"],
]  # fmt: skip
RANKING = ["#", "method", "seeds", "reward\ntraining prompts", "gold\ntraining prompts", "reward queries\nspent"]
RANKED = [
    ["1", "alignprop", "3", "0.770 (0.760–0.780)", "−1.25 (−1.25 to −1.24)", "2,048"],
    ["–", "base", "3", "0.707", "−2.16", "–"],
]
HISTORY = ["since", "commit", "method", "statistic", "before", "after", "verdict"]
STEPS = [["2026-11-30-nightly", "6aa7256547a1", "alignprop", "FLOPs in all (TFLOP)", "5.84", "6.84", "worse"]]
TABLES = {
    "check": (CHECK, CHECKED, CHECK[2:8], 1),
    "ranking": (RANKING, RANKED, [name for name in RANKING if name != "method"], 2),
    "history": (HISTORY, STEPS, HISTORY[4:6], 1),
}


def printed(capsys, monkeypatch, width, columns, rows, right):
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(console.sys.stdout, "isatty", lambda: True, raising=False)
    console.table(columns, rows, right=right)
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()


@pytest.mark.parametrize("width", [60, 80, 100, 130, 200])
@pytest.mark.parametrize("name", TABLES)
def test_no_word_is_broken_and_each_part_says_what_its_rows_are_of(capsys, monkeypatch, width, name):
    columns, rows, right, keys = TABLES[name]
    lines = printed(capsys, monkeypatch, width, columns, rows, right)
    assert all(len(line.rstrip()) <= width for line in lines)
    words = " ".join(lines).split()
    expected = [word for text in [*columns, *(cell for row in rows for cell in row)] for word in text.split()]
    assert not [word for word in expected if word not in words]
    parts = sum(line.startswith(" ──") for line in lines)
    assert (parts == 1) == (width >= {"check": 130, "ranking": 80, "history": 100}[name])
    for row in rows:
        assert words.count(row[keys - 1]) == parts
    assert words.count(rows[0][-1]) == 1, "only what a row is of is repeated"


def test_a_name_that_leaves_no_room_is_broken_rather_than_left_out(capsys, monkeypatch):
    lines = printed(capsys, monkeypatch, 40, ["trial", "reward"], [["a" * 60, "0.123456789"]], ["reward"])
    assert all(len(line.rstrip()) <= 40 for line in lines)
    assert sum(line.count("a") for line in lines) == 60 + "trial reward".count("a")
    assert "0.123456789" in " ".join(lines)


def test_a_pipe_gets_a_line_a_row(capsys):
    console.table(CHECK, CHECKED, right=CHECK[2:8])
    assert len([line for line in capsys.readouterr().out.splitlines() if line.strip()]) == 2 + len(CHECKED)


def test_json_has_no_number_that_json_lacks(capsys):
    console.say_json({"a": [float("nan"), (float("inf"), 1.5)], "b": {"c": float("-inf")}, "path": "x"})
    said = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert said == {"a": [None, [None, 1.5]], "b": {"c": None}, "path": "x"}
