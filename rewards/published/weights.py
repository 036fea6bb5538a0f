"""The files of weights that rewards load, with their source and licence; finds them on this machine or fetches them.

Files are read with safetensors or `torch.load(weights_only=True)`, which unpickle no objects; no code comes from the
hub.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

HUB_SECONDS = 10.0
"""Seconds that the hub has to answer."""


@dataclass(frozen=True)
class Weights:
    """A set of files in one repository on the hub.

    If two sets in the `needs` of a reward have the same `option`, the reward loads one of the two.

    Attributes:
        repository: `owner/name` on the hub.
        files: names of the needed files. If there is more than one (a model in transformers' layout, `config.json`
            first), the reward loads their folder.
        option: the reward's option that names a local file or folder instead.
        size: approximate size of all files in bytes; None if it is not known.
        licence: the licence that the authors state.
        sha256: file -> SHA-256, for files with a known hash.
    """

    repository: str
    files: tuple[str, ...]
    option: str
    size: int | None = None
    licence: str = "not stated"
    sha256: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def find(self, reward: str, given: str | None = None) -> Path:
        """The path of the file, or of the folder if there are several files: `given`, in the hub's cache, or fetched.

        Args:
            reward: name of the reward, for the message.
            given: a local file or folder, or another hub id in the same layout.

        Raises:
            FileNotFoundError: the files are neither on this machine nor can be fetched; the message says what to fetch
                and where to put it.
        """
        if given is not None and (local := Path(given).expanduser()).exists():
            return local
        repository = self.repository if given is None else given
        if repository.count("/") != 1 or repository.startswith((".", "/", "~")):
            raise FileNotFoundError(
                f"there is no {repository}; give `{self.option}`, {self._described()} of {self.repository}"
            )
        places = self._cached(repository)
        paths = [path for path in places.values() if path is not None]
        if len(paths) < len(places):
            # All files are fetched, because the cached ones may be of another revision than the hub's present one.
            missing = next(name for name, path in places.items() if path is None)
            try:
                paths = self.fetch(repository)
            except Exception as error:  # offline, unknown or forbidden: the user has to fetch the files
                raise FileNotFoundError(
                    f"{repository} ({missing}) is not on this machine and cannot be fetched; where there is a network, "
                    f"`hf download {repository} {' '.join(self.files)}` puts it into the cache, or name "
                    f"{self._described()}: reward: {{name: {reward}, {self.option}: PATH}}"
                ) from error
        return paths[0] if len(paths) == 1 else paths[0].parent

    def fetch(self, repository: str | None = None, optional: Sequence[str] = ()) -> list[Path]:
        """Fetches all files, of one revision, into the hub's cache; returns their paths.

        Args:
            repository: another hub id in the same layout.
            optional: patterns of further files, which are fetched if the repository has them.

        Raises:
            FileNotFoundError: the repository lacks a file.
            Exception: the hub's client failed: there is no network, no such repository or no permission.
        """
        from huggingface_hub import HfApi, snapshot_download

        repository = repository or self.repository
        # One request, as a download would retry for half a minute; it also lists the files before gigabytes are moved.
        listed = HfApi().model_info(repository, timeout=HUB_SECONDS).siblings or ()
        absent = set(self.files) - {file.rfilename for file in listed}
        if absent:
            raise FileNotFoundError(f"{repository} has no {', '.join(sorted(absent))}")
        folder = Path(snapshot_download(repository, allow_patterns=[*self.files, *optional]))
        return [folder / name for name in self.files]

    def cached(self) -> dict[str, Path | None]:
        """File -> its path in the hub's cache; None for a file that is not cached."""
        return self._cached(self.repository)

    def _described(self) -> str:
        return "the file" if len(self.files) == 1 else "a folder with the files"

    def _cached(self, repository: str) -> dict[str, Path | None]:
        from huggingface_hub import try_to_load_from_cache

        paths = {name: try_to_load_from_cache(repository, name) for name in self.files}
        return {name: Path(path) if isinstance(path, str) else None for name, path in paths.items()}


def read_state(path: Path) -> dict[str, Tensor]:
    """Reads a state dict from a `.safetensors` file, or from another file of torch, without unpickling objects."""
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)
