"""Where in its author's code an exception arose: methods and rewards are other people's, and so are their mistakes."""

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


def remember(module: str) -> None:
    """Says that a module is named as a method's or a reward's, so that its package is own code wherever it lies."""
    package = module.partition(".")[0]
    if package not in OURS:
        _packages.add(package)


def place_of(error: BaseException) -> str | None:
    """`file.py:12`: the innermost line of own code that an exception, or what it came from, passed; or None."""
    for each in reversed(list(_causes(error))):
        frames = [(frame, line) for frame, line in traceback.walk_tb(each.__traceback__) if _is_own(frame)]
        if frames:
            frame, line = frames[-1]
            return f"{Path(frame.f_code.co_filename).name}:{line}"
    return None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _is_own(frame: FrameType) -> bool:
    name = frame.f_code.co_filename
    if name.startswith("<"):
        return False
    path = Path(name)
    if str(frame.f_globals.get("__name__", "")).partition(".")[0] in _packages:
        return True
    if any(part in INSTALLED for part in path.parts) or any(path.is_relative_to(folder) for folder in _libraries):
        return False
    return not any(path.is_relative_to(_root / folder) for folder in OURS)
