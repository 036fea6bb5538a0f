"""Prompts of a sweep: from a prompt set such as `animals`, a file (`bench/sweep/prompt_files.py`), or a list.

A prompt set is a text file in `prompt_sets/` with one prompt on each line; lines that begin with `#` give its source.
Only prompt sets have such comments: in a user's own file a line that begins with `#` is a prompt.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from bench.errors import BenchError
from bench.sweep.overlay import suggestion
from bench.sweep.prompt_files import Warn, is_there, local_path, read_prompt_file, spread
from bench.sweep.schema import PromptFile

__all__ = ["names", "prompts_hash", "read", "spread", "summary"]

FOLDER = Path(__file__).parent / "prompt_sets"


def names() -> list[str]:
    """Names of the prompt sets that ship with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.txt"))


def summary(name: str) -> str:
    """The first comment line of a prompt set, which describes it."""
    first = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()[0]
    return first.lstrip("# ")


def read(source: str | Sequence[str] | PromptFile, base: Path, warn: Warn = lambda sentence: None) -> tuple[str, ...]:
    """The prompts of a prompt set, a file or a list.

    Args:
        source: the value in the sweep: a set's name, a file's path, its description, or the prompts themselves.
        base: the folder of the sweep, to which a relative path refers.
        warn: called with a sentence for each warning about a file.

    Raises:
        BenchError: there is no such set or file, it cannot be read or holds no prompt, or a list repeats a prompt.
    """
    if isinstance(source, str):
        prompts, what = _named(source, base, warn), source
    elif isinstance(source, PromptFile):
        prompts, what = read_prompt_file(source, base, warn), source.file
    else:
        prompts, what = [prompt.strip() for prompt in source], "the list"
    if not prompts:
        raise BenchError(f"{what} holds no prompts")
    earlier: set[str] = set()
    for index, prompt in enumerate(prompts):
        if not prompt:
            raise BenchError(f"{what} has an empty prompt (number {index + 1})")
        if re.search("[\ud800-\udfff]", prompt):  # JSON and YAML can write them; nothing can store them
            raise BenchError(f"the prompt {prompt!r} in {what} holds half of a character (\\ud800 to \\udfff)")
        if prompt in earlier:
            raise BenchError(f"the prompt {prompt!r} appears twice in {what}")
        earlier.add(prompt)
    return tuple(prompts)


def prompts_hash(prompts: Sequence[str]) -> str:
    """SHA-256 of the prompts in their order."""
    return hashlib.sha256("\n".join(prompts).encode()).hexdigest()


def _named(source: str, base: Path, warn: Warn) -> list[str]:
    if source in names():
        lines = (FOLDER / f"{source}.txt").read_text(encoding="utf-8").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if is_there(local_path(source, base)) or set(source) & set("/\\"):
        return read_prompt_file(PromptFile(file=source), base, warn)
    hint = suggestion(source, names()) or (
        f"there are {', '.join(names())}; or give a file, or a list: a prompt of its own is [{source}]"
    )
    raise BenchError(f"there is no prompt set or text file {source!r}; {hint}")
