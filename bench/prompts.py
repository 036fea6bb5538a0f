"""Prompt sets: `animals`, a text file beside the sweep, or a list in the sweep itself.

A set is a text file in `prompt_sets/`, a prompt a line; lines that begin with `#` say where it is from.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from bench.errors import BenchError
from bench.overlay import suggestion
from bench.prompt_files import read_prompt_file
from bench.sweep import PromptFile

FOLDER = Path(__file__).parent / "prompt_sets"
MAX_BYTES = 4 * 1024 * 1024


def names() -> list[str]:
    """Names of the sets that ship with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.txt"))


def summary(name: str) -> str:
    """The comment that a set begins with."""
    first = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()[0]
    return first.lstrip("# ")


def read(source: str | Sequence[str] | PromptFile, base: Path) -> tuple[str, ...]:
    """The prompts of a set's name, of a file (relative to `base`), or of a list.

    Raises:
        BenchError: there is no such set or file, it holds no prompt, or one twice.
    """
    if isinstance(source, str):
        prompts = _read_file(_find(source, base))
        what = source
    elif isinstance(source, PromptFile):
        prompts, what = read_prompt_file(source, base), source.file
    else:
        prompts, what = [prompt.strip() for prompt in source], "the list"
    if not prompts:
        raise BenchError(f"{what} holds no prompts")
    seen: set[str] = set()
    for index, prompt in enumerate(prompts):
        if not prompt:
            raise BenchError(f"{what} has an empty prompt (number {index + 1})")
        if prompt in seen:
            raise BenchError(f"the prompt {prompt!r} appears twice in {what}")
        seen.add(prompt)
    return tuple(prompts)


def prompts_hash(prompts: Sequence[str]) -> str:
    """SHA-256 of the prompts in their order."""
    return hashlib.sha256("\n".join(prompts).encode()).hexdigest()


def _find(source: str, base: Path) -> Path:
    if source in names():
        return FOLDER / f"{source}.txt"
    path = Path(source).expanduser()
    path = path if path.is_absolute() else base / path
    if path.is_file():
        return path
    hint = suggestion(source, names()) or f"there are {', '.join(names())}; or give a text file or a list"
    raise BenchError(f"there is no prompt set or text file {source!r}; {hint}")


def _read_file(path: Path) -> list[str]:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BenchError(f"the prompt file {path.name} is larger than {MAX_BYTES:,} bytes")
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BenchError(f"the prompt file {path.name} is not text in UTF-8") from None
    except OSError as error:
        raise BenchError(f"the prompt file {path.name} cannot be read ({error.strerror})") from None
    lines = (line.strip() for line in text.splitlines())
    return [line for line in lines if line and not line.startswith("#")]


def spread(prompts: Sequence[str], count: int | None) -> tuple[str, ...]:
    """At most `count` of `prompts`, evenly spread, in order; all of them for None."""
    if count is None or len(prompts) <= count:
        return tuple(prompts)
    return tuple(prompts[index * len(prompts) // count] for index in range(count))
