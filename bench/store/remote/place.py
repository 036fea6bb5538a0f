"""A folder behind a URL that fsspec can reach: reading, writing and listing, for `mirror.py` and `fetching.py`."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench.errors import BenchError, cause_of
from bench.store.files import slug

ATOMIC_STORES = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "hf"})
"""Protocols of stores that write atomically. In others, a file is written under a temporary name, then renamed."""

CHANGE_KEYS = (
    "ETag",
    "etag",
    "generation",
    "version_id",
    "mtime",
    "LastModified",
    "last_modified",
    "modified",
    "updated",
    "created",
)
"""Keys of a listing's entry whose values change when the file is written again."""

ATTEMPTS = 3
PAUSE_SECONDS = 1.0
"""The pause before the second attempt; the one before the third is three times as long. fsspec's clients of S3, GCS and
Azure retry by themselves as well."""

FINAL_ERRORS = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
"""Errors that are not retried, as another attempt would give the same."""

REACH_ADVICE = "check the address, the network and the credentials"

T = TypeVar("T")


@dataclass(frozen=True)
class ListedFile:
    """The entry of a file in a store's listing.

    Attributes:
        size: bytes; None if the store does not give it.
        mark: a text that changes with the content (ETag, modification time); None if the store gives none.
    """

    size: int | None
    mark: str | None


class Place:
    """A folder behind a URL.

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
        except ImportError as error:
            raise BenchError(str(error), url, _remedy(protocol)) from None
        except ValueError as error:
            raise BenchError(str(error), url, "for example s3://bucket/folder, or a local folder") from None
        except Exception as error:  # some clients connect at once
            raise BenchError(f"cannot be reached ({cause_of(error)})", url, REACH_ADVICE) from error
        self.root = root.rstrip("/")
        self.url = str(self.fs.unstrip_protocol(self.root))
        self.atomic = protocol in ATOMIC_STORES

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

    def url_of(self, name: str) -> str:
        """The URL of a file in the folder."""
        return f"{self.url}/{name}"

    # -- reading ------------------------------------------------------------------------------------------------

    def listing(self) -> dict[str, ListedFile]:
        """Path relative to the folder -> file, for every file below the folder."""

        def find() -> dict[str, Any]:
            self.fs.invalidate_cache()
            return self.fs.find(self.root, detail=True)

        try:
            entries = retried(find)
        except FileNotFoundError:
            return {}
        names = ((path.removeprefix(self.root).lstrip("/"), info) for path, info in entries.items())
        # A store may hold any name, so names that would lead out of the local folder are skipped.
        safe = ((name, info) for name, info in names if name and ".." not in name.split("/") and name[-1] != "/")
        return {name: _listed_file(info) for name, info in safe}

    def read(self, name: str) -> bytes | None:
        """The content of a small file; None if there is no such file."""
        try:
            return retried(lambda: self.fs.cat_file(f"{self.root}/{name}"))
        except FileNotFoundError:
            return None

    def download(self, name: str, path: Path) -> None:
        """Fetches a file to `path`, which holds the old or the new content at any moment."""
        temporary = path.with_name(f".{path.name}.tmp")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            retried(lambda: self.fs.get_file(f"{self.root}/{name}", str(temporary)))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    # -- writing ------------------------------------------------------------------------------------------------

    def upload(self, path: Path, name: str) -> None:
        """Uploads a local file."""
        self._publish(name, lambda target: self.fs.put_file(str(path), target))

    def write(self, name: str, content: bytes) -> None:
        """Uploads `content` as a file."""
        self._publish(name, lambda target: self.fs.pipe_file(target, content))

    def create(self, name: str, content: bytes) -> bool:
        """Uploads a small file unless it exists; returns False if it does.

        Atomic on S3, Google Storage, Azure and a local disk; elsewhere the check and the upload are separate.
        """
        target = f"{self.root}/{name}"
        try:
            if self.fs.async_impl:
                self.fs.pipe_file(target, content, mode="create")
            else:
                self._make_parent(target)
                with self.fs.open(target, "xb") as file:
                    file.write(content)
        except FileExistsError:
            return False
        except (TypeError, ValueError, NotImplementedError):  # the client has no exclusive writing
            if self.fs.exists(target):
                return False
            self.write(name, content)
        return True

    def remove(self, name: str) -> None:
        """Removes a file if it exists."""
        try:
            retried(lambda: self.fs.rm_file(f"{self.root}/{name}"))
        except FileNotFoundError:
            return

    def _publish(self, name: str, put: Callable[[str], None]) -> None:
        target = f"{self.root}/{name}"
        if self.atomic:
            retried(lambda: put(target))
            return
        folder, _, last = target.rpartition("/")
        temporary = f"{folder}/.{last}.tmp"

        def write_and_rename() -> None:
            self._make_parent(target)
            put(temporary)
            self.fs.mv(temporary, target)

        retried(write_and_rename)

    def _make_parent(self, target: str) -> None:
        if not self.atomic:  # object stores have no folders: makedirs could create a bucket there
            self.fs.makedirs(target.rpartition("/")[0], exist_ok=True)


def upload_folder(folder: Path, place: Place) -> list[str]:
    """Uploads every file of a local folder.

    Returns:
        The URLs of the files.

    Raises:
        BenchError: a file could not be written.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    for name in names:
        try:
            place.upload(folder / name, name)
        except Exception as error:
            raise out_of_reach(place, "written", error) from error
    return [place.url_of(name) for name in names]


def is_url(text: str) -> bool:
    """Whether a text is a URL rather than a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def retried(call: Callable[[], T]) -> T:
    """The result of `call`, which is tried up to `ATTEMPTS` times; raises the last error."""
    for attempt in range(ATTEMPTS - 1):
        try:
            return call()
        except FINAL_ERRORS:
            raise
        except Exception:  # every client has its own error classes
            time.sleep(PAUSE_SECONDS * 3**attempt)
    return call()


def out_of_reach(place: Place, verb: str, error: Exception) -> BenchError:
    """The error to raise when a store cannot be read or written.

    Args:
        verb: "read" or "written".
        error: the client's error.
    """
    return BenchError(f"cannot be {verb} ({cause_of(error)})", place.url, REACH_ADVICE)


def _listed_file(info: dict[str, Any]) -> ListedFile:
    marks = [str(info[key]) for key in CHANGE_KEYS if info.get(key) is not None]
    return ListedFile(info.get("size"), " ".join(marks) or None)


def _remedy(protocol: str) -> str | None:
    """The command that installs the package that fsspec needs for a protocol; None if unknown."""
    from fsspec.registry import known_implementations

    package = known_implementations.get(protocol, {}).get("class", "fsspec").split(".")[0]
    return None if package == "fsspec" else f"pip install {package}"
