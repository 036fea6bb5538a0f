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
    """Collects the figures of stored results that share the newest one's protocol.

    Args:
        paths: run folders, folders of them, and baseline files; a single baseline file stands for its versions in git.

    Returns:
        The frame of figures for `reports.regression.history.find_steps`, the budget's axis, and for every result that
        was left out a text with the reason.

    Raises:
        BenchError: there are fewer than two results.
        NotComparableError: no other result shares the newest one's protocol.
    """
    versions = list(_versions(paths[0])) if len(paths) == 1 and paths[0].suffix == ".json" else []
    results = sorted(versions or [result for path in paths for result in _results(path)], key=lambda r: str(r["time"]))
    if not results:
        raise BenchError("holds no result", ", ".join(map(str, paths)), "name run folders or baseline files")
    if len(results) == 1:
        raise BenchError("is one result, and a history needs several", str(results[0]["result"]), "name more of them")
    newest, comparable, left_out = results[-1], [], []
    for result in results:
        others = differences(newest["protocol"], result["protocol"])
        if others:
            left_out.append(f"{result['result']}: {others[0]}")
        else:
            comparable.append(result)
    if len(comparable) < 2:
        raise NotComparableError("no other result has the newest one's protocol", do=left_out[0])
    rows = [
        {**{key: result[key] for key in ("result", "time", "commit")}, "variant": v, "statistic": s, "value": value}
        for result in comparable
        for (v, s), value in result["figures"].items()
        # Costs to reach different targets are different figures.
        if s != TO_TARGET or result["targets"].get(v) == newest["targets"].get(v)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)), str(newest["axis"]), left_out


def _results(path: Path) -> Iterator[dict[str, Any]]:
    """The results at a path: a baseline, a run, or those in a folder."""
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
    """Every committed version of a baseline, oldest first, and the present file if it differs from the last one."""
    log = _git(path, "log", "--reverse", "--format=%H %cI", "--", path.name)
    last = None
    for line in (log or "").splitlines():
        commit, time = line.split()
        last = _git(path, "show", f"{commit}:./{path.name}")
        try:
            baseline = Baseline.model_validate(json.loads(last or ""))
        except ValueError:
            continue  # a version in another format, or a deletion
        utc = datetime.fromisoformat(time).astimezone(UTC).isoformat()
        yield {**_of_baseline(baseline, commit[:12]), "time": utc, "commit": commit}
    if last is None or path.read_text(encoding="utf-8").strip() != last.strip():
        yield {**_of_baseline(read_baseline(path), str(path)), "time": datetime.now(UTC).isoformat()}


def _of_baseline(baseline: Baseline, name: str) -> dict[str, Any]:
    """A baseline as a result; its figures are means over seeds."""
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
    """A run as a result: figures of its finished trials, and as time the last change of a trial."""
    stored = read_run(run)
    times = [time for row in stored.trials.to_dict("records") if (time := row.get("updated")) == time]
    figures: dict[tuple[str, str], float] = {}
    if not stored.curves.empty:
        untrained = untrained_variants(stored.curves)
        for variant, rows in finished(stored.curves).groupby("variant", sort=False):
            target = None if variant in untrained else stored.plan.target
            measured = measure(rows, stored.evaluation.iloc[:0], stored.axis, target=target)
            values = {s: v for s, v in measured.values.items() if s != TO_TARGET or not measured.censored}
            figures |= {(str(variant), s): sum(v.values()) / len(v) for s, v in values.items()}
    return {
        "result": name,
        "time": datetime.fromtimestamp(max([t for t in times if t is not None], default=0.0), UTC).isoformat(),
        "commit": stored.provenance.get("commit"),
        "protocol": stored.protocol,
        "axis": stored.axis,
        "targets": {variant: stored.plan.target for variant, _ in figures},
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
