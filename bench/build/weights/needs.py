"""The files that rewards and models need, their repositories, and which of the files are on this machine."""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import console
from bench.build.plugins import embedded_models, installed, load_object, reward_names
from bench.build.weights.known import KNOWN_MODELS, LAYOUT, Facts, expected_of_fetched, expected_of_shipped, place
from bench.errors import BenchError
from bench.sweep.overlay import suggestion
from bench.sweep.shipped import sweep_files
from bench.sweep.yaml_source import read_yaml
from models.loading import PARTS
from rewards import registry
from rewards.published.weights import Weights


@dataclass(frozen=True)
class Item:
    """One set of files of a reward or a model.

    Attributes:
        name: the name of the reward or the model.
        kind: `reward` or `model`.
        weights: the files on the hub, if it needs any.
        shipped: the file or folder in the package, if it is shipped.
        problem: why its files cannot be determined.
    """

    name: str
    kind: str
    weights: Weights | None = None
    shipped: Path | None = None
    problem: str | None = None


# -- items -----------------------------------------------------------------------------------------------------


def items() -> list[Item]:
    """The items of all rewards, of the models in the package, and of the hub models that sweeps name."""
    embedded = [Item(name, "model", shipped=folder) for name, folder in embedded_models().items()]
    return [*_reward_items(), *embedded, *(_hub_model(name) for name in models_in_sweeps())]


def chosen(available: Sequence[Item], names: Sequence[str]) -> list[Item]:
    """The items of the rewards, models or repositories in `names`.

    Raises:
        BenchError: a name is unknown, or the files it needs cannot be determined.
    """
    selected: list[Item] = []
    for name in names:
        own = [item for item in available if item.name == name]
        if not own:  # rewards share repositories, and some of them files
            parts = [
                (item.weights.files, item) for item in available if item.weights and item.weights.repository == name
            ]
            own = list(dict(parts).values())
        if not own and name in reward_names():
            console.note(f"{name} needs no weights")
        elif not own and _is_hub_id(name):
            own = [_hub_model(name)]
        elif not own:
            known = list(dict.fromkeys([*reward_names(), *(item.name for item in available)]))
            hint = suggestion(name, known) or f"there are {', '.join(known)}; a model may be any hub id, owner/name"
            raise BenchError(f"there is no reward or model {name!r}", None, hint)
        problem = next((item.problem for item in own if item.problem), None)
        if problem:
            raise BenchError(f"the files that {name} needs cannot be determined: {problem}")
        selected += [item for item in own if item not in selected]
    return selected


def first_choices(wanted: Sequence[Item]) -> list[Item]:
    """The items without alternatives: of the items for one option of a reward, only the first."""
    first: dict[tuple[str, str | None], Item] = {}
    for item in wanted:
        first.setdefault((item.name, item.weights.option if item.weights else None), item)
    return list(first.values())


def models_in_sweeps() -> list[str]:
    """Hub ids that are the `model` of a sweep or of one of its scales."""
    named: dict[str, None] = {}
    for path in sweep_files().values():
        try:
            sweep = read_yaml(path).plain()
        except BenchError as error:
            console.note(f"left out: {error.lines()[0]}")
            continue
        scales = sweep.get("scales")
        layers = [sweep, *(scales.values() if isinstance(scales, dict) else ())]
        models = [layer.get("model") for layer in layers if isinstance(layer, dict)]
        local = {*embedded_models(), *installed("models")}
        for model in models:
            if isinstance(model, str) and model not in local and _is_hub_id(model):
                named |= {} if (path.parent / model).is_dir() else {model: None}
    return list(named)


def _reward_items() -> Iterator[Item]:
    targets = {name: registry.target(name) for name in registry.names()}
    for name, target in {**targets, **dict(sorted(installed("rewards").items()))}.items():
        try:
            reward = load_object(target)
        except BenchError as error:
            yield Item(name, "reward", problem=error.lines()[0])
            continue
        needs: tuple[Weights, ...] = getattr(reward, "needs", ())
        yield from (Item(name, "reward", weights=need) for need in needs)
        shipped = getattr(sys.modules.get(getattr(reward, "__module__", "")), "WEIGHTS", None)
        if not needs and isinstance(shipped, Path):
            yield Item(name, "reward", shipped=shipped)


def _hub_model(repository: str) -> Item:
    facts = KNOWN_MODELS.get(repository, Facts(None, "see its card", {}))
    needed = Weights(repository, LAYOUT, "model", facts.size, facts.licence, facts.sha256)
    return Item(repository, "model", weights=needed)


def _is_hub_id(name: str) -> bool:
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) is not None


# -- files on this machine -------------------------------------------------------------------------------------


def described(item: Item) -> dict[str, Any]:
    """An item as a row of `--json`; `cached` is the path of its file, or the folder of several files."""
    row: dict[str, Any] = {
        "name": item.name,
        "kind": item.kind,
        "repository": item.weights.repository if item.weights else None,
        "option": item.weights.option if item.weights else None,
        "files": [],
        "size": None,
        "licence": None,
        "sha256": {},
        "cached": None,
        "complete": False,
        "shipped": item.shipped is not None,
        "problem": item.problem,
    }
    if item.shipped is not None:
        row |= _shipped_facts(item.shipped)
    if item.weights is not None:
        row |= _hub_facts(item.weights)
    return row


def lacking(wanted: Sequence[Item]) -> list[str]:
    """Names of the items with missing files, unless an alternative to them is complete."""
    hub = [(item.name, item.weights.option, described(item)["complete"]) for item in wanted if item.weights is not None]
    complete_options = {(name, option) for name, option, complete in hub if complete}
    return list(dict.fromkeys(name for name, option, _ in hub if (name, option) not in complete_options))


def _shipped_facts(shipped: Path) -> dict[str, Any]:
    files = [shipped] if not shipped.is_dir() else _files_in(shipped)
    there = all(file.is_file() for file in files)
    name, known = place(shipped), expected_of_shipped(shipped)
    return {
        "files": [name],
        "size": sum(file.stat().st_size for file in files) if there else None,
        "licence": "Apache-2.0",
        "sha256": {name: known.value} if known else {},
        "cached": str(shipped) if there else None,
        "complete": there,
    }


def _hub_facts(needed: Weights) -> dict[str, Any]:
    places = needed.cached()
    here = {name: path for name, path in places.items() if path is not None}
    cached = next(iter(here.values()), None)
    if cached is not None and len(places) > 1:
        cached = cached.parents[next(iter(here)).count("/")]
    complete = len(here) == len(places)
    hashes = {name: expected_of_fetched(needed.sha256.get(name), path) for name, path in places.items()}
    return {
        "files": list(places),
        "size": needed.size or (sum(path.stat().st_size for path in here.values()) if complete else None),
        "licence": needed.licence,
        "sha256": {name: found.value for name, found in hashes.items() if found and found.algorithm == "sha256"},
        "cached": None if cached is None else str(cached),
        "complete": complete,
    }


def _files_in(folder: Path) -> list[Path]:
    return [file for part in PARTS for file in sorted((folder / part).rglob("*")) if file.is_file()]
