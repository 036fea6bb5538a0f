"""What the model reads of the prompts: those that it cuts, and those that are the same tokens to it.

A text encoder has a number of positions, and what a prompt has beyond them is never read. Prompts that differ there
alone, or in what the tokenizer drops (capitals, spaces), get one embedding: they are one prompt to the model, and a
held-out one among them would be trained on.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from bench.errors import BenchError, InvalidSweepError
from bench.sweep.load import LoadedSweep
from bench.sweep.problems import dotted, problem
from bench.sweep.yaml_source import Path_
from models.loading import MissingModelError, load_text_config, load_tokenizer, token_limit

Splits = dict[Path_, tuple[str, ...]]
"""Prompts by their place in the sweep: `("prompts", "heldout")`."""

REMEMBERED = 8
"""Lists of prompts whose tokens are kept: a run plans a sweep several times."""


@dataclass(frozen=True)
class Reading:
    """Prompts as the model reads them.

    Attributes:
        limit: tokens that the text encoder reads of a prompt, the marks of start and end included.
        tokens: what it reads, by prompt: `limit` of them, padded.
        lengths: tokens of the whole prompt, by prompt.
    """

    limit: int
    tokens: dict[str, tuple[int, ...]]
    lengths: dict[str, int]

    def is_cut(self, prompt: str) -> bool:
        return self.lengths[prompt] > self.limit


def check_tokens(loaded: LoadedSweep, model: str, digest: str, splits: Splits) -> list[str]:
    """What a reader of the numbers must know of how the model reads the prompts, a sentence each.

    Args:
        loaded: the sweep, for the places of problems.
        model: a folder or a hub id, as `models.loading.find_model` gives it.
        digest: its hash (`models.loading.model_hash`).
        splits: no prompt of one is in another.

    Raises:
        BenchError: the tokenizer cannot be read, or prompts of two splits are the same tokens.
    """
    every = tuple(dict.fromkeys(prompt for prompts in splits.values() for prompt in prompts))
    found = reading(model, digest, every)
    if found is None:  # a hub model whose files are yet to be fetched
        return []
    _refuse_overlap(loaded, splits, found)
    said = []
    for path, prompts in splits.items():
        said += [f"{dotted(path)}: {sentence}" for sentence in _told(prompts, found)]
    return said


@lru_cache(maxsize=REMEMBERED)
def reading(model: str, digest: str, prompts: tuple[str, ...]) -> Reading | None:
    """How the model reads distinct prompts; None where its tokenizer is not on this machine yet."""
    loaded = _tokenizer(model, digest)
    if loaded is None:
        return None
    tokenizer, limit, known = loaded
    # The empty prompt is what is read of a prompt without one known word.
    texts = list(dict.fromkeys(("", *prompts)))
    whole = dict(zip(texts, tokenizer(texts, verbose=False).input_ids, strict=True))
    # Truncation is the tokenizer's own, which keeps the end mark; only what is cut goes through it a second time.
    long = [text for text in texts if len(whole[text]) > limit]
    cut = tokenizer(long, truncation=True, max_length=limit).input_ids if long else []
    read = whole | dict(zip(long, cut, strict=True))
    used = max(tokenizer.pad_token_id, *(token for ids in read.values() for token in ids))
    if used >= known:
        token = tokenizer.convert_ids_to_tokens(used)
        text = f"its tokenizer's {token!r} is token {used}, and its text encoder knows {known:,}"
        raise BenchError(f"model {model}: {text}; they are of different models, or the text encoder was not resized")
    lengths = {text: len(ids) for text, ids in whole.items()}
    return Reading(limit, {text: _padded(tokenizer, ids, limit) for text, ids in read.items()}, lengths)


def _padded(tokenizer: Any, ids: list[int], limit: int) -> tuple[int, ...]:
    padding = (tokenizer.pad_token_id,) * (limit - len(ids))
    return (*padding, *ids) if tokenizer.padding_side == "left" else (*ids, *padding)


@lru_cache(maxsize=REMEMBERED)
def _tokenizer(model: str, digest: str) -> tuple[Any, int, int] | None:
    """The tokenizer, its limit, how many tokens the encoder knows; by the hash too, as a folder may be written anew."""
    try:
        tokenizer = load_tokenizer(model)
        config = load_text_config(model)
    except MissingModelError as error:
        raise BenchError(str(error)) from None
    return (
        None
        if tokenizer is None or config is None
        else (
            tokenizer,
            token_limit(tokenizer, config),
            config.vocab_size,
        )
    )


def _refuse_overlap(loaded: LoadedSweep, splits: Splits, found: Reading) -> None:
    first: dict[tuple[int, ...], tuple[Path_, str]] = {}
    for path, prompts in splits.items():
        for prompt in prompts:
            place, other = first.setdefault(found.tokens[prompt], (path, prompt))
            if place == path or other == prompt:
                continue
            text = f"{_shown(prompt)} has the same tokens as {_shown(other)} in {dotted(place)}"
            if found.is_cut(prompt) or found.is_cut(other):
                cut = sum(found.is_cut(each) for some in splits.values() for each in some)
                text += f", as the model reads {found.limit} tokens of a prompt and {cut:,} are longer"
            text += "; no prompt may be in both, so change one or leave it out"
            raise InvalidSweepError([problem(loaded.root, path, text)])


def _told(prompts: tuple[str, ...], found: Reading) -> list[str]:
    """A sentence on the prompts that are cut, one on those that are alike."""
    said = []
    cut = [prompt for prompt in prompts if found.is_cut(prompt)]
    if cut:
        longest = max(cut, key=found.lengths.__getitem__)
        said.append(
            f"{_count(cut, prompts)} longer than the {found.limit} tokens (start and end included) that the model "
            f"reads, and cut there; {_shown(longest)} has {found.lengths[longest]}"
        )
    first: dict[tuple[int, ...], str] = {}
    alike = [
        (prompt, other) for prompt in prompts if (other := first.setdefault(found.tokens[prompt], prompt)) != prompt
    ]
    if alike:
        said.append(
            f"{_count(alike, prompts)} the same to the model as an earlier one: "
            f"{_shown(alike[0][0])} has the same tokens as {_shown(alike[0][1])}"
        )
    empty = [prompt for prompt in prompts if found.tokens[prompt] == found.tokens[""]]
    if empty:
        said.append(
            f"{_count(empty, prompts)} the same to the model as no prompt, as it knows no word of {_shown(empty[0])}"
        )
    return said


def _count(some: list[Any], every: tuple[str, ...]) -> str:
    return f"{len(some):,} of {len(every):,} prompts {'is' if len(some) == 1 else 'are'}"


def _shown(prompt: str) -> str:
    """A prompt in a sentence; of a long one its beginning and its end, where two that are cut differ."""
    return repr(prompt if len(prompt) <= 60 else f"{prompt[:30]} … {prompt[-25:]}")
