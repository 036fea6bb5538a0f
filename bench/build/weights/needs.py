"""The files that rewards and models need, their repositories, and which of the files are on this machine."""

import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import console
from bench.build.plugins import embedded_models, installed, load_object, reward_names
from bench.build.weights.known import KNOWN_MODELS, LAYOUT, SHIPPED, place
from bench.errors import BenchError
from bench.sweep.overlay import suggestion
from rewards import registry
from rewards.published.weights import Weights

PACKAGE, HUB = "this package", "the hub"
"""Sources of a file's expected hash."""


@dataclass(frozen=True)
class Item:
    """One set of files of a reward or a model: on the hub, or shipped with the package.

    Attributes:
        name: the name of the reward or the model.
        kind: `reward` or `model`.
        weights: the files on the hub.
        shipped: the file or folder in the package.
    """

    name: str
    kind: str
    weights: Weights | None = None
    shipped: Path | None = None

    @property
    def label(self) -> str:
        """The name, with the repository if that is another."""
        if self.weights is None or self.weights.repository == self.name:
            return self.name
        return f"{self.name}: {self.weights.repository}"

    def places(self) -> dict[str, Path | None]:
        """File -> its path on this machine; None for one that is not in the cache. A shipped model is one folder."""
        if self.weights is not None:
            return self.weights.cached()
        assert self.shipped is not None
        return {place(self.shipped): self.shipped}

    def expected(self, file: str, path: Path | None) -> tuple[str, str] | tuple[None, None]:
        """The SHA-256 that a file should have, and its source; None if it is not known.

        The package declares it, or the name of the blob in the hub's cache is it (that of a small file is git's hash).
        """
        declared = SHIPPED.get(file) if self.weights is None else self.weights.sha256.get(file)
        if declared is not None:
            return declared.lower(), PACKAGE
        # A cache without links, as on Windows, has no blobs.
        blob = path.resolve().name if path is not None and path.is_symlink() else ""
        return (blob, HUB) if re.fullmatch(r"[0-9a-f]{64}", blob) else (None, None)


# -- items -----------------------------------------------------------------------------------------------------


def items() -> list[Item]:
    """The items of all rewards, of the models in the package, and of the hub models that it knows."""
    embedded = [Item(name, "model", shipped=folder) for name, folder in embedded_models().items()]
    return [*_reward_items(), *embedded, *map(_hub_model, KNOWN_MODELS)]


def chosen(available: Sequence[Item], names: Sequence[str]) -> list[Item]:
    """The items of the rewards, models or repositories in `names`.

    Raises:
        BenchError: a name is unknown, or its reward cannot be imported.
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
            load_object(_targets()[name])  # which fails if it was left out of `available` because of that
            console.note(f"{name} needs no weights")
        elif not own and _is_hub_id(name):
            own = [_hub_model(name)]
        elif not own:
            known = list(dict.fromkeys([*reward_names(), *(item.name for item in available)]))
            hint = suggestion(name, known) or f"there are {', '.join(known)}; a model may be any hub id, owner/name"
            raise BenchError(f"there is no reward or model {name!r}", None, hint)
        selected += [item for item in own if item not in selected]
    return selected


def first_choices(wanted: Sequence[Item]) -> list[Item]:
    """The items without alternatives: of the items for one option of a reward, only the first."""
    first: dict[tuple[str, str | None], Item] = {}
    for item in wanted:
        first.setdefault((item.name, item.weights.option if item.weights else None), item)
    return list(first.values())


def _targets() -> dict[str, str]:
    """The `module:Class` of every reward."""
    return {**{name: registry.target(name) for name in registry.names()}, **dict(sorted(installed("rewards").items()))}


def _reward_items() -> Iterator[Item]:
    for name, target in _targets().items():
        try:
            reward = load_object(target)
        except BenchError as error:
            console.note(f"left out: reward {name}, as it cannot be imported: {error.lines()[0]}")
            continue
        needs: tuple[Weights, ...] = getattr(reward, "needs", ())
        yield from (Item(name, "reward", weights=need) for need in needs)
        shipped = getattr(sys.modules.get(getattr(reward, "__module__", "")), "WEIGHTS", None)
        if not needs and isinstance(shipped, Path):
            yield Item(name, "reward", shipped=shipped)


def _hub_model(repository: str) -> Item:
    needed = KNOWN_MODELS.get(repository) or Weights(repository, LAYOUT, "model", licence="see its card")
    return Item(repository, "model", weights=needed)


def _is_hub_id(name: str) -> bool:
    return re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name) is not None


# -- files on this machine -------------------------------------------------------------------------------------


def described(item: Item) -> dict[str, Any]:
    """An item as a row of `--json`; `cached` is the path of its file, or the folder of several files."""
    weights, places = item.weights, item.places()
    here = {file: path for file, path in places.items() if path is not None and path.exists()}
    complete = len(here) == len(places)
    file, cached = next(iter(here.items()), ("", None))
    if cached is not None and len(places) > 1:
        cached = cached.parents[file.count("/")]
    hashes = {file: item.expected(file, path)[0] for file, path in places.items()}
    return {
        "name": item.name,
        "kind": item.kind,
        "repository": weights.repository if weights else None,
        "option": weights.option if weights else None,
        "files": list(places),
        "size": (weights.size if weights else None) or (sum(map(_size, here.values())) if complete else None),
        "licence": weights.licence if weights else "Apache-2.0",
        "sha256": {file: value for file, value in hashes.items() if value},
        "cached": None if cached is None else str(cached),
        "complete": complete,
        "shipped": weights is None,
    }


def lacking(wanted: Sequence[Item]) -> list[str]:
    """Names of the items with missing files, unless an alternative to them is complete."""
    hub = [(item.name, item.weights.option, all(item.places().values())) for item in wanted if item.weights is not None]
    complete_options = {(name, option) for name, option, complete in hub if complete}
    return list(dict.fromkeys(name for name, option, _ in hub if (name, option) not in complete_options))


def _size(path: Path) -> int:
    """The bytes of a file, or of all files in a folder."""
    return sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file())
