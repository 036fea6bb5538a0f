"""Where trials run: in this process (`inline`), or in actors that Ray Tune places (`ray`, the default).

An executor is one module with `execute(trials, run, command)` and `parallel(trials)`; both call `bench.run.worker`, so
the numbers do not depend on it. Progress is read from the store (`bench.run.progress`).
"""

from collections.abc import Sequence
from typing import Protocol, cast

from bench.build.trial_spec import Trial
from bench.store.run_folder import RunFolder

NAMES = ("ray", "inline")


class Executor(Protocol):
    """What a module in this folder offers."""

    def execute(self, trials: Sequence[Trial], run: RunFolder, command: str, address: str | None = None) -> None:
        """Runs every trial to its end; returns when none is left. Failures are in the store, not raised.

        Args:
            address: a running cluster to join, for an executor that knows clusters.
        """

    def parallel(self, trials: Sequence[Trial], address: str | None = None) -> int:
        """How many trials of that size run at once, if there are so many."""


def load_executor(name: str) -> Executor:
    """The executor called `name`; Ray is imported for `ray` only."""
    from importlib import import_module

    module = {"ray": "ray_tune", "inline": "inline"}[name]
    return cast(Executor, import_module(f"bench.run.executors.{module}"))
