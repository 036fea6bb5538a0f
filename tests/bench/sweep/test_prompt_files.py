"""Prompts from other people's files, and the sets that ship."""

import json
import re

import pandas as pd
import pytest

from bench.errors import BenchError
from bench.plan.planner import resolved_sweep
from bench.store.run_folder import RunFolder
from bench.sweep import prompts
from bench.sweep.load import load_sweep
from bench.sweep.prompt_files import read_prompt_file
from bench.sweep.schema import PromptFile
from rewards.emoji.labels import load_labels
from rewards.emoji.prompt import read_prompt
from tests.bench.planned import plan

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


LOOK_ALIKES = ("None", "NA", "nan", "null", "true", "1984", "007", "1e5", "1_000", "2024-01-31", "-", "#1 dog", "=1+1")
"""Prompts that a reader of tables takes for something else."""

HARD = ("a cat", "a dog, brown", "ein Füchslein", "#1 dog", 'a "red" hat', "two dogs; one cat")


def content_of(kind: str, prompts) -> bytes:
    """A file of that kind, as other programs write it."""
    if kind == "parquet":
        return pd.DataFrame({"prompt": prompts}).to_parquet()
    text = {
        "txt": lambda: "\n".join(prompts),
        "json": lambda: json.dumps(prompts, ensure_ascii=False),
        "jsonl": lambda: "\n".join(json.dumps({"prompt": prompt}) for prompt in prompts) + "\n",
        "csv": lambda: pd.DataFrame({"n": range(len(prompts)), "prompt": prompts}).to_csv(index=False),
        "tsv": lambda: pd.DataFrame({"prompt": prompts}).to_csv(index=False, sep="\t"),
    }[kind]()
    return text.encode()


KINDS = ("txt", "json", "jsonl", "csv", "tsv", "parquet")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wanted", [LOOK_ALIKES, HARD], ids=["look-alikes", "hard"])
def test_a_plain_name_and_a_mapping_read_every_kind_alike(kind, wanted, tmp_path):
    for name in (f"a b.{kind}", f"A.{kind.upper()}"):
        (tmp_path / name).write_bytes(content_of(kind, wanted))
        told = []
        assert prompts.read(name, tmp_path, told.append) == wanted
        assert prompts.read(str(tmp_path / name), tmp_path / "elsewhere") == wanted
        assert prompts.read(PromptFile(file=name), tmp_path) == wanted
        assert not [sentence for sentence in told if "#" not in sentence]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "parquet"])
def test_byte_order_marks_and_line_ends_of_windows(kind, tmp_path):
    text, path = content_of(kind, HARD).decode(), tmp_path / f"a.{kind}"
    for encoding in ("utf-8-sig", "utf-16"):
        for ends in ("\n", "\r\n"):
            path.write_bytes(text.replace("\n", ends).encode(encoding))
            assert prompts.read(path.name, tmp_path) == HARD, (encoding, ends)


def test_the_endings_that_name_the_same_kinds(tmp_path):
    for name, kind in {"a.ndjson": "jsonl", "a.prompts": "txt", "words": "txt"}.items():
        (tmp_path / name).write_bytes(content_of(kind, HARD))
        assert prompts.read(name, tmp_path) == HARD
    (tmp_path / "link.csv").symlink_to(tmp_path / "0123abcd")  # as the hub's cache keeps them
    (tmp_path / "0123abcd").write_bytes(content_of("csv", HARD))
    assert prompts.read("link.csv", tmp_path) == HARD


def test_semicolons_of_spreadsheets(tmp_path):
    (tmp_path / "a.csv").write_text('number;Prompt\n1;"a cat; sitting"\n2;a dog, brown\n')
    assert prompts.read("a.csv", tmp_path) == ("a cat; sitting", "a dog, brown")


def test_a_parquet_table_whose_rows_were_chosen_from_a_larger_one(tmp_path):
    table = pd.DataFrame({"prompt": ["a cat", "a dog", "a fox"]})
    table[table.prompt != "a dog"].to_parquet(tmp_path / "a.parquet")
    assert prompts.read("a.parquet", tmp_path) == ("a cat", "a fox")


def test_a_prompt_of_two_lines_in_quotes(tmp_path):
    (tmp_path / "a.csv").write_text('prompt\n"a cat\nsitting"\n')
    assert prompts.read("a.csv", tmp_path) == ("a cat\nsitting",)
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "a\u2028cat"}, ensure_ascii=False), encoding="utf-8")
    assert prompts.read("a.jsonl", tmp_path) == ("a\u2028cat",)


@pytest.mark.parametrize(
    ("name", "content", "wanted", "words"),
    [
        ("a.txt", "a\nb\na\na\n", ("a", "b"), "a.txt: 2 of its 4 prompts repeat an earlier one, and are left out"),
        ("a.json", '["a", " a"]', ("a",), "a.json: 1 of its 2 prompts repeat an earlier one"),
        ("a.csv", 'n,prompt\n1,a\n2,\n3," "\n4\n', ("a",), "a.csv: 3 of its 4 rows hold no prompt, and are left out"),
        ("a.jsonl", '{"prompt": null}\n\n{"prompt": "a"}\n{"n": 1}', ("a",), "a.jsonl: 2 of its 3 rows hold no prompt"),
        ("a.txt", "# mine\na\n", ("# mine", "a"), "1 line begins with # and is a prompt like any other"),
        ("a.txt", "#1\na\n##2\n", ("#1", "a", "##2"), "2 lines begin with # and are prompts like any other"),
        ("a.txt", "prompt,id\na,1\n", ("prompt,id", "a,1"), "begins as a table or JSON does: 'prompt,id' is a prompt"),
        ("a.txt", '{"prompt": "a"}\n', ('{"prompt": "a"}',), "begins as a table or JSON does"),
        ("a.txt", "a cat, text\na text\n", ("a cat, text", "a text"), ""),
    ],
)
def test_what_is_told_of_a_file(name, content, wanted, words, tmp_path):
    (tmp_path / name).write_text(content)
    told = []
    assert prompts.read(name, tmp_path, told.append) == wanted
    assert words in "\n".join(told)
    assert len(told) == bool(words)


def test_the_sets_that_ship_keep_their_comments(tmp_path):
    (tmp_path / "animals").write_text("# mine\na bee\n")
    found = prompts.read("animals", tmp_path)
    assert len(found) == 45
    assert found[:2] == ("a cat", "a dog")
    assert prompts.prompts_hash(found) == "d07e49317eda4d341518f5704cf67d1a0b91ebe34d0730ea10dd6ec9203c92c3"
    assert prompts.summary("animals").startswith("The 45 common animals")


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
        ("a.csv", "a,b\n1,2\n", {}, "which column of a.csv holds the prompts? it has a, b; give `column:`"),
        ("a.csv", "prompt,b\nx,2\n", {"column": "promt"}, "a.csv has no column 'promt'; did you mean prompt?"),
        ("a.json", "{", {}, "the prompt file a.json cannot be read: JSONDecodeError"),
        ("a.json", "{}", {}, "expected a list of prompts or of objects"),
        ("a.json", '{"prompts": ["a"]}', {}, "in a.json, got an object with the keys prompts"),
        ("a.json", '{"prompt": "a"}\n{"prompt": "b"}', {}, "name a file with an object a line .jsonl"),
        ("a.json", '["a", 1984]', {}, "item 2 of a.json is 1984, a number; expected a prompt in quotes"),
        ("a.json", '[null, "a"]', {}, "item 1 of a.json is None, no text; expected a prompt in quotes"),
        ("a.json", '["a", ["b"]]', {}, "item 2 of a.json is ['b'], a list"),
        ("a.json", '[{"prompt": "a"}, "b"]', {}, "item 2 of a.json is 'b', text; expected an object"),
        (
            "a.json",
            '[{"prompt": "a"}, {"prompt": 1984}]',
            {},
            "row 2 of a.json holds 1984, a number, where a prompt is",
        ),
        ("a.json", '[{"prompt": true}]', {}, "row 1 of a.json holds True, no text"),
        ("a.json", "[" * 100_000, {}, "the prompt file a.json cannot be read: RecursionError"),
        ("a.jsonl", '{"prompt": "a"}\n{"prompt"\n', {}, "line 2 of a.jsonl is not JSON"),
        ("a.csv", "prompt\na\nb, c\n", {}, "the prompt file a.csv cannot be read: ParserError"),
        ("a.csv", 'prompt\n"a\nb\n', {}, "the prompt file a.csv cannot be read: ParserError"),
        ("a.parquet", "a", {}, "the prompt file a.parquet cannot be read"),
        ("a.txt", "ein Füchslein".encode("latin-1"), {}, "a.txt is not text in UTF-8 (line 1); save it as UTF-8"),
        ("a.csv", "prompt\nein Füchslein".encode("cp1252"), {}, "a.csv is not text in UTF-8 (line 2); save it as"),
        ("a.jsonl", b"\x1f\x8b\x08", {}, "a.jsonl is not text in UTF-8"),
        ("a.txt", b"a\0 \0c\0", {}, "a.txt is not text in UTF-8 (it holds zero bytes)"),
        ("a.csv.gz", b"\x1f\x8b\x08", {}, "a.csv.gz has none of the endings .txt, .json"),
        ("a.yaml", "- a cat\n", {}, "a.yaml has none of the endings .txt, .json"),
        ("a.csv", "Prompts\na cat, sitting\n", {}, "rows of a.csv have more fields than its header; quote prompts"),
        ("a.csv", "a cat\na dog\n", {}, "which column of a.csv holds the prompts? it has a cat"),
        ("a.exe", "", {}, "has none of the endings .txt, .json"),
        ("b.csv", None, {}, "there is no prompt file 'b.csv'"),
    ],
)
def test_what_cannot_be_read(name, content, options, words, tmp_path):
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(BenchError) as caught:
        read(tmp_path, file=name, **options)
    assert words in str(caught.value)
    if content and not options:
        with pytest.raises(BenchError) as caught:
            prompts.read(name, tmp_path)
        assert words in str(caught.value)


def test_half_a_character_is_refused(tmp_path):
    (tmp_path / "a.json").write_text('["a cat \\ud83d"]')
    with pytest.raises(BenchError, match=r"in a.json holds half of a character"):
        prompts.read("a.json", tmp_path)
    (tmp_path / "a.json").write_text('["a cat \\ud83d\\udc08"]')
    assert prompts.read("a.json", tmp_path) == ("a cat 🐈",)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_file_holds_no_prompts(kind, tmp_path):
    for content in (b"", b"\xef\xbb\xbf\n \n") if kind != "parquet" else (content_of("parquet", []),):
        (tmp_path / f"a.{kind}").write_bytes(content)
        with pytest.raises(BenchError, match=f"^a.{kind} holds no prompts$"):
            prompts.read(f"a.{kind}", tmp_path)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("folder", "the prompt file 'folder' is a folder; name a file inside it"),
        ("data\\a.csv", "no prompt file 'data\\\\a.csv'; separate folders by /"),
        ("~nobody-of-that-name/a.csv", "no prompt file '~nobody-of-that-name/a.csv'"),
        ("a cat " * 100, "no prompt set or text file"),
        ("a red cat", "or a list: a prompt of its own is [a red cat]"),
    ],
)
def test_names_that_are_no_files(source, words, tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(BenchError, match=re.escape(words)):
        prompts.read(source, tmp_path)
    with pytest.raises(BenchError, match="prompt file"):
        prompts.read(PromptFile(file=source), tmp_path)


def test_the_home_folder_and_the_stored_sweep(sweep_file, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "0123abcd").write_bytes(content_of("csv", HARD))
    (tmp_path / "home" / "a.csv").symlink_to("0123abcd")
    loaded = load_sweep(sweep_file, None, ["prompts.train=~/a.csv", "prompts.heldout=null"])
    (first, *_) = plan(loaded)
    assert first.prompts_train == HARD
    run = RunFolder(tmp_path / "elsewhere" / "run")
    run.write_plan(resolved_sweep(loaded), [first])
    assert plan(load_sweep(run.sweep_path))[0].key == first.key


def test_a_dataset_that_cannot_be_fetched_is_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(BenchError, match="is not here and cannot be fetched") as caught:
        read(tmp_path, hub="nobody/HPDv2", file="benchmark/anime.json")
    assert "hf download --repo-type dataset nobody/HPDv2 benchmark/anime.json" in caught.value.do


def test_in_a_sweep(cli, sweep_file, tmp_path):
    (tmp_path / "anime.json").write_text(json.dumps(HPD))
    answer = cli("plan", sweep_file, "--set", "prompts.train={file: anime.json}", "--json")
    assert answer.code == 0, answer.err
    told = "warning: prompts.train: anime.json: 1 of its 3 prompts repeat an earlier one, and are left out"
    assert told in answer.err.splitlines()
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
    assert not set(prompts.read(name, tmp_path)) & set(prompts.read("animals-bare", tmp_path))


@pytest.mark.parametrize("split", ["", "-unseen"])
def test_bare_nouns_are_the_embedded_sets_without_their_articles(split, tmp_path):
    bare = prompts.read(f"animals-bare{split}", tmp_path)
    assert [prompt.partition(" ")[2] for prompt in prompts.read(f"animals{split}", tmp_path)] == list(bare)


@pytest.mark.parametrize("name", ["animals-bare", "animals-bare-unseen", "animals-uncommon", "objects"])
def test_prompts_for_models_at_the_papers_scale_have_no_article(name, tmp_path):
    assert not any(prompt.startswith(("a ", "an ")) for prompt in prompts.read(name, tmp_path))


def test_a_column_is_found_despite_spaces_around_its_name(tmp_path):
    (tmp_path / "words.csv").write_text("n, Words \n1,a cat\n")
    assert prompts.read(PromptFile(file="words.csv", column="Words"), tmp_path) == ("a cat",)


def test_a_text_file_has_no_columns(tmp_path):
    (tmp_path / "words.txt").write_text("a cat\n")
    with pytest.raises(BenchError, match=r"words\.txt is read line by line, and has no column 'text'"):
        prompts.read(PromptFile(file="words.txt", column="text"), tmp_path)
