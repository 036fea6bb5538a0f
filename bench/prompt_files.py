"""Prompts in other people's files: HPD's lists (JSON), DrawBench's table (CSV), any table with a column of prompts.

`prompts: {train: {file: anime.json}}`, `{file: drawbench.csv, column: Prompts, limit: 100}`, or from a dataset
repository on the hub, `{hub: owner/name, file: benchmark/anime.json}`. Repeated prompts are kept once.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.errors import BenchError, cause_of
from bench.overlay import suggestion

if TYPE_CHECKING:
    import pandas as pd

    from bench.sweep import PromptFile

COLUMNS = ("prompt", "prompts", "caption", "text")
"""Names of a column of prompts, in any case, where the sweep names none; the first that is there."""

MAX_BYTES = 256 * 1024 * 1024
WAIT_SECONDS = 10.0


def read_prompt_file(source: "PromptFile", base: Path) -> list[str]:
    """The prompts of a file, in its order, each once; `limit` of them evenly spread.

    Args:
        source: where they are.
        base: what a local path is relative to.

    Raises:
        BenchError: the file cannot be had or read, or has no column of prompts.
    """
    import pandas as pd

    from bench.prompts import spread

    path = _from_hub(source.hub, source.file) if source.hub else _local(source.file, base)
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise BenchError(f"the prompt file {path.name} is of no kind that is read: {', '.join(READERS)}")
    if path.stat().st_size > MAX_BYTES:
        raise BenchError(f"the prompt file {path.name} is larger than {MAX_BYTES:,} bytes")
    try:
        table = reader(path)
    except Exception as error:
        raise BenchError(f"the prompt file {path.name} cannot be read: {cause_of(error)}") from None
    if not isinstance(table.index, pd.RangeIndex):  # pandas made the first field of longer rows an index
        raise BenchError(f"rows of {path.name} have more fields than its header; quote prompts that hold a comma")
    values = table[_column(table, source.column, path.name)]
    prompts = [value.strip() for value in values if isinstance(value, str) and value.strip()]
    return list(spread(tuple(dict.fromkeys(prompts)), source.limit))


def _local(name: str, base: Path) -> Path:
    path = Path(name).expanduser()
    path = path if path.is_absolute() else base / path
    if not path.is_file():
        raise BenchError(f"there is no prompt file {name!r}")
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


def _column(table: "pd.DataFrame", wanted: str | None, file: str) -> Any:
    names = [str(name) for name in table.columns]
    if wanted is not None:
        if wanted in names:
            return table.columns[names.index(wanted)]
        hint = suggestion(wanted, names) or f"it has {', '.join(names)}"
        raise BenchError(f"{file} has no column {wanted!r}; {hint}")
    lower = [name.lower() for name in names]
    found = next((lower.index(name) for name in COLUMNS if name in lower), None)
    if found is None:
        raise BenchError(f"which column of {file} holds the prompts? it has {', '.join(names)}; say `column:`")
    return table.columns[found]


def _json(path: Path) -> "pd.DataFrame":
    """A list of prompts, or of objects that hold one."""
    import json

    import pandas as pd

    found = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(found, list):
        raise ValueError("expected a list of prompts or of objects")
    return pd.DataFrame({"prompt": found}) if all(isinstance(item, str) for item in found) else pd.DataFrame(found)


def _table(reader: str, **options: Any) -> "Callable[[Path], pd.DataFrame]":
    def read(path: Path) -> "pd.DataFrame":
        import pandas as pd

        return getattr(pd, reader)(path, **options)

    return read


def _text(path: Path) -> "pd.DataFrame":
    import pandas as pd

    lines = (line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines())
    return pd.DataFrame({"prompt": [line for line in lines if line and not line.startswith("#")]})


READERS: "dict[str, Callable[[Path], pd.DataFrame]]" = {
    ".txt": _text,
    ".json": _json,
    ".jsonl": _table("read_json", lines=True),
    ".csv": _table("read_csv", keep_default_na=False),
    ".tsv": _table("read_csv", keep_default_na=False, sep="\t"),
    ".parquet": _table("read_parquet"),
}
