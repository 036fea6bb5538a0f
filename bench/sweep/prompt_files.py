"""Reads prompts from a file: a text file with one prompt on each line, or a table (JSON, CSV, TSV, Parquet).

`prompts: {train: words.txt}`, `{train: {file: drawbench.csv, column: Prompts, limit: 100}}`, or a file of a dataset
repository on the hub, `{hub: owner/name, file: benchmark/anime.json}`. The ending of the file's name decides how it is
read. Values are text and never guessed to be numbers or dates; no line is a comment. Repeated prompts are kept once,
rows without a prompt are left out, and a warning gives the number of each.
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
"""Names of the prompt column, in upper or lower case, if the sweep gives none; the first in the table is taken."""

MAX_BYTES = 256 * 1024 * 1024
WAIT_SECONDS = 10.0
"""Seconds that the hub has to answer."""

Warn = Callable[[str], object]
"""A function that takes a warning about a file, one sentence."""


def read_prompt_file(source: PromptFile, base: Path, warn: Warn = lambda sentence: None) -> list[str]:
    """The prompts of a file in its order, without repeats; with a `limit`, that many, evenly spread over the file.

    Args:
        source: the file, and the column and limit if given.
        base: the folder to which a local path refers.
        warn: called with a sentence on prompts left out, and on lines that may not be meant as prompts.

    Raises:
        BenchError: the file cannot be found, fetched or read, has no prompt column, or holds a value that is no text.
    """
    path = _from_hub(source.hub, source.file) if source.hub else _local(source.file, base)
    suffix = path.suffix.lower()
    if suffix not in READERS and suffix not in TEXT:
        kinds = ", ".join((".txt", *READERS))
        raise BenchError(f"the prompt file {path.name} has none of the endings {kinds}; name a text file .txt")
    if source.column is not None and suffix in TEXT:
        what = f"the prompt file {path.name} is read line by line, and has no column {source.column!r}"
        raise BenchError(f"{what}; leave `column` out, or name a table .csv or .tsv")
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BenchError(f"the prompt file {path.name} is larger than {MAX_BYTES:,} bytes")
        prompts = _lines(path, warn) if suffix in TEXT else _rows(path, source.column, warn)
    except OSError as error:
        raise BenchError(f"the prompt file {path.name} cannot be read ({error.strerror or error})") from None
    kept = tuple(dict.fromkeys(prompts))
    if len(kept) < len(prompts):
        repeats = len(prompts) - len(kept)
        warn(f"{path.name}: {repeats:,} of its {len(prompts):,} prompts repeat an earlier one, and are left out")
    return list(spread(kept, source.limit))


def spread(prompts: Sequence[str], count: int | None) -> tuple[str, ...]:
    """`count` of the prompts, evenly spread, in order; all of them if they are fewer or `count` is None."""
    if count is None or len(prompts) <= count:
        return tuple(prompts)
    return tuple(prompts[index * len(prompts) // count] for index in range(count))


def local_path(name: str, base: Path) -> Path:
    """The absolute path of a file that a sweep in the folder `base` names.

    Links are not resolved: the ending of the link's own name decides how the file is read.
    """
    path = Path(name)
    with suppress(RuntimeError):  # `~name` of an unknown user
        path = path.expanduser()
    return (base / path).absolute()


def is_there(path: Path) -> bool:
    """Whether a file or a folder exists at `path`."""
    try:
        return path.exists()
    except OSError:  # the name is too long: a prompt was given in place of a file
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
        HfApi().dataset_info(repository, timeout=WAIT_SECONDS)  # tries once; a download would retry for half a minute
        return Path(hf_hub_download(repository, name, repo_type="dataset"))
    except Exception as error:
        run = f"hf download --repo-type dataset {repository} {name}"
        do = f"run `{run}` where there is a network, or give a local `file`"
        raise BenchError(f"{name} of the dataset {repository} is not here and cannot be fetched", None, do) from error


def _column(table: pd.DataFrame, wanted: str | None, file: str) -> Any:
    """The name of the prompt column in the table."""
    names = [str(name) for name in table.columns]
    if wanted is not None:
        # A reader of the table or of the message cannot see spaces around a name.
        for known in (names, [name.strip() for name in names]):
            if wanted in known:
                return table.columns[known.index(wanted)]
        hint = suggestion(wanted, names) or f"it has {', '.join(names)}"
        raise BenchError(f"{file} has no column {wanted!r}; {hint}")
    lower = [name.strip().lower() for name in names]
    place = next((lower.index(name) for name in COLUMNS if name in lower), None)
    if place is None:
        headless = "; if its first line is a prompt too, add a first line `prompt`" if len(names) == 1 else ""
        raise BenchError(
            f"which column of {file} holds the prompts? it has {', '.join(names)}; give `column:`{headless}"
        )
    return table.columns[place]


def _lines(path: Path, warn: Warn) -> list[str]:
    """The prompts of a text file: its lines that are not empty."""
    lines = [line.strip() for line in _text(path).splitlines()]
    prompts = [line for line in lines if line]
    if prompts and _is_header(prompts[0]):
        warn(f"{path.name} is read line by line, but begins as a table or JSON does: {prompts[0]!r} is a prompt")
    marked = [line for line in prompts if line.startswith("#")]
    if marked:
        count = (
            "1 line begins with # and is a prompt"
            if len(marked) == 1
            else f"{len(marked):,} lines begin with # and are prompts"
        )
        warn(f"{path.name}: {count} like any other, as such files have no comments: {marked[0]!r}")
    return prompts


def _is_header(line: str) -> bool:
    """Whether a text file's first line looks like the header of a table or the beginning of JSON."""
    cells = [cell.strip(' "') for cell in re.split("[,;\t]", line)]
    names = all(map(str.isidentifier, cells)) and any(cell.lower() in COLUMNS for cell in cells)
    return names or line.startswith(('{"', '["'))


def _rows(path: Path, column: str | None, warn: Warn) -> list[str]:
    """The prompts of a table: the cells of its prompt column that are not empty."""
    try:
        table = READERS[path.suffix.lower()](path)
        # Each of the libraries raises its own subclass of ValueError; RuntimeError is JSON nested too deeply.
    except (ValueError, RuntimeError) as error:
        raise BenchError(f"the prompt file {path.name} cannot be read: {cause_of(error)}") from None
    if not len(table.columns):
        return []
    prompts = []
    for number, value in enumerate(table[_column(table, column, path.name)], start=1):
        text = "" if _missing(value) else value
        if not isinstance(text, str):
            shown = f"{one_line(repr(text), 60)}, {_kind(text)}"
            raise BenchError(f"row {number} of {path.name} holds {shown}, where a prompt is text; put it in quotes")
        if text.strip():
            prompts.append(text.strip())
    if len(prompts) < len(table):
        warn(f"{path.name}: {len(table) - len(prompts):,} of its {len(table):,} rows hold no prompt, and are left out")
    return prompts


def _missing(value: Any) -> bool:
    return not isinstance(value, str) and pd.api.types.is_scalar(value) and bool(pd.isna(value))


def _kind(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "no text"
    kinds = {int: "a number", float: "a number", list: "a list", dict: "an object", str: "text"}
    return kinds.get(type(value), f"of type {type(value).__name__}")


def _text(path: Path) -> str:
    """The file's text, decoded from UTF-8, or from UTF-16 if it begins with its byte order mark (Windows)."""
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
    entries = []
    for number, line in enumerate(_text(path).split("\n"), start=1):  # JSON allows other line breaks inside a text
        try:
            entries += [json.loads(line)] if line.strip() else []
        except json.JSONDecodeError as error:
            raise BenchError(f"line {number} of {path.name} is not JSON: {error.msg}") from None
    return _frame(entries, "row", path.name)


def _frame(entries: Any, what: str, file: str) -> pd.DataFrame:
    """A list of prompts, or of objects with a prompt in each, as a table; values keep their JSON type."""
    if not isinstance(entries, list):
        keys = f" with the keys {', '.join(entries)}" if isinstance(entries, dict) and entries else ""
        raise BenchError(f"expected a list of prompts or of objects in {file}, got {_kind(entries)}{keys}")
    kind = dict if entries and isinstance(entries[0], dict) else str
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, kind):
            wanted = "an object, as those before it" if kind is dict else "a prompt in quotes"
            shown = f"{one_line(repr(entry), 60)}, {_kind(entry)}"
            raise BenchError(f"{what} {number} of {file} is {shown}; expected {wanted}")
    return pd.DataFrame(entries if kind is dict else {"prompt": entries}, dtype=object)


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
"""Endings of text files with one prompt on each line."""

READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".json": _json,
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".csv": _csv,
    ".tsv": _tsv,
    ".parquet": _parquet,
}
