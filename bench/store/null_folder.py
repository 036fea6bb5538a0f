"""The trial folder of a worker that is not the first of its group."""

from pathlib import Path
from typing import Any

from bench.store.records import Point


class NullFolder:
    """Stands in for `TrialFolder` in every worker but the first: nothing is written, and nothing is read."""

    adapter = Path()

    def load_checkpoint(self) -> None:
        """The first worker's is everyone's."""

    def cut(self, after_point: int) -> None:
        pass

    def read_curve(self) -> list[Point]:
        """What is observed is observed by the first worker."""
        return []

    def heartbeat(self, progress: float | None = None, latest: float | None = None) -> None:
        pass

    def append_point(self, *args: Any) -> None:
        pass

    def warn(self, about: str, point: int, text: str) -> None:
        pass

    def write_evaluation(self, rows: Any) -> None:
        pass

    def save_picture(self, *args: Any) -> None:
        pass

    def save_checkpoint(self, payload: dict[str, Any]) -> None:
        pass
