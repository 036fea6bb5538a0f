"""Prompt sets: `animals`, a file beside the sweep (`bench/sweep/prompt_files.py`), or a list in the sweep itself.

A set is a text file in `prompt_sets/`, a prompt a line; lines that begin with `#` say where it is from. They do so in
the sets alone: in somebody's own file such a line is a prompt.
"""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from bench.errors import BenchError
from bench.sweep.overlay import suggestion
from bench.sweep.prompt_files import Tell, is_there, local_path, read_prompt_file, spread
from bench.sweep.schema import PromptFile

__all__ = ["names", "prompts_hash", "read", "spread", "summary"]

FOLDER = Path(__file__).parent / "prompt_sets"


def names() -> list[str]:
    """Names of the sets that ship with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.txt"))


def summary(name: str) -> str:
    """The comment that a set begins with."""
    first = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()[0]
    return first.lstrip("# ")


def read(source: str | Sequence[str] | PromptFile, base: Path, tell: Tell = lambda sentence: None) -> tuple[str, ...]:
    """The prompts of a set's name, of a file (relative to `base`), or of a list.

    Args:
        source: as a sweep names them.
        base: the folder of the sweep.
        tell: is given what a reader must know of a file, a sentence each.

    Raises:
        BenchError: there is no such set or file, it cannot be read, it holds no prompt, or a list holds one twice.
    """
    if isinstance(source, str):
        prompts, what = _named(source, base, tell), source
    elif isinstance(source, PromptFile):
        prompts, what = read_prompt_file(source, base, tell), source.file
    else:
        prompts, what = [prompt.strip() for prompt in source], "the list"
    if not prompts:
        raise BenchError(f"{what} holds no prompts")
    seen: set[str] = set()
    for index, prompt in enumerate(prompts):
        if not prompt:
            raise BenchError(f"{what} has an empty prompt (number {index + 1})")
        if re.search("[\ud800-\udfff]", prompt):  # JSON and YAML can write them; nothing can store them
            raise BenchError(f"the prompt {prompt!r} in {what} holds half of a character (\\ud800 to \\udfff)")
        if prompt in seen:
            raise BenchError(f"the prompt {prompt!r} appears twice in {what}")
        seen.add(prompt)
    return tuple(prompts)


def prompts_hash(prompts: Sequence[str]) -> str:
    """SHA-256 of the prompts in their order."""
    return hashlib.sha256("\n".join(prompts).encode()).hexdigest()


def _named(source: str, base: Path, tell: Tell) -> list[str]:
    if source in names():
        lines = (FOLDER / f"{source}.txt").read_text(encoding="utf-8").splitlines()
        return [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if is_there(local_path(source, base)) or set(source) & set("/\\"):
        return read_prompt_file(PromptFile(file=source), base, tell)
    hint = suggestion(source, names()) or (
        f"there are {', '.join(names())}; or give a file, or a list: a prompt of its own is [{source}]"
    )
    raise BenchError(f"there is no prompt set or text file {source!r}; {hint}")
