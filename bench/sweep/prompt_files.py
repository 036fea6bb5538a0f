"""Prompts in files: a line a prompt, HPD's lists (JSON), DrawBench's table (CSV), any table with a column of prompts.

`prompts: {train: words.txt}`, `{train: {file: drawbench.csv, column: Prompts, limit: 100}}`, or from a dataset
repository on the hub, `{hub: owner/name, file: benchmark/anime.json}`. A file is taken as it is: its name says of which
kind it is, its values are text and never guessed to be numbers or dates, no line is a comment. Repeated prompts are
kept once, rows without a prompt are left out, and both are told.
"""

import codecs
import json
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

from bench.errors import BenchError, cause_of, one_line
from bench.sweep.overlay import suggestion
from bench.sweep.schema import PromptFile

COLUMNS = ("prompt", "prompts", "caption", "text")
"""Names of a column of prompts, in any case, where the sweep names none; the first that is there."""

MAX_BYTES = 256 * 1024 * 1024
WAIT_SECONDS = 10.0

Tell = Callable[[str], object]
"""Takes what a reader must know of a file, a sentence each."""


def read_prompt_file(source: PromptFile, base: Path, tell: Tell = lambda sentence: None) -> list[str]:
    """The prompts of a file, in its order, each once; `limit` of them evenly spread.

    Args:
        source: where they are.
        base: what a local path is relative to.
        tell: is given what was left out, and what may not have been meant.

    Raises:
        BenchError: the file cannot be had or read, has no column of prompts, or holds something else in it.
    """
    path = _from_hub(source.hub, source.file) if source.hub else _local(source.file, base)
    suffix = path.suffix.lower()
    if suffix not in READERS and suffix not in TEXT:
        kinds = ", ".join((".txt", *READERS))
        raise BenchError(f"the prompt file {path.name} is of no kind that is read: {kinds}; name a text file .txt")
    if source.column is not None and suffix in TEXT:
        what = f"the prompt file {path.name} is read as a prompt a line, and has no column {source.column!r}"
        raise BenchError(f"{what}; leave `column` out, or name a table .csv or .tsv")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BenchError(f"the prompt file {path.name} is larger than {MAX_BYTES:,} bytes")
        prompts = _lines(path, tell) if suffix in TEXT else _rows(path, source.column, tell)
    except OSError as error:
        raise BenchError(f"the prompt file {path.name} cannot be read ({error.strerror or error})") from None
    kept = tuple(dict.fromkeys(prompts))
    if len(kept) < len(prompts):
        repeats = len(prompts) - len(kept)
        tell(f"{path.name}: {repeats:,} of its {len(prompts):,} prompts repeat an earlier one, and are left out")
    return list(spread(kept, source.limit))


def spread(prompts: Sequence[str], count: int | None) -> tuple[str, ...]:
    """At most `count` of `prompts`, evenly spread, in order; all of them for None."""
    if count is None or len(prompts) <= count:
        return tuple(prompts)
    return tuple(prompts[index * len(prompts) // count] for index in range(count))


def local_path(name: str, base: Path) -> Path:
    """The absolute path of a file that a sweep in `base` names; links are kept, as their names have the ending."""
    path = Path(name)
    with suppress(RuntimeError):  # there is no such user
        path = path.expanduser()
    return (base / path).absolute()


def is_there(path: Path) -> bool:
    """Whether there is a file or a folder."""
    try:
        return path.exists()
    except OSError:  # too long for a name: a prompt that stands where a name should
        return False


def _local(name: str, base: Path) -> Path:
    path = local_path(name, base)
    if not is_there(path):
        hint = "; separate folders by /" if "\\" in name else ""
        raise BenchError(f"there is no prompt file {name!r}{hint}")
    if not path.is_file():
        what = "a folder; name a file inside it" if path.is_dir() else "no regular file; copy it to one"
        raise BenchError(f"the prompt file {name!r} is {what}")
    return path


def _from_hub(repository: str, name: str) -> Path:
    from huggingface_hub import HfApi, hf_hub_download, try_to_load_from_cache

    cached = try_to_load_from_cache(repository, name, repo_type="dataset")
    if isinstance(cached, str):
        return Path(cached)
    try:
        HfApi().dataset_info(repository, timeout=WAIT_SECONDS)  # asks once; a download would retry for half a minute
        return Path(hf_hub_download(repository, name, repo_type="dataset"))
    except Exception as error:
        run = f"hf download --repo-type dataset {repository} {name}"
        do = f"run `{run}` where there is a network, or give a local `file`"
        raise BenchError(f"{name} of the dataset {repository} is not here and cannot be fetched", None, do) from error


def _column(table: pd.DataFrame, wanted: str | None, file: str) -> Any:
    names = [str(name) for name in table.columns]
    if wanted is not None:
        # Spaces around a name cannot be seen in a table, nor in a message.
        for known in (names, [name.strip() for name in names]):
            if wanted in known:
                return table.columns[known.index(wanted)]
        hint = suggestion(wanted, names) or f"it has {', '.join(names)}"
        raise BenchError(f"{file} has no column {wanted!r}; {hint}")
    lower = [name.strip().lower() for name in names]
    found = next((lower.index(name) for name in COLUMNS if name in lower), None)
    if found is None:
        headless = "; where its first line is a prompt too, put the line `prompt` above it" if len(names) == 1 else ""
        raise BenchError(
            f"which column of {file} holds the prompts? it has {', '.join(names)}; say `column:`{headless}"
        )
    return table.columns[found]


def _lines(path: Path, tell: Tell) -> list[str]:
    """The lines that are not empty."""
    lines = [line.strip() for line in _text(path).splitlines()]
    prompts = [line for line in lines if line]
    if prompts and _is_header(prompts[0]):
        tell(f"{path.name} is read as a prompt a line, and begins as a table or JSON does: {prompts[0]!r} is a prompt")
    marked = [line for line in prompts if line.startswith("#")]
    if marked:
        count = (
            "1 line begins with # and is a prompt"
            if len(marked) == 1
            else f"{len(marked):,} lines begin with # and are prompts"
        )
        tell(f"{path.name}: {count} like any other, as comments are not known: {marked[0]!r}")
    return prompts


def _is_header(line: str) -> bool:
    cells = [cell.strip(' "') for cell in re.split("[,;\t]", line)]
    names = all(map(str.isidentifier, cells)) and any(cell.lower() in COLUMNS for cell in cells)
    return names or line.startswith(('{"', '["'))


def _rows(path: Path, column: str | None, tell: Tell) -> list[str]:
    """A column of the table, where it is not empty."""
    try:
        table = READERS[path.suffix.lower()](path)
        # An exception of its own for each of several libraries; RuntimeError is JSON nested too deeply.
    except (ValueError, RuntimeError) as error:
        raise BenchError(f"the prompt file {path.name} cannot be read: {cause_of(error)}") from None
    if not len(table.columns):
        return []
    prompts = []
    for number, value in enumerate(table[_column(table, column, path.name)], start=1):
        text = "" if _missing(value) else value
        if not isinstance(text, str):
            found = f"{one_line(repr(text), 60)}, {_kind(text)}"
            raise BenchError(f"row {number} of {path.name} holds {found}, where a prompt is text; put it in quotes")
        if text.strip():
            prompts.append(text.strip())
    if len(prompts) < len(table):
        tell(f"{path.name}: {len(table) - len(prompts):,} of its {len(table):,} rows hold no prompt, and are left out")
    return prompts


def _missing(value: Any) -> bool:
    return not isinstance(value, str) and pd.api.types.is_scalar(value) and bool(pd.isna(value))


def _kind(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "no text"
    kinds = {int: "a number", float: "a number", list: "a list", dict: "an object", str: "text"}
    return kinds.get(type(value), f"of type {type(value).__name__}")


def _text(path: Path) -> str:
    """The file's text, in UTF-8, or in UTF-16 where it begins so (Windows' "Unicode")."""
    content = path.read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise BenchError(f"the prompt file {path.name} is not text in UTF-8 (line {line}); save it as UTF-8") from None
    if "\0" in text:
        raise BenchError(f"the prompt file {path.name} is not text in UTF-8 (it holds zero bytes); save it as UTF-8")
    return text


def _json(path: Path) -> pd.DataFrame:
    text = _text(path)
    try:
        return _frame(json.loads(text) if text.strip() else [], "item", path.name)
    except json.JSONDecodeError as error:
        lines = "; name a file with an object a line .jsonl" if error.msg == "Extra data" else ""
        raise BenchError(f"the prompt file {path.name} cannot be read: {cause_of(error)}{lines}") from None


def _json_lines(path: Path) -> pd.DataFrame:
    found = []
    for number, line in enumerate(_text(path).split("\n"), start=1):  # JSON allows other line breaks inside a text
        try:
            found += [json.loads(line)] if line.strip() else []
        except json.JSONDecodeError as error:
            raise BenchError(f"line {number} of {path.name} is not JSON: {error.msg}") from None
    return _frame(found, "row", path.name)


def _frame(found: Any, what: str, file: str) -> pd.DataFrame:
    """A list of prompts, or of objects that hold one, as a table; values are what they are in JSON."""
    if not isinstance(found, list):
        keys = f" with the keys {', '.join(found)}" if isinstance(found, dict) and found else ""
        raise BenchError(f"expected a list of prompts or of objects in {file}, got {_kind(found)}{keys}")
    kind = dict if found and isinstance(found[0], dict) else str
    for number, each in enumerate(found, start=1):
        if not isinstance(each, kind):
            wanted = "an object, as those before it" if kind is dict else "a prompt in quotes"
            shown = f"{one_line(repr(each), 60)}, {_kind(each)}"
            raise BenchError(f"{what} {number} of {file} is {shown}; expected {wanted}")
    return pd.DataFrame(found if kind is dict else {"prompt": found}, dtype=object)


def _csv(path: Path) -> pd.DataFrame:
    text = _text(path)
    header = next(iter(text.lstrip("\r\n").splitlines()), "")
    # Where a comma separates decimals, spreadsheets write semicolons between the fields.
    return _separated(text, next((sign for sign in ",;\t" if sign in header), ","), path.name)


def _tsv(path: Path) -> pd.DataFrame:
    return _separated(_text(path), "\t", path.name)


def _separated(text: str, sign: str, file: str) -> pd.DataFrame:
    if not text.strip():
        return pd.DataFrame()
    table = pd.read_csv(StringIO(text, newline=""), sep=sign, dtype=str, keep_default_na=False)
    if not isinstance(table.index, pd.RangeIndex):  # pandas made the first field of longer rows an index
        raise BenchError(f"rows of {file} have more fields than its header; quote prompts that hold a comma")
    return table


def _parquet(path: Path) -> pd.DataFrame:
    return pd.read_parquet(path)


TEXT = (".txt", ".text", ".prompt", ".prompts", ".list", ".lst", "")
"""Endings of files with a prompt a line."""

READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
}
