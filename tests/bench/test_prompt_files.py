"""Prompts from other people's files, and the sets that ship."""

import json

import pandas as pd
import pytest

from bench import prompts
from bench.errors import BenchError
from bench.prompt_files import read_prompt_file
from bench.sweep import PromptFile
from rewards.emoji.labels import load_labels
from rewards.emoji.prompt import read_prompt

HPD = ["a cat, anime style", "a dog, anime style", "a cat, anime style"]
DRAWBENCH = 'Prompts,Category\nA red colored car.,Colors\n"Two cats, one dog.",Counting\n,Misc\n'


def read(base, **source):
    return read_prompt_file(PromptFile(**source), base)


def test_hpds_lists(tmp_path):
    (tmp_path / "anime.json").write_text(json.dumps(HPD))
    assert read(tmp_path, file="anime.json") == HPD[:2], "repeats are kept once"


def test_drawbenchs_table(tmp_path):
    (tmp_path / "drawbench.csv").write_text(DRAWBENCH)
    wanted = ["A red colored car.", "Two cats, one dog."]
    assert read(tmp_path, file="drawbench.csv") == wanted
    assert read(tmp_path, file="drawbench.csv", column="Prompts") == wanted
    assert read(tmp_path, file="drawbench.csv", column="Category", limit=1) == ["Colors"]


def test_none_is_a_prompt_too(tmp_path):
    (tmp_path / "a.csv").write_text("prompt\nNone\nNA\n")
    assert read(tmp_path, file="a.csv") == ["None", "NA"]


@pytest.mark.parametrize("kind", ["jsonl", "tsv", "parquet", "json"])
def test_the_same_table_in_other_kinds(kind, tmp_path):
    table, path = pd.DataFrame({"id": [1, 2], "Caption": ["one", "two"]}), tmp_path / f"table.{kind}"
    if kind == "parquet":
        table.to_parquet(path)
    elif kind == "tsv":
        table.to_csv(path, sep="\t")
    else:
        path.write_text(table.to_json(orient="records", lines=kind == "jsonl"))
    assert read(tmp_path, file=path.name) == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "content", "options", "words"),
    [
        ("a.csv", "a,b\n1,2\n", {}, "which column of a.csv holds the prompts? it has a, b; say `column:`"),
        ("a.csv", "prompt,b\nx,2\n", {"column": "promt"}, "a.csv has no column 'promt'; did you mean prompt?"),
        ("a.json", "{", {}, "the prompt file a.json cannot be read: JSONDecodeError"),
        ("a.json", "{}", {}, "expected a list of prompts or of objects"),
        ("a.csv", "Prompts\na cat, sitting\n", {}, "rows of a.csv have more fields than its header; quote prompts"),
        ("a.csv", "a cat\na dog\n", {}, "which column of a.csv holds the prompts? it has a cat"),
        ("a.exe", "", {}, "is of no kind that is read: .txt, .json"),
        ("b.csv", None, {}, "there is no prompt file 'b.csv'"),
    ],
)
def test_what_cannot_be_read(name, content, options, words, tmp_path):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(BenchError) as caught:
        read(tmp_path, file=name, **options)
    assert words in str(caught.value)


def test_a_dataset_that_cannot_be_fetched_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BenchError, match="is not here and cannot be fetched") as caught:
        read(tmp_path, hub="nobody/HPDv2", file="benchmark/anime.json")
    assert "hf download --repo-type dataset nobody/HPDv2 benchmark/anime.json" in caught.value.do


def test_in_a_sweep(cli, sweep_file, tmp_path):
    (tmp_path / "anime.json").write_text(json.dumps(HPD))
    answer = cli("plan", sweep_file, "--set", "prompts.train={file: anime.json}", "--json")
    assert answer.code == 0, answer.err
    answer = cli("plan", sweep_file, "--set", "prompts.train={file: anime.json, colum: x}")
    assert answer.code == 2
    assert "did you mean column?" in answer.err


@pytest.mark.parametrize("name", [name for name in prompts.names() if f"{name}-unseen" in prompts.names()])
def test_a_shipped_sets_held_out_split_is_disjoint(name, tmp_path):
    seen, unseen = (prompts.read(one, tmp_path) for one in (name, f"{name}-unseen"))
    assert not set(seen) & set(unseen)
    labels = load_labels()
    animals = {read_prompt(prompt, labels, "test").animal for prompt in seen}
    assert not animals & {read_prompt(prompt, labels, "test").animal for prompt in unseen}, "no animal is in both"


@pytest.mark.parametrize("name", ["animals-uncommon", "objects"])
def test_ddpos_unseen_are_not_among_its_training_prompts(name, tmp_path):
    assert not set(prompts.read(name, tmp_path)) & set(prompts.read("animals", tmp_path))
