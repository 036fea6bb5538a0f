"""Executors, which run trials: in this process (`inline`), or in actors that Ray Tune places (`ray`, the default).

An executor is a module with the functions of `Executor`. Each executor calls `bench.run.worker`, so that the numbers do
not depend on the executor. Progress is read from the store (`bench.run.progress`).
"""

from collections.abc import Sequence
from typing import Protocol, cast

from bench.build.trial_spec import Trial
from bench.store.run_folder import RunFolder

NAMES = ("ray", "inline")


class Executor(Protocol):
    """The functions of an executor's module."""

    def execute(self, trials: Sequence[Trial], run: RunFolder, command: str, address: str | None = None) -> None:
        """Runs every trial to its end. A failure is recorded in the store and not raised.

        Args:
            address: a running Ray cluster to join; only the `ray` executor can.
        """

    def parallel(self, trials: Sequence[Trial], address: str | None = None) -> int:
        """How many trials of the size of the first one can run at the same time."""


def load_executor(name: str) -> Executor:
    """The executor called `name`; Ray is imported for `ray` only."""
    from importlib import import_module

    module = {"ray": "ray_tune", "inline": "inline"}[name]
    return cast(Executor, import_module(f"bench.run.executors.{module}"))
