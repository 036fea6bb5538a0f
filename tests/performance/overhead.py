"""What Ray costs a trial: the same trial under Ray and inline, two at once and one after the other, and the start-up.

    python -m tests.performance.overhead [--pairs 5] [--queries 2048] [--json FILE]

Every run is a `bench run` of its own on the embedded model, with one thread of arithmetic, on a machine that should do
nothing else. The two of a pair follow each other and take turns in coming first, so that what changes slowly on the
machine falls on both.

- seconds of training, Ray over inline: the meter's training seconds of one trial, alone. Evaluation is left out.
- two trials, one after the other over at once: the wall's seconds from the first evaluation to the end, inline for each
  trial and added, under Ray of both together. Two cores; at best 2. Start-up and loading the model are left out.
- start-up: from the command to the start of the first trial, and to its first point, when the model is loaded and the
  first evaluation begins.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.store.provenance import usable_cores
from bench.store.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
MOST_OVERHEAD = 0.03
LEAST_SPEED_UP = 1.6


@dataclass(frozen=True)
class Run:
    """One `bench run`.

    Attributes:
        train_seconds: of all its trials, as their meters have them.
        one_by_one: seconds from a trial's first evaluation to its end, added over trials.
        together: seconds from the earliest first evaluation to the latest end.
        start: seconds from the command to the first trial's start.
        first_point: seconds from the command to the first trial's first point.
    """

    train_seconds: float
    one_by_one: float
    together: float
    start: float
    first_point: float


@dataclass(frozen=True)
class Ratio:
    """Median and range over the pairs."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Ratio":
        return cls(statistics.median(values), min(values), max(values))


def run(executor: str, seeds: int, queries: int, folder: Path) -> Run:
    """Runs `seeds` trials of AlignProp on the embedded model, `queries` reward queries each."""
    out = folder / "run"
    command = [sys.executable, "-c", "from bench.cli import main; main()", "run", str(ROOT / "sweeps/quickstart.yaml")]
    settings = {
        "methods": "[{name: alignprop}]",
        "seeds": list(range(seeds)),
        "budget.reward_queries": queries,
        "evaluate.every": queries,
        "evaluate.images": 1,
        "resources.cpus": 1,
    }
    command += ["--executor", executor, "--out", str(out)]
    command += [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    begun = time.time()
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\nended with {done.returncode}:\n{done.stderr[-2000:]}")
    found = RunFolder.open(out)
    rows = [trial.row() for trial in found.trials()]
    # A point's samples are its last trace before the next step: written once, when it had been evaluated.
    evaluated = [(found.trial(row["trial"]).samples / "point-0000").stat().st_mtime for row in rows]
    first = min(range(seeds), key=lambda index: evaluated[index])
    evaluation = found.trial(rows[first]["trial"]).read_curve()[0].axes["eval_seconds"]
    return Run(
        train_seconds=sum(row["axes"]["train_seconds"] for row in rows),
        one_by_one=sum(row["finished"] - since for row, since in zip(rows, evaluated, strict=True)),
        together=max(row["finished"] for row in rows) - min(evaluated),
        start=min(row["started"] for row in rows) - begun,
        first_point=evaluated[first] - evaluation - begun,
    )


def alternating(names: tuple[str, str], pairs: int) -> list[tuple[str, str]]:
    """The order within each pair."""
    return [names if pair % 2 == 0 else (names[1], names[0]) for pair in range(pairs)]


def measure(pairs: int, queries: int, parallel: bool) -> dict[str, Any]:
    """All figures; `parallel` False leaves out the two trials at once."""
    alone: dict[str, list[Run]] = {"ray": [], "inline": []}
    for order in alternating(("ray", "inline"), pairs):
        for executor in order:
            alone[executor].append(_said(executor, 1, queries))
    found: dict[str, Any] = {
        "alone": {name: [asdict(each) for each in runs] for name, runs in alone.items()},
        "overhead": Ratio.of([r.train_seconds / i.train_seconds for r, i in zip(*alone.values(), strict=True)]),
        "first_point": {name: Ratio.of([each.first_point for each in runs]) for name, runs in alone.items()},
        "start": {name: Ratio.of([each.start for each in runs]) for name, runs in alone.items()},
    }
    if parallel:
        both: dict[str, list[Run]] = {"inline": [], "ray": []}
        for order in alternating(("inline", "ray"), pairs):
            for executor in order:
                both[executor].append(_said(executor, 2, queries))
        found["both"] = {name: [asdict(each) for each in runs] for name, runs in both.items()}
        found["speed_up"] = Ratio.of([i.one_by_one / r.together for i, r in zip(*both.values(), strict=True)])
    return found


def _said(executor: str, seeds: int, queries: int) -> Run:
    with tempfile.TemporaryDirectory() as folder:
        found = run(executor, seeds, queries, Path(folder))
    print(
        f"{executor:7} {seeds} trial{'s' * (seeds > 1)}: {found.train_seconds:.2f} s of training, "
        f"{found.together:.2f} s in all, first point begun after {found.first_point:.2f} s",
        file=sys.stderr,
        flush=True,
    )
    return found


def table(found: dict[str, Any], pairs: int) -> str:
    def row(words: str, ratio: Ratio, wanted: str = "") -> str:
        return f"{words:58}{ratio.median:8.3f}  ({ratio.low:.3f} to {ratio.high:.3f}){wanted}"

    lines = [f"{'':58}{'median':>8}  (range over {pairs} {'pair' if pairs == 1 else 'pairs'})"]
    lines.append(row("training seconds of a trial, Ray / inline", found["overhead"], f"; ≤ {1 + MOST_OVERHEAD:.2f}"))
    if "speed_up" in found:
        words = "two trials, one after the other / at once under Ray"
        lines.append(row(words, found["speed_up"], f"; ≥ {LEAST_SPEED_UP:.1f}"))
    for name in ("ray", "inline"):
        lines.append(row(f"start-up, seconds, {name}: to the first trial", found["start"][name]))
        lines.append(row(f"start-up, seconds, {name}: to its first point", found["first_point"][name]))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="A trial under Ray beside the same trial inline.")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--queries", type=int, default=2048, help="reward queries a trial; about a minute by default")
    parser.add_argument("--alone", action="store_true", help="leave out the two trials at once")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args()
    if not given.alone and usable_cores() < 2:
        parser.error("two trials at once need two cores; --alone leaves them out")
    found = measure(given.pairs, given.queries, not given.alone)
    print(table(found, given.pairs))
    if given.json:
        record = {"pairs": given.pairs, "queries": given.queries, **found}
        given.json.write_text(json.dumps(record, indent=2, default=asdict) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
