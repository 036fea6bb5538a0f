"""Sweep files and their names: those installed with the package, and those in `sweeps/` of the working folder."""

import difflib
from pathlib import Path

from bench.errors import BenchError

SHIPPED = Path(__file__).resolve().parents[2] / "sweeps"
MOST_NAMES = 20
"""As many sweeps an error lists."""


def shipped() -> dict[str, Path]:
    """The sweeps installed with the package, by name: `quickstart` is the file `sweeps/quickstart.yaml` there."""
    return {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}


def sweep_files() -> dict[str, Path]:
    """The sweeps that `bench list sweeps` lists, by what a command line calls them.

    The installed ones are called by their names, those in `sweeps/` of the working folder by their paths.
    """
    here = Path("sweeps")
    own = [] if here.resolve() == SHIPPED else sorted(here.glob("*.yaml"))
    return shipped() | {str(path): path for path in own}


def find_sweep(path: Path) -> Path:
    """The sweep file at `path`; where there is none, the installed sweep that `path` names.

    Raises:
        BenchError: there is neither; the error suggests a close name and lists what there is.
    """
    installed = shipped().get(str(path))
    if installed is not None and not path.is_file():
        return installed
    try:
        path.stat()
    except FileNotFoundError:
        raise BenchError("there is no such file, and no installed sweep of that name", str(path), _near(path)) from None
    except (OSError, ValueError):
        pass  # whatever else is wrong with the path, reading it says so
    return path


def _near(path: Path) -> str:
    beside = sorted(path.parent.glob("*.y*ml")) if path.parent.is_dir() else []
    names = list(dict.fromkeys([*sweep_files(), *map(str, beside)]))
    by_stem = {Path(name).stem: name for name in names}  # of two with one stem, the one beside `path`
    close = difflib.get_close_matches(path.stem, by_stem, n=1)
    hint = f"did you mean {by_stem[close[0]]}? " if close else ""
    more = ", ..." if len(names) > MOST_NAMES else ""
    return f"{hint}There are {', '.join(names[:MOST_NAMES])}{more}"
