"""Compares files of weights with their expected hashes, and loads those that the package ships as trials do."""

import shlex
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub.utils.sha import git_hash

from bench.build.plugins import build_reward, resolve_model
from bench.build.weights.known import OPTIONAL_FILES, Expected, expected_of_fetched, expected_of_shipped, place
from bench.build.weights.needs import Item, described
from bench.errors import cause_of
from bench.sweep.schema import RewardSpec
from models.loading import inspected, load_components, model_hash
from rewards.hashing import file_sha256

OK, DAMAGED, NOT_HERE, NO_HASH, UNKNOWN = "ok", "damaged", "not here", "no hash known", "unknown"


def checked(wanted: Sequence[Item], only_declared: bool = False) -> list[dict[str, Any]]:
    """One row for each file: its state, its expected hash and its actual one.

    Args:
        wanted: the items to check.
        only_declared: leave out files for which this package declares no hash.
    """
    plan: list[tuple[Item, str | None, Path | None, Expected | None]] = []
    for item in wanted:
        if item.weights is None:
            plan.append((item, None, item.shipped, None))
            continue
        declared, places = item.weights.sha256, item.weights.cached() | _also_there(item)
        if not any(places.values()):
            plan.append((item, None, None, None))
            continue
        for file, path in places.items():
            if file in declared or not only_declared:
                plan.append((item, file, path, expected_of_fetched(declared.get(file), path)))
    hashed = cache(digest)  # as rewards share files
    return [_checked(item, name, path, expected, hashed) for item, name, path, expected in plan]


def digest(path: Path, algorithm: str) -> str:
    """SHA-256 of a file, or SHA-1 as git computes it for a blob."""
    return file_sha256(path) if algorithm == "sha256" else git_hash(path.read_bytes())


def _checked(
    item: Item, name: str | None, path: Path | None, expected: Expected | None, hashed: Callable[[Path, str], str]
) -> dict[str, Any]:
    if item.shipped is not None:
        return _check_shipped(item, item.shipped)
    row = _row(item, name, path, expected)
    if path is not None and expected is not None:
        try:
            found = hashed(path.resolve(), expected.algorithm)
            row |= {"found": found, "state": OK if found == expected.value else DAMAGED}
        except OSError as error:
            row |= {"state": DAMAGED, "problem": cause_of(error)}
    row["do"] = _again(item, path, row["state"])
    return row


def _also_there(item: Item) -> dict[str, Path | None]:
    """Name -> path of a cached model's optional files."""
    folder = described(item)["cached"]
    if item.kind != "model" or folder is None:
        return {}
    paths = (path for pattern in OPTIONAL_FILES for path in sorted(Path(folder).glob(pattern)) if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in paths}


def _row(item: Item, name: str | None, path: Path | None, expected: Expected | None) -> dict[str, Any]:
    return {
        "name": item.name,
        "kind": item.kind,
        "repository": item.weights.repository if item.weights else None,
        "file": name,
        "path": str(path) if path else None,
        "state": UNKNOWN if item.problem else NOT_HERE if path is None else NO_HASH,
        "algorithm": expected.algorithm if expected else None,
        "expected": expected.value if expected else None,
        "source": expected.source if expected else None,
        "found": None,
        "loads": None,
        "problem": item.problem,
        "do": None,
    }


def _again(item: Item, path: Path | None, state: str) -> str | None:
    """The command that mends a file from the hub in this state; None if nothing is to be done."""
    if state == DAMAGED and path is not None:
        # The blob must be deleted: if only its link were, the hub's client would link to the same blob again.
        return f"rm {shlex.quote(str(path.resolve()))} && bench weights fetch {item.name}"
    return f"bench weights fetch {item.name}" if state == NOT_HERE else None


# -- shipped files ---------------------------------------------------------------------------------------------


def _check_shipped(item: Item, path: Path) -> dict[str, Any]:
    """The row of a shipped file or folder, which is hashed and loaded by the code that trials use."""
    expected = expected_of_shipped(path)
    row = _row(item, place(path), path, expected)
    damaged = {"state": DAMAGED, "do": f"git checkout -- {shlex.quote(str(path))}, or install the package again"}
    if not path.exists():
        return row | damaged | {"problem": "it is missing"}
    try:
        row["found"] = _shipped_hash(item, path)
        if expected is not None and row["found"] != expected.value:
            return row | damaged
        recorded = _load_shipped(item, path)
    except Exception as error:
        return row | damaged | {"problem": f"it does not load: {cause_of(error)}"}
    if recorded != row["found"]:
        return row | damaged | {"problem": f"it has sha256 {row['found'][:12]} and trials would record {recorded}"}
    return row | {"state": OK if expected else NO_HASH, "loads": True}


def _shipped_hash(item: Item, path: Path) -> str:
    if item.kind == "reward":
        return file_sha256(path)
    inspected(str(path))  # raises with the name of a missing file, of which a hash says nothing
    return model_hash(str(path))


def _load_shipped(item: Item, path: Path) -> str | None:
    """Loads a shipped file or folder as a trial does; returns the hash that a trial would record."""
    if item.kind == "reward":
        return build_reward(RewardSpec(name=item.name)).weights_sha256
    from transformers.utils import logging

    logging.disable_progress_bar()
    load_components(str(path))
    return model_hash(resolve_model(item.name, Path()))
