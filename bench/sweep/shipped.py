"""Where the sweeps are that can be listed."""

from pathlib import Path


def sweep_files() -> list[Path]:
    """Sweep files in `sweeps/`, here or in the checkout this code runs from, sorted."""
    here = Path("sweeps")
    shipped = Path(__file__).resolve().parents[1] / "sweeps"
    return sorted((here if here.is_dir() else shipped).glob("*.yaml"))
