"""A folder behind a URL that fsspec can reach: reading, writing and listing, for `mirror.py` and `fetching.py`."""

import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from bench.errors import BenchError, cause_of
from bench.store.files import slug, write_atomically


class ListedFile(NamedTuple):
    """The entry of a file in a store's listing.

    Attributes:
        size: bytes; None if the store does not give it.
        mark: a text that changes when the file is written again, as in `fsspec.AbstractFileSystem.ukey`.
    """

    size: int | None
    mark: str


class Place:
    """A folder behind a URL.

    A failed operation raises its client's error; the clients of S3, Google Storage and Azure repeat it before that.

    Args:
        url: such as `s3://bucket/runs/x`, `gs://…`, `sftp://host/…`, `file:///…`. Keys and endpoints come from
            fsspec's configuration or the client's own environment, never from the URL.

    Raises:
        BenchError: the protocol is unknown, its package is not installed, the URL holds a password, or the store
            cannot be reached.
    """

    def __init__(self, url: str):
        from fsspec.core import url_to_fs

        protocol, _, rest = url.partition("://")
        if re.match(r"[^/@]*:[^/@]*@", rest):
            hidden = re.sub(r"^[^@]*@", "…@", rest)
            do = "the URL is stored with the run: put the password into fsspec's configuration (~/.config/fsspec)"
            raise BenchError("holds a password", f"{protocol}://{hidden}", do)
        try:
            self.fs, root = url_to_fs(url)
        except (ImportError, ValueError) as error:  # fsspec names the package to install, or the unknown protocol
            raise BenchError(str(error), url) from None
        except Exception as error:  # some clients connect at once
            raise out_of_reach(url, "reached", error) from error
        self.root = root.rstrip("/")
        self.url = str(self.fs.unstrip_protocol(self.root))

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self.root.rpartition("/")[2]

    @property
    def slug(self) -> str:
        """The URL as the name of a local folder; distinct URLs give distinct names."""
        return slug(self.url, 60)

    # -- reading ------------------------------------------------------------------------------------------------

    def listing(self) -> dict[str, ListedFile]:
        """Path relative to the folder -> file, for every file below the folder."""
        self.fs.invalidate_cache()
        try:
            entries = self.fs.find(self.root, detail=True)
        except FileNotFoundError:
            return {}
        names = ((path.removeprefix(self.root).lstrip("/"), info) for path, info in entries.items())
        # A store may hold any name, so names that would lead out of the local folder are skipped.
        safe = ((name, info) for name, info in names if name and ".." not in name.split("/") and name[-1] != "/")
        return {name: ListedFile(info.get("size"), sha256(str(info).encode()).hexdigest()) for name, info in safe}

    def read(self, name: str) -> bytes | None:
        """The content of a small file; None if there is no such file."""
        try:
            return self.fs.cat_file(f"{self.root}/{name}")
        except FileNotFoundError:
            return None

    def download(self, name: str, path: Path) -> None:
        """Fetches a file to `path`, which holds the old or the new content at any moment."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, lambda part: self.fs.get_file(f"{self.root}/{name}", str(part)), durable=False)

    # -- writing ------------------------------------------------------------------------------------------------

    def upload(self, path: Path, name: str) -> None:
        """Uploads a local file."""
        self._publish(name, lambda target: self.fs.put_file(str(path), target))

    def write(self, name: str, content: bytes) -> None:
        """Uploads `content` as a file."""
        self._publish(name, lambda target: self.fs.pipe_file(target, content))

    def remove(self, name: str) -> None:
        """Removes a file if it exists."""
        try:
            self.fs.rm_file(f"{self.root}/{name}")
        except FileNotFoundError:
            return

    def _publish(self, name: str, put: Callable[[str], None]) -> None:
        """Writes a file that readers see whole or not at all."""
        folder, _, last = f"{self.root}/{name}".rpartition("/")
        if self.fs.async_impl:  # an object store: it writes whole objects, and has no folders
            put(f"{folder}/{last}")
            return
        self.fs.makedirs(folder, exist_ok=True)
        put(f"{folder}/.{last}.tmp")
        self.fs.mv(f"{folder}/.{last}.tmp", f"{folder}/{last}")


def upload_folder(folder: Path, place: Place) -> list[str]:
    """Uploads every file of a local folder.

    Returns:
        The URLs of the files.

    Raises:
        BenchError: a file could not be written.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    try:
        for name in names:
            place.upload(folder / name, name)
    except Exception as error:
        raise out_of_reach(place.url, "written", error) from error
    return [f"{place.url}/{name}" for name in names]


def is_url(text: str) -> bool:
    """Whether a text is a URL rather than a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def out_of_reach(url: str, verb: str, error: Exception) -> BenchError:
    """The error to raise when a store cannot be "reached", "read" or "written", of which `verb` is one."""
    do = "check the address, the network and the credentials"
    return BenchError(f"cannot be {verb} ({cause_of(error)})", url, do)
