"""Many trials' curves and evaluations as one frame each, a column at a time: a dictionary a row would be slow."""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from reports.frame import AXES

RESULT_COLUMNS = ("sweep", "trial", "method", "variant", "seed", "status", "point", "split", "metric", "value")
EVALUATION_COLUMNS = ("trial", "method", "variant", "seed", "point", "split", "metric", "prompt", "sample", "value")
OF_TRIALS = ("sweep", "trial", "method", "variant", "seed")
WORDS = ("split", "metric", "prompt")


class Tidy:
    """Builds the tidy frame, one row per (trial, point, split, metric), a trial at a time.

    An axis that a point did not log, as those of older versions do not log every one, is NaN: what is not known to have
    been spent is not zero.
    """

    def __init__(self) -> None:
        self.trials: dict[str, list[Any]] = {name: [] for name in (*OF_TRIALS, "status")}
        self.points: dict[str, list[Any]] = {name: [] for name in ("point", *AXES)}
        self.rows: dict[str, list[Any]] = {name: [] for name in ("split", "metric", "value")}
        self.rows_of_trials: list[int] = []
        self.rows_of_points: list[int] = []

    def add(self, planned: Mapping[str, Any], status: str, curve: Iterable[Mapping[str, Any]]) -> None:
        """The rows of one trial.

        Args:
            planned: its row of the plan.
            status: as it stands.
            curve: its points, as `TrialFolder.read_curve` gives them.
        """
        before = len(self.rows["value"])
        for point in curve:
            begun = len(self.rows["value"])
            for split, metrics in point["values"].items():
                self.rows["split"] += [split] * len(metrics)
                self.rows["metric"] += metrics.keys()
                self.rows["value"] += metrics.values()
            self.points["point"].append(point["point"])
            for axis in AXES:
                self.points[axis].append(point["axes"].get(axis, math.nan))
            self.rows_of_points.append(len(self.rows["value"]) - begun)
        for name in OF_TRIALS:
            self.trials[name].append(planned[name])
        self.trials["status"].append(status)
        self.rows_of_trials.append(len(self.rows["value"]) - before)

    def frame(self) -> pd.DataFrame:
        """All that was added, in its order."""
        columns: dict[str, Any] = dict(self.rows)
        for values, repeats in ((self.trials, self.rows_of_trials), (self.points, self.rows_of_points)):
            columns |= {name: pd.Series(column).repeat(repeats).array for name, column in values.items()}
        frame = pd.DataFrame(columns)[[*RESULT_COLUMNS, *AXES]]
        # FLOPs of a paper-scale run come near the largest 64-bit integer.
        return frame.astype({"value": "float64", "flops": "float64", "flops_recompute": "float64"})


def read_evaluations(files: Sequence[tuple[Mapping[str, Any], Path]]) -> pd.DataFrame:
    """The evaluations of many trials, with the trial's columns before theirs; trials without one are left out.

    Args:
        files: a trial's row of the plan, and its file, which may not be there yet.
    """
    tables, owners = [], []
    for planned, path in files:
        table = _read(path)
        if table is not None and len(table):
            tables.append(table)
            owners.append(planned)
    if not tables:
        return pd.DataFrame(columns=list(EVALUATION_COLUMNS))
    counts = [len(table) for table in tables]
    together = pa.concat_tables(tables, promote_options="default").unify_dictionaries()
    del tables
    frame = together.to_pandas(self_destruct=True, split_blocks=True)
    for name in WORDS:
        frame[name] = _alphabetical(frame[name].astype("category"))
    for name in ("trial", "method", "variant"):
        whole = _alphabetical(pd.Series([planned[name] for planned in owners], dtype="category"))
        frame[name] = whole.repeat(counts).array
    frame["seed"] = np.repeat([planned["seed"] for planned in owners], counts)
    return frame[[*EVALUATION_COLUMNS, *(c for c in frame.columns if c not in EVALUATION_COLUMNS)]]


def _read(path: Path) -> pa.Table | None:
    try:
        with pq.ParquetFile(path, read_dictionary=list(WORDS)) as file:
            return file.read(use_threads=False).replace_schema_metadata()
    except FileNotFoundError:
        return None


def _alphabetical(column: pd.Series) -> pd.Series:
    return column.cat.reorder_categories(sorted(column.cat.categories))
