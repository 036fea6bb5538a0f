"""A folder behind a URL that fsspec can reach, in the few calls that a mirror needs."""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from bench.errors import BenchError, cause_of
from bench.store.trial_folder import slug

WHOLE = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oss", "oci", "hf"})
"""Stores in which an object appears whole or not at all. Elsewhere a file is written beside its name, then renamed."""

MARKS = (
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
"""What a listing may say of a file that changes when it is written again."""

ATTEMPTS = 3
PAUSE_SECONDS = 1.0
"""Before the second attempt, three times as long before the third; fsspec's clients of S3, GCS and Azure try again
several times by themselves."""

FINAL = (FileNotFoundError, FileExistsError, PermissionError, IsADirectoryError, NotADirectoryError)
"""Errors that another attempt would only meet again."""

REACH = "check the address, the network and the credentials"

T = TypeVar("T")


@dataclass(frozen=True)
class Entry:
    """A file as the store lists it.

    Attributes:
        size: bytes; None where the store does not say.
        mark: changes with the content; None where the store says nothing that would.
    """

    size: int | None
    mark: str | None


class Place:
    """A folder behind a URL.

    Args:
        url: such as `s3://bucket/runs/x`, `gs://…`, `sftp://host/…`, `file:///…`. Keys, endpoints and the like come
            from fsspec's configuration or the client's own environment, never from the URL.

    Raises:
        BenchError: the protocol is not known, its package is not installed, the URL holds a password, or the store
            cannot be reached.
    """

    def __init__(self, url: str):
        from fsspec.core import url_to_fs

        protocol, _, rest = url.partition("://")
        if re.match(r"[^/@]*:[^/@]*@", rest):
            hidden = re.sub(r"^[^@]*@", "…@", rest)
            do = "it would be kept with the run: put it into fsspec's configuration (~/.config/fsspec)"
            raise BenchError("holds a password", f"{protocol}://{hidden}", do)
        try:
            self.fs, root = url_to_fs(url)
        except ImportError as error:
            raise BenchError(str(error), url, _remedy(protocol)) from None
        except ValueError as error:
            raise BenchError(str(error), url, "for example s3://bucket/folder, or a local folder") from None
        except Exception as error:  # some clients connect at once
            raise BenchError(f"cannot be reached ({cause_of(error)})", url, REACH) from error
        self.root = root.rstrip("/")
        self.url = str(self.fs.unstrip_protocol(self.root))
        self.whole = protocol in WHOLE

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self.root.rpartition("/")[2]

    @property
    def slug(self) -> str:
        """The URL as the name of a local folder; distinct URLs stay distinct."""
        return slug(self.url, 60)

    def beside(self, name: str) -> str:
        """The URL of a file here."""
        return f"{self.url}/{name}"

    # -- reading ------------------------------------------------------------------------------------------------

    def listing(self) -> dict[str, Entry]:
        """Every file below, by its path from here."""

        def find() -> dict[str, Any]:
            self.fs.invalidate_cache()
            return self.fs.find(self.root, detail=True)

        try:
            found = retried(find)
        except FileNotFoundError:
            return {}
        names = ((path.removeprefix(self.root).lstrip("/"), info) for path, info in found.items())
        # A store may hold any name; none may lead out of the folder it is fetched into.
        return {name: _entry(info) for name, info in names if name and ".." not in name.split("/") and name[-1] != "/"}

    def read(self, name: str) -> bytes | None:
        """A small file's content; None where there is none."""
        try:
            return retried(lambda: self.fs.cat_file(f"{self.root}/{name}"))
        except FileNotFoundError:
            return None

    def download(self, name: str, path: Path) -> None:
        """Fetches a file; `path` is the old one or the new one, never a part of it."""
        temporary = path.with_name(f".{path.name}.tmp")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            retried(lambda: self.fs.get_file(f"{self.root}/{name}", str(temporary)))
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)

    # -- writing ------------------------------------------------------------------------------------------------

    def upload(self, path: Path, name: str) -> None:
        """Puts a local file here."""
        self._publish(name, lambda target: self.fs.put_file(str(path), target))

    def write(self, name: str, content: bytes) -> None:
        """Puts `content` here."""
        self._publish(name, lambda target: self.fs.pipe_file(target, content))

    def create(self, name: str, content: bytes) -> bool:
        """Puts a small file here unless there is one already; False where there is.

        Atomic on S3, Google Storage, Azure and a local disk; elsewhere it is asked first and written then.
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
        except (TypeError, ValueError, NotImplementedError):  # the client knows no exclusive writing
            if self.fs.exists(target):
                return False
            self.write(name, content)
        return True

    def remove(self, name: str) -> None:
        """Removes a file; it may be gone already."""
        try:
            retried(lambda: self.fs.rm_file(f"{self.root}/{name}"))
        except FileNotFoundError:
            return

    def _publish(self, name: str, put: Callable[[str], None]) -> None:
        target = f"{self.root}/{name}"
        if self.whole:
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
        if not self.whole:  # where there are no folders, making one may make a bucket
            self.fs.makedirs(target.rpartition("/")[0], exist_ok=True)


def upload_folder(folder: Path, place: Place) -> list[str]:
    """Puts every file of a folder there.

    Returns:
        Their URLs.

    Raises:
        BenchError: one of them could not be written.
    """
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    for name in names:
        try:
            place.upload(folder / name, name)
        except Exception as error:
            raise out_of_reach(place, "written", error) from error
    return [place.beside(name) for name in names]


def is_url(text: str) -> bool:
    """Whether `text` names a place that is not simply a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def retried(call: Callable[[], T]) -> T:
    """The answer of `call`, asked up to `ATTEMPTS` times."""
    for attempt in range(ATTEMPTS - 1):
        try:
            return call()
        except FINAL:
            raise
        except Exception:  # every client has errors of its own
            time.sleep(PAUSE_SECONDS * 3**attempt)
    return call()


def out_of_reach(place: Place, verb: str, error: Exception) -> BenchError:
    """What to say where a store does not answer."""
    return BenchError(f"cannot be {verb} ({cause_of(error)})", place.url, REACH)


def _entry(info: dict[str, Any]) -> Entry:
    marks = [str(info[key]) for key in MARKS if info.get(key) is not None]
    return Entry(info.get("size"), " ".join(marks) or None)


def _remedy(protocol: str) -> str | None:
    """The package that fsspec needs for `protocol`."""
    from fsspec.registry import known_implementations

    package = known_implementations.get(protocol, {}).get("class", "fsspec").split(".")[0]
    return None if package == "fsspec" else f"pip install {package}"
