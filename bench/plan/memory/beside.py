"""A run's memory, predicted by a process beside it: seconds a method and half a gigabyte that the driver need not have.

The process takes what the trials leave of the cores; what it has not predicted by their end is left out of the report.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from bench.build.trial_spec import Trial
from bench.errors import BenchError

if TYPE_CHECKING:
    from bench.store.run_folder import RunFolder

NICENESS = 15
LONGEST_WAIT_SECONDS = 20.0
"""For what is left to predict when all trials have ended, and no longer than they took."""


class Prediction:
    """Variant -> its memory as `bench plan --dry` tells it, of the variants that train; None where it cannot.

    A context: its process is gone after the block.

    Args:
        trials: of one run.
        known: what an earlier call predicted; not predicted again.
    """

    def __init__(self, trials: Sequence[Trial], known: Mapping[str, Any]):
        from bench.build.plugins import load_method

        self._known = dict(known)
        wanted = {trial.variant: trial for trial in reversed(trials) if trial.variant not in known}
        self._specs = {
            variant: trial.model_dump_json()
            for variant, trial in wanted.items()
            if load_method(trial.reference).trains
        }  # fmt: skip
        self._process: subprocess.Popen[str] | None = None
        self._begun = time.monotonic()

    def __enter__(self) -> "Prediction":
        if not self._specs:
            return self
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8")
        # -P: a `models` package where the command was given must not shadow ours.
        command = [sys.executable, "-P", "-m", "bench.plan.memory.beside"]
        with suppress(OSError):  # a prediction is an extra: no run is to end by it
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=self._said, stderr=subprocess.DEVNULL, text=True
            )
            assert self._process.stdin is not None
            with self._process.stdin as told:
                json.dump(self._specs, told)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._said.close()
            self._process = None

    def found(self, wait: bool) -> dict[str, Any]:
        """What is predicted by now, inside the block.

        Args:
            wait: for the rest, at most as long as the block has taken.
        """
        if self._process is None:
            return self._known
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(patience(time.monotonic() - self._begun) if wait else 0.0)
        self._said.seek(0)
        # The last line of a process that goes on may be torn.
        whole = [line for line in self._said if line.endswith("\n")]
        return {**self._known, **dict(json.loads(line) for line in whole)}


def patience(taken: float) -> float:
    """Seconds to wait for the rest of a prediction, after trials that took `taken`."""
    return min(LONGEST_WAIT_SECONDS, taken)


def known_memory(trials: Sequence[Trial], run: "RunFolder") -> dict[str, Any]:
    """What an earlier call predicted for variants that are trained as they were."""
    if not run.exists():
        return {}
    try:
        about = run.about()
    except BenchError:  # `bench run` says so, and writes the plan again
        return {}
    identities = {row.variant: row.identity for row in about.trials}
    same = {trial.variant for trial in trials if identities.get(trial.variant) == trial.identity}
    return {variant: memory for variant, memory in about.memory.items() if variant in same}


def main() -> None:
    """Reads variant -> trial from standard input and writes a line a variant."""
    specs = json.load(sys.stdin)
    os.nice(NICENESS)
    from bench.build.objects import quieten
    from bench.plan.memory.prediction import predict

    quieten()
    for variant, spec in specs.items():
        try:
            memory = predict([Trial.model_validate_json(spec)])[variant]
        except Exception:
            continue
        print(json.dumps([variant, memory and memory.as_dict()]), flush=True)


if __name__ == "__main__":
    main()
