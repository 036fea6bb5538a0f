"""Weights that rewards load: which, from where, under what licence; found on this machine or fetched.

Nothing that is loaded is unpickled: safetensors, or `torch.load(weights_only=True)`; no code comes from the hub.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor


@dataclass(frozen=True)
class Weights:
    """One set of files on the hub.

    Two in the `needs` of one reward with the same `option` are alternatives: it loads one of them.

    Attributes:
        repository: `owner/name` on the hub.
        files: those that are needed. With more than one (a model in transformers' layout, `config.json` first) the
            folder is what is loaded.
        option: the reward's option that names a local file or folder instead.
        size: of all files, bytes, about; None where it is not known.
        licence: as its authors state it.
        sha256: file -> hash, where it is known.
    """

    repository: str
    files: tuple[str, ...]
    option: str
    size: int | None = None
    licence: str = "not stated"
    sha256: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def find(self, reward: str, given: str | None = None) -> Path:
        """The file, or the folder where there are several, from `given`, from the hub's cache, or fetched.

        Args:
            reward: for the message.
            given: a local file or folder, or another hub id in the same layout.

        Raises:
            FileNotFoundError: neither here nor to be had; the message says what to fetch and where to put it.
        """
        if given is not None and (here := Path(given).expanduser()).exists():
            return here
        repository = self.repository if given is None else given
        if repository.count("/") != 1 or repository.startswith((".", "/", "~")):
            raise FileNotFoundError(
                f"there is no {repository}; give `{self.option}`, {self._described()} of {self.repository}"
            )
        places = self._cached(repository)
        paths = [path for path in places.values() if path is not None]
        if len(paths) < len(places):
            # All of them anew: where the hub's main has moved on, what is here lies in the folder of another revision.
            missing = next(name for name, path in places.items() if path is None)
            paths = self._fetched(repository, missing, reward)
        return paths[0] if len(paths) == 1 else paths[0].parent

    def cached(self) -> dict[str, Path | None]:
        """File -> where it lies in the hub's cache; None for one that is not there."""
        return self._cached(self.repository)

    def _described(self) -> str:
        return "the file" if len(self.files) == 1 else "a folder with the files"

    def _cached(self, repository: str) -> dict[str, Path | None]:
        from huggingface_hub import try_to_load_from_cache

        found = {name: try_to_load_from_cache(repository, name) for name in self.files}
        return {name: Path(path) if isinstance(path, str) else None for name, path in found.items()}

    def _fetched(self, repository: str, missing: str, reward: str) -> list[Path]:
        """All files, of one revision."""
        from huggingface_hub import HfApi, snapshot_download

        try:
            HfApi().model_info(repository, timeout=10.0)  # asks once; a download would retry for half a minute
            folder = Path(snapshot_download(repository, allow_patterns=list(self.files)))
            paths = [folder / name for name in self.files]
            if absent := [path.name for path in paths if not path.is_file()]:  # what is not there matches no pattern
                raise FileNotFoundError(f"{repository} has no {', '.join(absent)}")
            return paths
        except Exception as error:  # offline, unknown, forbidden: all mean that a person has to fetch it
            raise FileNotFoundError(
                f"{repository} ({missing}) is not on this machine and cannot be fetched; where there is a network, "
                f"`hf download {repository} {' '.join(self.files)}` puts it into the cache, or name "
                f"{self._described()}: reward: {{name: {reward}, {self.option}: PATH}}"
            ) from error


def read_state(path: Path) -> dict[str, Tensor]:
    """A state dict from a `.safetensors` file, or from any other that torch wrote, without unpickling objects."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)
