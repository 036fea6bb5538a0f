"""Compares files of weights with the SHA-256 that they should have."""

import shlex
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from bench.build.weights.needs import Item
from bench.errors import cause_of
from models.loading import model_hash
from rewards.hashing import file_sha256

OK, DAMAGED, NOT_HERE, NO_HASH = "ok", "damaged", "not here", "no hash known"


def checked(wanted: Sequence[Item], only_declared: bool = False) -> list[dict[str, Any]]:
    """One row for each file: its state, its expected SHA-256 and its actual one.

    An item of which no file is here has one row. A shipped model is one folder, hashed as trials record it.

    Args:
        wanted: the items to check.
        only_declared: leave out files for which this package declares no hash.
    """
    hashed = cache(file_sha256)  # as rewards share files
    rows = []
    for item in wanted:
        places: dict[Any, Path | None] = item.places()
        if item.weights is not None and not any(places.values()):
            places = {None: None}
        names = [name for name in places if not only_declared or (item.weights and name in item.weights.sha256)]
        rows += [_checked(item, name, places[name], hashed) for name in names]
    return rows


def _checked(item: Item, name: str | None, path: Path | None, hashed: Callable[[Path], str]) -> dict[str, Any]:
    expected, source = item.expected(name, path) if name else (None, None)
    state, found, problem = NO_HASH, None, None
    if path is None:
        state = NOT_HERE
    elif expected is not None:
        try:
            found = model_hash(str(path)) if path.is_dir() else hashed(path.resolve())
        except OSError as error:
            problem = cause_of(error)
        state = OK if found == expected else DAMAGED
    return {
        "name": item.name,
        "kind": item.kind,
        "repository": item.weights.repository if item.weights else None,
        "file": name,
        "path": str(path) if path else None,
        "state": state,
        "expected": expected,
        "source": source,
        "found": found,
        "problem": problem,
        "do": _remedy(item, path, state),
    }


def _remedy(item: Item, path: Path | None, state: str) -> str | None:
    """The command that mends a file in this state; None if nothing is to be done."""
    if state in (OK, NO_HASH):
        return None
    if item.weights is None:
        return f"git checkout -- {shlex.quote(str(item.shipped))}, or install the package again"
    # The blob must be deleted: if only its link were, the hub's client would link to the same blob again.
    remove = f"rm {shlex.quote(str(path.resolve()))} && " if path else ""
    return f"{remove}bench weights fetch {item.name}"
