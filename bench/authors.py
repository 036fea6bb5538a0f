"""The line of a plug-in author's code at which an exception arose.

Methods and rewards may come from files and packages outside this project; an error in one names its own line.
"""

import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

OURS = ("bench", "methods", "models", "reports", "rewards")
INSTALLED = ("site-packages", "dist-packages")

_root = Path(__file__).parents[1]
_libraries = tuple({Path(sysconfig.get_path(name)) for name in ("stdlib", "platstdlib")})
_packages: set[str] = set()


def register(module: str) -> None:
    """Counts the package of a plug-in's module as its author's code, even where it is installed in site-packages."""
    package = module.partition(".")[0]
    if package not in OURS:
        _packages.add(package)


def place_of(error: BaseException) -> str | None:
    """The innermost line of an author's code in an exception's traceback or its causes', as `file.py:12`.

    None if the exception passed through no author's code.
    """
    for cause in reversed(list(_causes(error))):
        frames = [(frame, line) for frame, line in traceback.walk_tb(cause.__traceback__) if _is_authors(frame)]
        if frames:
            frame, line = frames[-1]
            return f"{Path(frame.f_code.co_filename).name}:{line}"
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _is_authors(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    if name.startswith("<"):
        return False
    path = Path(name)
    if str(frame.f_globals.get("__name__", "")).partition(".")[0] in _packages:
        return True
    if any(part in INSTALLED for part in path.parts) or any(path.is_relative_to(folder) for folder in _libraries):
        return False
    return not any(path.is_relative_to(_root / folder) for folder in OURS)
