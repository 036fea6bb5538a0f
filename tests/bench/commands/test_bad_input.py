"""Whatever is wrong with a sweep, the answer is exit code 2 and one to three lines that help."""

import json
import os
import re
from pathlib import Path

import pytest
import torch

BOMB = "a: &a [x, x]\n" + "".join(f"b{i}: &b{i} [*{'a' if i == 0 else f'b{i - 1}'}, *a]\n" for i in range(20))

EDITS = {
    "unknown key": ("seeds:", "sedes: [1]\nseeds:", ["tiny.yaml:16", "sedes: unknown key", "did you mean seeds?"]),
    "unknown key in a part": ("  every: 4", "  evry: 4", ["evaluate.evry: unknown key", "every"]),
    "unknown setting": (
        "batch_size: 2",
        "batch_sise: 2",
        ["tiny.yaml:13", "methods[1].settings.batch_sise", "batch_size?"],
    ),
    "unknown top-level key in a method": ("- name: base", "- name: base\n    lr: 1", ["methods[0].lr: unknown key"]),
    "wrong type": ("batch_size: 2", "batch_size: many", ["methods[1].settings.batch_size: expected a whole number"]),
    "setting out of range": ("batch_size: 2", "batch_size: 0", ["greater than or equal to 1, got 0"]),
    "text for a number": ("steps: 3", "steps: three", ["sampler.steps: expected a whole number, got 'three'"]),
    "bool for a number": ("steps: 3", "steps: true", ["sampler.steps: expected a whole number"]),
    "fraction for a count": ("steps: 3", "steps: 2.5", ["sampler.steps: expected a whole number"]),
    "mapping for a list": ("seeds: [0, 1]", "seeds: {a: 1}", ["seeds: expected a list"]),
    "list for a mapping": ("sampler: {steps: 3}", "sampler: [3]", ["sampler: expected a mapping"]),
    "nothing where something is needed": (
        "sampler: {steps: 3}",
        "sampler:",
        ["sampler: expected a mapping", "nothing"],
    ),
    "missing key": ("model: ", "description: ", ["model: is missing"]),
    "missing schema": ("schema: 1\n", "", ["schema: is missing", "version"]),
    "schema of the future": ("schema: 1", "schema: 2", ["tiny.yaml:1: schema: 2 is none of 1"]),
    "unknown method": (
        "name: alignprop",
        "name: alignprp",
        ["tiny.yaml:11", "no method 'alignprp'; did you mean alignprop?"],
    ),
    "unknown reward": ("colourfulness", "colorfulness", ["reward: there is no reward", "did you mean colourfulness?"]),
    "reward option that does not exist": (
        "colourfulness",
        "{name: colourfulness, nope: 1}",
        ["cannot be built", "takes no arguments"],
    ),
    "reward of no kind": ("colourfulness", "{weights: 1}", ["reward: a reward is a mapping with one of name, sum,"]),
    "reward of two kinds": ("colourfulness", "{name: colourfulness, http: x}", ["reward:", "it has name and http"]),
    "sum of nothing": ("colourfulness", "{sum: []}", ["reward.sum: must not be empty"]),
    "sum with twins": ("colourfulness", "{sum: [colourfulness, colourfulness]}", ["two parts are called", "label:"]),
    "unknown part": ("colourfulness", "{sum: [colorfulness]}", ["reward: there is no reward", "colourfulness?"]),
    "weight that is text": (
        "colourfulness",
        "{sum: [{name: colourfulness, weight: much}]}",
        ["reward.sum[0].weight: expected a number"],
    ),
    "weight outside a sum": ("colourfulness", "{name: colourfulness, weight: 2}", ["reward.weight", "part of a sum"]),
    "weight in an ensemble": (
        "colourfulness",
        "{ensemble: [{name: colourfulness, weight: 2}, emoji-aesthetic]}",
        ["weights belong to the parts of a sum"],
    ),
    "clip without bounds": ("colourfulness", "{clip: colourfulness}", ["cannot be built", "`min` or `max`"]),
    "combination's option that does not exist": (
        "colourfulness",
        "{ensemble: [colourfulness, emoji-aesthetic], kk: 1}",
        ["cannot be built", "'kk'"],
    ),
    "server without a URL": ("colourfulness", "{http: 'localhost:80'}", ["cannot be built", "no http:// or https://"]),
    "reward file that does not exist": ("colourfulness", "mine.py:score", ["reward: there is no file", "mine.py"]),
    "reward module that does not exist": ("colourfulness", "no_such_module:score", ["no module 'no_such_module'"]),
    "negative budget": (
        "reward_queries: 8",
        "reward_queries: -8",
        ["budget.reward_queries: must be greater than 0, got -8"],
    ),
    "budget of nothing": ("\n  reward_queries: 8", " {}", ["budget: must not be empty"]),
    "budget on an unknown axis": ("reward_queries: 8", "queries: 8", ["'queries' is none of reward_queries"]),
    "infinite budget": (
        "reward_queries: 8",
        "reward_queries: .inf",
        ["budget.reward_queries: expected a finite number"],
    ),
    "budget below one step": ("reward_queries: 8", "reward_queries: 1", ["less than one step of alignprop"]),
    "no seeds": ("[0, 1]", "[]", ["seeds: must not be empty"]),
    "negative seed": ("[0, 1]", "[-1]", ["seeds[0]: must be greater than or equal to 0"]),
    "a seed twice": ("[0, 1]", "[3, 3]", ["seeds: 3 appears twice"]),
    "no methods": ("methods:\n  - name: base", "methods: []\nx:\n  - name: base", ["methods: must not be empty"]),
    "two methods of one name": ("- name: base", "- name: ddpo", ["two methods are called 'ddpo'", "variant"]),
    "held-out prompt that is trained on": (
        "[two dogs]",
        "[a cat]",
        ["prompts.heldout: 'a cat' is a training prompt too"],
    ),
    "unknown prompt set": ("[two dogs]", "animal", ["no prompt set or text file 'animal'; did you mean animals?"]),
    "prompt twice": ("[two dogs]", "[two dogs, two dogs]", ["prompts.heldout: the prompt 'two dogs' appears twice"]),
    "numbers as prompts": ("[two dogs]", "[1, 2]", ["prompts.heldout: expected a prompt set's name"]),
    "model that is not there": ("model: ", "model: /nowhere", ["model: there is no model '/nowhere"]),
    "name that climbs": ("name: tiny", "name: ../tiny", ["name: '../tiny' cannot name a folder"]),
    "duplicate key": ("seeds:", "name: again\nseeds:", ["tiny.yaml:16: the key 'name' appears twice", "tiny.yaml:2"]),
    "tab": ("  reward_queries", "\treward_queries", ["tab", "spaces"]),
    "unclosed list": ("[0, 1]", "[0, 1", ["is not YAML"]),
    "colon in a value": ("name: tiny", "name: tiny: er", ["tiny.yaml:2", "quote the value"]),
    "python tag": ("name: tiny", "name: !!python/object/apply:os.system [ls]", ["tag", "not allowed"]),
    "own tag": ("name: tiny", "name: !mine tiny", ["tag !mine is not allowed"]),
    "two documents": ("seeds:", "---\nseeds:", ["several YAML documents"]),
    "search": ("seeds:", "search: {trials: 3}\nseeds:", ["search.trials: unknown key", "search.space: is missing"]),
    "offload of nothing": ("seeds:", "resources: {offload: cpu}\nseeds:", ["resources: offload needs ZeRO"]),
    "half precision under ZeRO": (
        "seeds:",
        "resources: {zero: 2, precision: bf16}\nseeds:",
        ["resources: ZeRO runs in fp32 for now"],
    ),
    "a peer on two workers": (
        "seeds:",
        "  - name: trl-ddpo\nresources: {workers: 2}\nseeds:",
        ["trl-ddpo owns its optimiser"],
    ),
    "grid and settings at once": (
        "batch_size: 2",
        "batch_size: 2\n    grid: {batch_size: [1]}",
        ["grid.batch_size: is in settings too"],
    ),
    "a GPU's precision without one": (
        "seeds:",
        "resources: {precision: tf32}\nseeds:",
        ["resources: tf32 is arithmetic of GPUs, and gpus is 0; write precision: fp32"],
    ),
    "impossible precision": (
        "seeds:",
        "resources: {precision: fp8}\nseeds:",
        ["precision: 'fp8' is none of fp32, tf32, bf16"],
    ),
    "a share of an alpha": ("seeds:", "lora: {alpha: 0.5}\nseeds:", ["lora.alpha: "]),
}

FILES = {
    "an alias bomb": (BOMB.encode(), ["anchors and aliases", "not allowed"]),
    "empty": (b"", ["is empty"]),
    "only a comment": (b"# nothing\n", ["is empty"]),
    "a list": (b"- 1\n- 2\n", ["is no sweep"]),
    "prose": (b"Dear diary, today I aligned a model.", ["is no sweep"]),
    "binary": (bytes(range(256)), ["not text in UTF-8"]),
    "control characters": (b"name: \x00\x01", ["is not YAML"]),
    "too large": (b"# " + b"x" * 300_000, ["at most"]),
    "too deep": (b"[" * 5000, ["nested deeper"]),
}

OPTIONS = {
    "unknown scale": (["--scale", "papr"], ["--scale", "no scale 'papr'"]),
    "--set without a value": (["--set", "seeds"], ["--set", "is no path=value"]),
    "--set of nothing": (["--set", "=1"], ["--set", "is no path=value"]),
    "--set with an unknown key": (
        ["--set", "budgt.reward_queries=5"],
        ["--set budgt.reward_queries=5", "did you mean budget?"],
    ),
    "--set with an unknown variant": (["--set", "methods.dpo.settings.x=5"], ["'dpo'", "did you mean ddpo?"]),
    "--set with an unknown setting": (
        ["--set", "methods.ddpo.settings.clip=5"],
        ["methods[2].settings.clip: unknown key"],
    ),
    "--set with a bad value": (["--set", "seeds=[1"], ["--set seeds=[1", "is not YAML"]),
    "--set with an alias": (["--set", "seeds=*x"], ["anchors and aliases"]),
    "--set out of a list": (["--set", "seeds.7=1"], ["seeds is a list of 2", "'7'"]),
    "--set with an empty part": (["--set", "a..b=1"], ["empty part"]),
    "unknown option": (["--sacle", "paper"], ["--sacle"]),
}


def check(answer, fragments):
    """Exit code 2, one to three lines on standard error, nothing on standard output, and the help that is promised."""
    assert answer.code == 2, answer
    assert answer.out == ""
    lines = answer.err.strip().splitlines()
    assert 1 <= len(lines) <= 3, answer.err
    assert lines[0].startswith("error: ")
    assert "Traceback" not in answer.err
    for fragment in fragments:
        assert fragment in answer.err, answer.err


@pytest.mark.parametrize("case", EDITS)
def test_broken_sweep(cli, sweep_text, tmp_path, case):
    old, new, fragments = EDITS[case]
    assert sweep_text.count(old) >= 1
    path = tmp_path / "tiny.yaml"
    path.write_text(sweep_text.replace(old, new, 1))
    check(cli("plan", path), fragments)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("case", FILES)
def test_broken_file(cli, tmp_path, case):
    content, fragments = FILES[case]
    path = tmp_path / "tiny.yaml"
    path.write_bytes(content)
    check(cli("run", path), fragments)


@pytest.mark.parametrize("case", OPTIONS)
def test_bad_option(cli, sweep_file, case):
    options, fragments = OPTIONS[case]
    check(cli("plan", sweep_file, *options), fragments)


def test_missing_file_names_its_neighbour(cli, sweep_file):
    check(cli("run", sweep_file.with_name("tinny.yaml")), ["no such file", "did you mean", "tiny.yaml"])


def test_folder_as_file(cli, tmp_path):
    check(cli("run", tmp_path), ["is a folder"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file(cli, sweep_file):
    sweep_file.chmod(0)
    check(cli("run", sweep_file), ["cannot be read", "Permission denied"])


def test_file_that_fails_to_read(cli, sweep_file, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    check(cli("run", sweep_file), ["cannot be read (Permission denied)"])


def test_gradient_method_on_a_value_reward(cli, sweep_text, tmp_path):
    (tmp_path / "mine.py").write_text("def score(images, prompts):\n    return [0.0] * len(prompts)\n")
    path = tmp_path / "tiny.yaml"
    path.write_text(sweep_text.replace("colourfulness", "mine.py:score"))
    check(
        cli("plan", path),
        ["tiny.yaml:11: methods[1].name: alignprop needs the reward's gradient and score has none", "ddpo", "rwr"],
    )


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/passwd", "a/b", "..", ".hidden", "", "A", "x" * 65, "a b", "a\\b", "nul\0", "ü", "-rf", "a."],
)
def test_variant_cannot_leave_the_folder(cli, sweep_text, tmp_path, name):
    path = tmp_path / "tiny.yaml"
    quoted = '"' + name.replace("\\", "\\\\").replace("\0", "\\0") + '"'
    path.write_text(sweep_text.replace("- name: base", f"- name: base\n    variant: {quoted}"))
    check(cli("run", path, "--executor", "inline"), ["methods[0].variant", "cannot name a folder"])
    assert list(tmp_path.iterdir()) == [path]


def test_every_problem_is_told(cli, sweep_text, tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text(sweep_text + "a: 1\nb: 2\nc: 3\nd: 4\n")
    answer = cli("plan", path)
    assert answer.code == 2
    assert re.findall(r"tiny\.yaml:\d+: (\w): unknown key", answer.err) == ["a", "b", "c", "d"]


NINE = """\
schema: 1
name: nine
model: nowhere
reward: colourfulnes
prompts: {train: missing.txt, heldout: gone.txt}
methods:
  - name: ddpoo
  - name: alignprop
    settings: {learning_rat: 1, batch_size: 0}
seeds: [0]
budget: {reward_queries: 8}
evaluate:
  rewards: [esthetic]
  gold: goldd
sampler: {steps: 3}
"""
KEYS = [
    ":3: model: ", ":4: reward: ", ":5: prompts.train: ", ":5: prompts.heldout: ", ":7: methods[0].name: ",
    ":9: methods[1].settings.learning_rat: ", ":9: methods[1].settings.batch_size: ", ":13: evaluate.rewards[0]: ",
    ":14: evaluate.gold: ",
]  # fmt: skip


@pytest.mark.parametrize("verb", [("plan",), ("run", "--executor", "inline")], ids=["plan", "run"])
def test_problems_of_every_part_are_told_in_the_order_of_the_file(cli, tmp_path, verb):
    path = tmp_path / "nine.yaml"
    path.write_text(NINE)
    answer = cli(verb[0], path, *verb[1:], "--out", tmp_path / "run")
    assert answer.code == 2
    lines = answer.err.splitlines()
    assert len(lines) == len(KEYS) == 9
    assert all(any(key in line for line in lines) for key in KEYS), answer.err
    numbers = [int(line.split("nine.yaml:")[1].split(":")[0]) for line in lines]
    assert numbers == sorted(numbers)
    assert not (tmp_path / "run").exists()


def test_an_error_is_json_too_where_json_was_asked_for(cli, tmp_path):
    path = tmp_path / "nine.yaml"
    path.write_text(NINE)
    answer = cli("plan", path, "--json")
    told = json.loads(answer.out)
    assert told["exit_code"] == answer.code == 2
    assert len(told["problems"]) == 9
    assert told["error"] == told["problems"][0]
    assert answer.err.startswith(f"error: {told['error']}\n")


def test_two_problems_of_one_method_are_told(cli, sweep_text, tmp_path):
    (tmp_path / "mine.py").write_text("def score(images, prompts):\n    return [0.0] * len(prompts)\n")
    path = tmp_path / "tiny.yaml"
    path.write_text(sweep_text.replace("colourfulness", "mine.py:score").replace("batch_size: 2", "batch_sise: 2"))
    answer = cli("plan", path)
    assert answer.code == 2
    assert "alignprop needs the reward's gradient and score has none" in answer.err
    assert "batch_sise: unknown key; did you mean batch_size?" in answer.err


def test_twins_and_a_clash_are_told_together(cli, sweep_text, tmp_path):
    path = tmp_path / "tiny.yaml"
    more = "  - name: base\n  - {name: rwr, settings: {batch_size: 2}, grid: {batch_size: [2, 4]}}\nseeds:"
    path.write_text(sweep_text.replace("seeds:", more))
    answer = cli("plan", path)
    assert answer.code == 2
    assert "two methods are called 'base'" in answer.err
    assert "methods[4].grid.batch_size: is in settings too" in answer.err


OWN = "{}\n\n\ndef score(images, prompts):\n    return images.mean((1, 2, 3))\n"


@pytest.mark.parametrize(
    ("header", "reward", "told"),
    [
        ("x = 1 / 0", "mine.py:score", "cannot be loaded: ZeroDivisionError: division by zero (mine.py:1)"),
        ("import nowhere", "mine.py:score", "ModuleNotFoundError: No module named 'nowhere' (mine.py:1)"),
        ("import json; json.loads('{')", "mine.py:score", "(mine.py:1)"),
        ("def score(:", "mine.py:score", "SyntaxError: invalid syntax (mine.py, line 1)"),
    ],
)
def test_own_code_that_cannot_be_imported_names_its_line(cli, sweep_text, tmp_path, header, reward, told):
    (tmp_path / "mine.py").write_text(OWN.format(header))
    path = tmp_path / "tiny.yaml"
    path.write_text(sweep_text.replace("colourfulness", reward))
    check(cli("plan", path), [f"tiny.yaml:4: reward: {tmp_path / 'mine.py'} cannot be loaded", told, "--debug"])


def test_a_reward_that_cannot_be_built_names_its_line(cli, sweep_text, tmp_path):
    text = "from rewards.base import Reward\n\n\nclass Mine(Reward):\n    def __init__(self):\n        {}['size']\n"
    (tmp_path / "mine.py").write_text(text + "\n    def score(self, images, prompts):\n        return None\n")
    path = tmp_path / "tiny.yaml"
    path.write_text(sweep_text.replace("colourfulness", "mine.py:Mine"))
    check(cli("plan", path), ["reward Mine cannot be built: KeyError: 'size' (mine.py:6)", "--debug"])


def test_an_own_method_that_fails_while_planned_is_no_defect_of_ours(cli, sweep_text, tmp_path):
    """Exit code 2 with its line, not 5."""
    (tmp_path / "mine.py").write_text(
        "from methods.alignprop import AlignProp\n\n\nclass Mine(AlignProp):\n    name = 'mine'\n\n"
        "    @classmethod\n    def cost(cls, settings, prompts, sampler):\n        return {}['queries']\n"
    )
    path = tmp_path / "tiny.yaml"
    path.write_text(sweep_text.replace("name: base", "name: mine.py:Mine"))
    check(cli("plan", path), ["the code of a method or reward failed: KeyError: 'queries' (mine.py:9)"])


def test_unknown_verb(cli):
    check(cli("rnu"), ["no verb 'rnu'", "did you mean run?"])


def test_run_that_is_not_there(cli, tmp_path):
    for verb in ("status", "report"):
        check(cli(verb, tmp_path / "nope"), ["no such folder"])
        check(cli(verb, tmp_path), ["no run has written here"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.parametrize("executor", ["inline", "ray"])
def test_a_gpu_that_is_not_there(cli, sweep_file, tmp_path, executor):
    """It is not quietly the CPU instead."""
    answer = cli("run", sweep_file, "--set", "resources.gpus=1", "--executor", executor, "--out", tmp_path / "run")
    check(answer, ["resources.gpus: a trial needs 1 GPU and this machine has 0", "--set resources.gpus=0"])
