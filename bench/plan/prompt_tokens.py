"""The tokens that the model reads of each prompt: which prompts are cut, and which have the same tokens.

A text encoder reads a limited number of tokens and ignores the rest of a longer prompt. Prompts that differ only there,
or only in what the tokenizer drops (capitals, spaces), get the same embedding: to the model they are one prompt, and if
one of them were held out, it would be trained on all the same.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from bench.build.plugins import names_family
from bench.errors import BenchError, InvalidSweepError
from bench.sweep.load import LoadedSweep
from bench.sweep.problems import dotted, problem
from bench.sweep.yaml_source import Path_
from models.loading import MissingModelError, load_text_config, load_tokenizer, token_limit

Splits = dict[Path_, tuple[str, ...]]
"""Prompts by their path in the sweep: `("prompts", "heldout")`."""

CACHED_CALLS = 8
"""Calls of `tokens_of` whose results are cached, as a run plans a sweep several times."""


@dataclass(frozen=True)
class PromptTokens:
    """The tokens that the model reads of each prompt.

    Attributes:
        limit: the number of tokens that the text encoder reads, start and end tokens included.
        tokens: prompt -> the `limit` tokens that are read, padded.
        lengths: prompt -> the number of tokens before it is cut.
    """

    limit: int
    tokens: dict[str, tuple[int, ...]]
    lengths: dict[str, int]

    def is_cut(self, prompt: str) -> bool:
        return self.lengths[prompt] > self.limit


def check_tokens(loaded: LoadedSweep, model: str, digest: str, splits: Splits) -> list[str]:
    """Warnings about prompts that the model cuts, or cannot tell from one another: a sentence for each kind and split.

    Args:
        loaded: the sweep, for the places of problems.
        model: a folder or a hub id, as `models.loading.find_model` takes it; of a family of one's own, nobody knows
            what it reads of a prompt, and nothing is checked.
        digest: the model's hash (`models.loading.model_hash`).
        splits: the prompts of each split; no prompt is in two of them.

    Raises:
        BenchError: the tokenizer cannot be read, or prompts of two splits have the same tokens.
    """
    if names_family(model):
        return []
    prompts = tuple(dict.fromkeys(prompt for split in splits.values() for prompt in split))
    read = tokens_of(model, digest, prompts)
    if read is None:  # the files of a hub model have not been fetched yet
        return []
    _refuse_overlap(loaded, splits, read)
    return [f"{dotted(path)}: {sentence}" for path, split in splits.items() for sentence in _warnings(split, read)]


@lru_cache(maxsize=CACHED_CALLS)
def tokens_of(model: str, digest: str, prompts: tuple[str, ...]) -> PromptTokens | None:
    """The tokens that the model reads of distinct prompts; None if its tokenizer has not been fetched yet.

    The empty prompt is added: a prompt without a known word has the same tokens.
    """
    loaded = _tokenizer(model, digest)
    if loaded is None:
        return None
    tokenizer, limit, vocabulary = loaded
    texts = list(dict.fromkeys(("", *prompts)))
    whole = dict(zip(texts, tokenizer(texts, verbose=False).input_ids, strict=True))
    # The tokenizer's own truncation keeps the end token; only prompts that are cut go through it a second time.
    long = [text for text in texts if len(whole[text]) > limit]
    cut = tokenizer(long, truncation=True, max_length=limit).input_ids if long else []
    read = whole | dict(zip(long, cut, strict=True))
    used = max(tokenizer.pad_token_id, *(token for ids in read.values() for token in ids))
    if used >= vocabulary:
        token = tokenizer.convert_ids_to_tokens(used)
        text = f"its tokenizer's {token!r} is token {used}, and its text encoder knows {vocabulary:,}"
        raise BenchError(f"model {model}: {text}; they are of different models, or the text encoder was not resized")
    lengths = {text: len(ids) for text, ids in whole.items()}
    return PromptTokens(limit, {text: _padded(tokenizer, ids, limit) for text, ids in read.items()}, lengths)


def _padded(tokenizer: Any, ids: list[int], limit: int) -> tuple[int, ...]:
    padding = (tokenizer.pad_token_id,) * (limit - len(ids))
    return (*padding, *ids) if tokenizer.padding_side == "left" else (*ids, *padding)


@lru_cache(maxsize=CACHED_CALLS)
def _tokenizer(model: str, digest: str) -> tuple[Any, int, int] | None:
    """The tokenizer, the text encoder's limit, and the size of its vocabulary; None if they have not been fetched yet.

    The hash is an argument because the cache must not outlive a model that is written anew to the same folder.
    """
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


def _refuse_overlap(loaded: LoadedSweep, splits: Splits, read: PromptTokens) -> None:
    """Raises `InvalidSweepError` if prompts of two splits have the same tokens."""
    first: dict[tuple[int, ...], tuple[Path_, str]] = {}
    for path, prompts in splits.items():
        for prompt in prompts:
            place, other = first.setdefault(read.tokens[prompt], (path, prompt))
            if place == path or other == prompt:
                continue
            text = f"{_shown(prompt)} has the same tokens as {_shown(other)} in {dotted(place)}"
            if read.is_cut(prompt) or read.is_cut(other):
                cut = sum(read.is_cut(prompt) for split in splits.values() for prompt in split)
                text += f", as the model reads {read.limit} tokens of a prompt and {cut:,} are longer"
            text += "; no prompt may be in both, so change one or leave it out"
            raise InvalidSweepError([problem(loaded.root, path, text)])


def _warnings(prompts: tuple[str, ...], read: PromptTokens) -> list[str]:
    """A sentence on the prompts that are cut, one on those with equal tokens, one on those without a known word."""
    warnings = []
    cut = [prompt for prompt in prompts if read.is_cut(prompt)]
    if cut:
        longest = max(cut, key=read.lengths.__getitem__)
        warnings.append(
            f"{_count(cut, prompts)} longer than the {read.limit} tokens (start and end included) that the model "
            f"reads, and cut there; {_shown(longest)} has {read.lengths[longest]}"
        )
    first: dict[tuple[int, ...], str] = {}
    equal = [
        (prompt, other) for prompt in prompts if (other := first.setdefault(read.tokens[prompt], prompt)) != prompt
    ]
    if equal:
        warnings.append(
            f"{_count(equal, prompts)} the same to the model as an earlier one: "
            f"{_shown(equal[0][0])} has the same tokens as {_shown(equal[0][1])}"
        )
    empty = [prompt for prompt in prompts if read.tokens[prompt] == read.tokens[""]]
    if empty:
        warnings.append(
            f"{_count(empty, prompts)} the same to the model as no prompt, as it knows no word of {_shown(empty[0])}"
        )
    return warnings


def _count(some: list[Any], every: tuple[str, ...]) -> str:
    return f"{len(some):,} of {len(every):,} prompts {'is' if len(some) == 1 else 'are'}"


def _shown(prompt: str) -> str:
    """A prompt for a message; a long one is shown by its beginning and its end, as cut prompts differ at the end."""
    return repr(prompt if len(prompt) <= 60 else f"{prompt[:30]} … {prompt[-25:]}")
