"""The stand-in for a trial's folder in the workers of a group that write nothing."""

from pathlib import Path
from typing import Any

from bench.store.records import Point


class NullFolder:
    """A stand-in for `TrialFolder` in every worker of a group but the first: it writes nothing and reads nothing."""

    adapter = Path()

    def load_checkpoint(self) -> None:
        """Returns None: every worker of a group uses the checkpoint that the first one loads."""

    def cut(self, after_point: int) -> None:
        pass

    def read_curve(self) -> list[Point]:
        """An empty curve: only the first worker records points."""
        return []

    def heartbeat(self, progress: float | None = None, latest: float | None = None) -> None:
        pass

    def append_point(self, *args: Any) -> None:
        pass

    def warn(self, topic: str, point: int, text: str) -> None:
        pass

    def write_evaluation(self, rows: Any) -> None:
        pass

    def kept_adapter(self, point: int, only: bool = False) -> Path:
        """A path at which nothing is written."""
        return Path()

    def save_picture(self, *args: Any) -> None:
        pass

    def save_checkpoint(self, payload: dict[str, Any]) -> None:
        pass
