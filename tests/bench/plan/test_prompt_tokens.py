"""What the model reads of the prompts, and what is said of it before a run."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.errors import BenchError, InvalidSweepError
from bench.plan.planner import Planner
from bench.plan.prompt_tokens import tokens_of
from bench.sweep.load import load_sweep
from models.loading import load_components, load_text_config, load_tokenizer, token_limit
from tests.bench.planned import plan
from tests.models.changed import changed

# The tiny model reads 8 tokens, two of them marks, and knows letters: "a cat" is four.


@pytest.fixture
def said(sweep_file):
    """The warnings of a sweep with those prompts."""

    def planned(train, heldout=None, *more):
        changes = [f"prompts.train={json.dumps(train)}", f"prompts.heldout={json.dumps(heldout)}", *more]
        return list(Planner(load_sweep(sweep_file, None, changes)).warnings)

    return planned


@pytest.fixture
def model(tiny_model, tmp_path):
    """A copy of the tiny model that a test may change."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def change(file: Path, **values) -> None:
    """Sets keys of a JSON file; None removes one."""
    content = json.loads(file.read_text()) | values
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


@pytest.mark.parametrize("sides", [{}, {"padding_side": "left"}, {"truncation_side": "left"}])
def test_the_tokens_are_those_that_the_policy_feeds(sides, model):
    change(model / "tokenizer" / "tokenizer_config.json", **sides)
    parts = load_components(str(model))
    limit = token_limit(parts.tokenizer, parts.text_encoder.config)
    prompts = ("a cat", "a cat a dog", "a", "A  Cat", "1984", "<|endoftext|> a", "ein Füchslein, das springt")
    found = tokens_of(str(model), str(sides), prompts)
    fed = {
        prompt: tuple(parts.tokenizer(prompt, padding="max_length", truncation=True, max_length=limit).input_ids)
        for prompt in ("", *prompts)
    }
    assert found.tokens == fed
    assert (found.limit, found.lengths["a cat"], found.lengths["a cat a dog"]) == (8, 6, 10)


def test_nothing_is_said_of_prompts_that_fit(said):
    assert said(["a cat", "a dog"], ["a fox"]) == []


def test_prompts_that_are_cut_and_become_one(said):
    assert said(["a cat a cat", "a dog", "a cat a cow"], ["two dogs"]) == [
        "prompts.train: 2 of 3 prompts are longer than the 8 tokens (start and end included) that the model reads, "
        "and cut there; 'a cat a cat' has 10",
        "prompts.train: 1 of 3 prompts is the same to the model as an earlier one: "
        "'a cat a cow' has the same tokens as 'a cat a cat'",
        "prompts.heldout: 1 of 1 prompts is longer than the 8 tokens (start and end included) that the model reads, "
        "and cut there; 'two dogs' has 9",
    ]


@pytest.mark.parametrize("same", ["A cat", "a  cat", "a\tcat", "a cat <|endoftext|>", "a\u00a0cat"])
def test_prompts_with_the_same_tokens(same, said):
    (told,) = said(["a cat", "a dog", same])
    assert told.startswith("prompts.train: 1 of 3 prompts is the same to the model as an earlier one: ")
    with pytest.raises(
        InvalidSweepError, match=r"prompts\.heldout: .* has the same tokens as 'a cat' in prompts.train"
    ):
        said(["a cat", "a dog"], [same])


def test_composed_and_decomposed_letters_are_the_same(said):
    (told,) = said(["u\u0308", "\u00fc"], None, "model=emoji-v1", "methods=[{name: base}]")
    assert "1 of 2 prompts is the same to the model" in told


def test_a_prompt_without_a_known_word(said):
    (told,) = said(["a cat", "1984"])
    assert told == "prompts.train: 1 of 2 prompts is the same to the model as no prompt, as it knows no word of '1984'"


def test_a_held_out_prompt_that_becomes_a_training_one_is_refused(cli, sweep_file, tmp_path):
    text = sweep_file.read_text().replace("[a cat, a dog, a fox]", "[a dog, a cat a cat]")
    sweep_file.write_text(text.replace("[two dogs]", "[a fox, a cat a cow]"))
    for line in (("plan",), ("run", "--executor", "inline", "--out", tmp_path / "run")):
        answer = cli(line[0], sweep_file, *line[1:])
        assert answer.code == 2, answer.err
        assert answer.err == (
            "error: tiny.yaml:7: prompts.heldout: 'a cat a cow' has the same tokens as 'a cat a cat' in prompts.train, "
            "as the model reads 8 tokens of a prompt and 2 are longer; "
            "no prompt may be in both, so change one or leave it out\n"
        )
    assert not (tmp_path / "run").exists()


def test_of_long_prompts_both_ends_are_shown(said):
    with pytest.raises(InvalidSweepError) as caught:
        said([f"a cat {'and ' * 99}a dog"], [f"a cat {'and ' * 99}a fox"])
    (line,) = caught.value.lines()
    assert "and a fox' has the same tokens as 'a cat and" in line
    assert line.endswith("; no prompt may be in both, so change one or leave it out")


TUNED = "search={algorithm: random, samples: 1, seeds: [9], untuned: [alignprop], space: {ddpo: {clip_range: [1e-4]}}}"


@pytest.mark.parametrize(
    ("tuned", "words"),
    [
        ("{train: [A dog]}", "search.prompts.train: 'A dog' has the same tokens as 'a dog' in prompts.train"),
        ("{train: [A fox]}", "search.prompts.train: 'A fox' has the same tokens as 'a fox' in prompts.heldout"),
        ("{train: [two], heldout: [Two]}", "search.prompts.heldout: 'Two' has the same tokens as 'two' in search."),
        ("{train: [two], heldout: [two]}", "search.prompts.heldout: 'two' is a training prompt too"),
    ],
)
@pytest.mark.parametrize("verb", ["plan", "run"])
def test_prompts_of_tuning_that_are_compared_too(verb, tuned, words, cli, sweep_file, tmp_path):
    sets = (TUNED, "prompts={train: [a cat, a dog], heldout: [a fox]}", f"search.prompts={tuned}")
    options = [part for each in sets for part in ("--set", each)]
    answer = cli(verb, sweep_file, *options, "--out", tmp_path / "run")
    assert answer.code == 2, answer.out
    assert words in answer.err


def test_what_is_said_stays_with_the_run(cli, sweep_file, tmp_path):
    told = "prompts.train: 1 of 2 prompts is the same to the model as an earlier one: "
    told += "'A cat' has the same tokens as 'a cat'"
    chosen = ("--set", "prompts={train: [a cat, A cat]}", "--set", "methods=[{name: base}]", "--set", "seeds=[0]")
    answer = cli("run", sweep_file, *chosen, "--executor", "inline", "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    assert answer.err.splitlines().count(f"warning: {told}") == 1
    assert json.loads((tmp_path / "run" / "plan.json").read_text())["warnings"] == [told]
    assert told in (tmp_path / "run" / "report" / "report.md").read_text()


def test_fewer_positions_than_the_tokenizer_says_or_a_tokenizer_that_says_nothing(model, sweep_file):
    change(model / "tokenizer" / "tokenizer_config.json", model_max_length=None)
    loaded = load_sweep(sweep_file, None, [f"model={model}", "prompts.heldout=null", "prompts.train=[a cat a cat]"])
    assert load_tokenizer(str(model)).model_max_length > 1e20
    assert "longer than the 8 tokens" in Planner(loaded).warnings[0]
    change(model / "tokenizer" / "tokenizer_config.json", model_max_length=99)
    assert "longer than the 8 tokens" in Planner(loaded).warnings[0]
    change(model / "tokenizer" / "tokenizer_config.json", model_max_length=7)
    assert "longer than the 7 tokens" in Planner(loaded).warnings[0], "the folder was written anew"


def test_the_limit_is_the_smaller_of_two():
    for said, positions, limit in ((77, 77, 77), (int(1e30), 77, 77), (77, 248, 77), (248, 77, 77)):
        found = token_limit(SimpleNamespace(model_max_length=said), SimpleNamespace(max_position_embeddings=positions))
        assert found == limit


def test_a_folder_whose_tokenizer_has_no_vocabulary_is_refused(model, sweep_file):
    loaded = load_sweep(sweep_file, None, [f"model={model}"])
    (model / "tokenizer" / "tokenizer.json").write_text("{")
    with pytest.raises(InvalidSweepError, match=r"model: model .*: its tokenizer cannot be read"):
        plan(loaded)
    for file in ("tokenizer.json", "vocab.json", "merges.txt"):
        (model / "tokenizer" / file).unlink(missing_ok=True)
    with pytest.raises(InvalidSweepError, match=r"model: model .*: its tokenizer has no vocab.json and no merges.txt"):
        plan(loaded)


def test_a_hub_model_says_nothing_until_it_is_fetched(model, monkeypatch, tmp_path):
    cache = tmp_path / "hub" / "models--somebody--tiny"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    assert tokens_of("somebody/tiny", "before", ("a cat",)) is None
    assert load_text_config("somebody/tiny") is None
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text("0123")
    shutil.copytree(model, cache / "snapshots" / "0123")
    found = tokens_of("somebody/tiny", "after", ("a cat", "A cat"))
    assert found.limit == 8
    assert found.tokens["a cat"] == found.tokens["A cat"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model_max_length": "77"}, "model_max_length is '77' in tokenizer/tokenizer_config.json"),
        ({"model_max_length": 2}, "model_max_length is 2 .* at least 3"),
        ({"pad_token": "!"}, "'!' is token 59, and its text encoder knows 59"),
    ],
)
def test_a_tokenizer_that_cannot_serve_the_text_encoder_is_refused(values, words, tiny_model, sweep_file, tmp_path):
    model = changed(tiny_model, tmp_path / "model", "tokenizer/tokenizer_config.json", **values)
    with pytest.raises(BenchError, match=words):
        Planner(load_sweep(sweep_file, overrides=[f"model={model}"]))


def test_a_tokenizer_without_padding_is_refused(tiny_model, sweep_file, tmp_path):
    model = shutil.copytree(tiny_model, tmp_path / "model")
    path = model / "tokenizer/tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "pad_token": None}))
    with pytest.raises(BenchError, match="has no pad_token"):
        Planner(load_sweep(sweep_file, overrides=[f"model={model}"]))
