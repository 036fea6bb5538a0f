"""Stored results in the order in which they were made: runs, baselines, or the versions of a baseline in git."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from bench.errors import BenchError, NotComparableError
from bench.results.baselines import read_baseline, read_run
from bench.store.run_folder import RunFolder
from reports.frame import finished, untrained_variants
from reports.regression.baseline import Baseline
from reports.regression.history import COLUMNS
from reports.regression.measures import TO_TARGET, measure
from reports.regression.verdict import differences


def collect(paths: Sequence[Path]) -> tuple[pd.DataFrame, str, list[str]]:
    """The figures of every result as `find_steps` takes them, the budget's axis, and what was left out.

    Args:
        paths: run folders, folders of them, and baseline files; one baseline file alone stands for its versions in git.

    Raises:
        BenchError: there is nothing to read.
        NotComparableError: no result shares the newest one's protocol.
    """

    found = list(_versions(paths[0])) if len(paths) == 1 and paths[0].suffix == ".json" else []
    results = sorted(found or [result for path in paths for result in _results(path)], key=lambda r: str(r["time"]))
    if not results:
        raise BenchError("holds no result", ", ".join(map(str, paths)), "name run folders or baseline files")
    if len(results) == 1:
        raise BenchError("is one result, and a history needs several", str(results[0]["result"]), "name more of them")
    newest, kept, left = results[-1], [], []
    for result in results:
        others = differences(newest["protocol"], result["protocol"])
        if others:
            left.append(f"{result['result']}: {others[0]}")
        else:
            kept.append(result)
    if len(kept) < 2:
        raise NotComparableError("no other result has the newest one's protocol", do=left[0])
    rows = [
        {**{key: result[key] for key in ("result", "time", "commit")}, "variant": v, "statistic": s, "value": value}
        for result in kept
        for (v, s), value in result["figures"].items()
        # The cost to another target is another figure.
        if s != TO_TARGET or result["targets"].get(v) == newest["targets"].get(v)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)), str(newest["axis"]), left


def _results(path: Path) -> Iterator[dict[str, Any]]:
    if path.suffix == ".json":
        yield _of_baseline(read_baseline(path), str(path))
    elif RunFolder(path).exists():
        yield _of_run(RunFolder(path), str(path))
    elif path.is_dir():
        for child in sorted(path.iterdir()):
            if child.suffix == ".json" or RunFolder(child).exists():
                yield from _results(child)
    else:
        RunFolder.open(path)


def _versions(path: Path) -> Iterator[dict[str, Any]]:
    """Every committed version of a baseline, the oldest first, and the file as it is now if it differs."""
    log = _git(path, "log", "--reverse", "--format=%H %cI", "--", path.name)
    last = None
    for line in (log or "").splitlines():
        commit, time = line.split()
        last = _git(path, "show", f"{commit}:./{path.name}")
        try:
            baseline = Baseline.model_validate(json.loads(last or ""))
        except ValueError:
            continue  # another format, or deleted there
        utc = datetime.fromisoformat(time).astimezone(UTC).isoformat()
        yield {**_of_baseline(baseline, commit[:12]), "time": utc, "commit": commit}
    if last is None or path.read_text(encoding="utf-8").strip() != last.strip():
        yield {**_of_baseline(read_baseline(path), str(path)), "time": datetime.now(UTC).isoformat()}


def _of_baseline(baseline: Baseline, name: str) -> dict[str, Any]:
    return {
        "result": name,
        "time": str(baseline.provenance.get("saved", "")),
        "commit": baseline.provenance.get("commit"),
        "protocol": baseline.protocol,
        "axis": baseline.axis,
        "targets": {variant: entry.target for variant, entry in baseline.methods.items()},
        "figures": {
            (variant, statistic): sum(figure.values.values()) / len(figure.values)
            for variant, entry in baseline.methods.items()
            for statistic, figure in entry.statistics.items()
        },
    }


def _of_run(run: RunFolder, name: str) -> dict[str, Any]:
    """Finished trials only; a run's time is when its last trial changed."""
    stored = read_run(run)
    times = [time for row in stored.trials.to_dict("records") if (time := row.get("updated")) == time]
    figures: dict[tuple[str, str], float] = {}
    if not stored.curves.empty:
        still = untrained_variants(stored.curves)
        for variant, rows in finished(stored.curves).groupby("variant", sort=False):
            target = None if variant in still else stored.about.target
            taken = measure(rows, stored.evaluation.iloc[:0], stored.axis, target=target)
            known = {s: v for s, v in taken.values.items() if s != TO_TARGET or not taken.censored}
            figures |= {(str(variant), s): sum(v.values()) / len(v) for s, v in known.items()}
    return {
        "result": name,
        "time": datetime.fromtimestamp(max([t for t in times if t is not None], default=0.0), UTC).isoformat(),
        "commit": stored.provenance.get("commit"),
        "protocol": stored.protocol,
        "axis": stored.axis,
        "targets": {variant: stored.about.target for variant, _ in figures},
        "figures": figures,
    }


def _git(path: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=path.absolute().parent, capture_output=True, text=True, timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
