"""Writes a CLIP tokenizer whose vocabulary is learned from the captions."""

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer

from models.emoji.networks import TOKENS
from models.emoji.vocabulary import ANIMALS, COLOURS, COUNTS, caption

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"


def every_caption() -> list[str]:
    """All captions that scenes can have."""
    colours = (None, *COLOURS)
    return [
        caption(animal, count, colour)
        for animal in ANIMALS
        for count in range(1, len(COUNTS) + 1)
        for colour in colours
    ]


def learn_merges(captions: list[str]) -> list[tuple[str, str]]:
    """The byte-pair merges, in order, that turn each word of the captions into one token."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix=WORD_END))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(vocab_size=10_000, end_of_word_suffix=WORD_END, show_progress=False)
    tokenizer.train_from_iterator(captions, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    pairs = (pair.split(" ") if isinstance(pair, str) else pair for pair in merges)  # strings before tokenizers 0.20
    return [(first, second) for first, second in pairs]


def write_tokenizer(folder: Path) -> CLIPTokenizer:
    """Writes the tokenizer's files to `folder` and returns the tokenizer.

    transformers 5 saves `tokenizer.json` only, earlier versions read `vocab.json` and `merges.txt`, so all three are
    written. As in CLIP, the vocabulary holds each byte, each byte at the end of a word, the merges and the two markers,
    so that any text can be encoded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    merges = learn_merges(every_caption())
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*alphabet, *(byte + WORD_END for byte in alphabet), *(a + b for a, b in merges), BEGIN, END]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise AssertionError("a merge repeats a token")
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    lines = ["#version: 0.2", *(f"{a} {b}" for a, b in merges)]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=TOKENS)
    tokenizer.save_pretrained(folder)
    return tokenizer
