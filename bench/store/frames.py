"""Curves and evaluations of many trials as data frames, built by columns: one dictionary per row would be slow."""

import errno
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.errors import one_line
from bench.store.damage import DamagedFileError, unreadable
from bench.store.records import PlannedTrial, Point
from reports.names import CURVE_AXES

RESULT_COLUMNS = ("sweep", "trial", "method", "variant", "seed", "status", "point", "split", "metric", "value")
EVALUATION_COLUMNS = ("trial", "method", "variant", "seed", "point", "split", "metric", "prompt", "sample", "value")
TRIAL_COLUMNS = ("sweep", "trial", "method", "variant", "seed")
TEXT_COLUMNS = ("split", "metric", "prompt")


class Tidy:
    """Builds the tidy frame of results, one row per (trial, point, split, metric), trial by trial.

    An axis that a point did not log (as in older versions) is NaN, not zero: the amount is unknown.
    """

    def __init__(self) -> None:
        self.trials: dict[str, list[Any]] = {name: [] for name in (*TRIAL_COLUMNS, "status")}
        self.points: dict[str, list[Any]] = {name: [] for name in ("point", *CURVE_AXES)}
        self.rows: dict[str, list[Any]] = {name: [] for name in ("split", "metric", "value")}
        self.rows_of_trials: list[int] = []
        self.rows_of_points: list[int] = []

    def add(self, planned: PlannedTrial, status: str, curve: Iterable[Point]) -> None:
        """Adds the rows of one trial.

        Args:
            planned: the trial's row of the plan.
            status: the trial's current status.
            curve: the trial's points, as `TrialFolder.read_curve` returns them.
        """
        before = len(self.rows["value"])
        for point in curve:
            first_row = len(self.rows["value"])
            for split, metrics in point.values.items():
                self.rows["split"] += [split] * len(metrics)
                self.rows["metric"] += metrics.keys()
                self.rows["value"] += metrics.values()
            self.points["point"].append(point.point)
            for axis in CURVE_AXES:
                self.points[axis].append(point.axes.get(axis, math.nan))
            self.rows_of_points.append(len(self.rows["value"]) - first_row)
        for name in TRIAL_COLUMNS:
            self.trials[name].append(getattr(planned, name))
        self.trials["status"].append(str(status))
        self.rows_of_trials.append(len(self.rows["value"]) - before)

    def frame(self) -> pd.DataFrame:
        """The frame of all added trials, in the order of adding."""
        columns: dict[str, Any] = dict(self.rows)
        for values, repeats in ((self.trials, self.rows_of_trials), (self.points, self.rows_of_points)):
            columns |= {name: pd.Series(column).repeat(repeats).array for name, column in values.items()}
        frame = pd.DataFrame(columns)[[*RESULT_COLUMNS, *CURVE_AXES]]
        # FLOPs of a paper-scale run come near the largest 64-bit integer, so they are floats.
        return frame.astype({"value": "float64", "flops": "float64", "flops_recompute": "float64"})


def read_evaluations(
    files: Sequence[tuple[PlannedTrial, Path]], accept: Callable[[str, pa.Table | None, str], bool] | None = None
) -> pd.DataFrame:
    """The evaluation rows of many trials, preceded by columns that identify the trial (`EVALUATION_COLUMNS`).

    Args:
        files: each trial's row of the plan, and its `evaluation.parquet`; missing files are left out.
        accept: decides whether a trial's table is used, from the trial's name, the table (None if there is none) and
            the file's damage ("" for none).

    Raises:
        DamagedFileError: a file cannot be read, and `accept` is None.
    """
    tables, owners = [], []
    for planned, path in files:
        table, why = None, ""
        try:
            table = read_table(path)
        except DamagedFileError as error:
            if accept is None:
                raise DamagedFileError(f"{path} {error}") from None
            why = str(error)
        if accept is not None and not accept(planned.trial, table, why):
            continue
        if table is not None and len(table):
            tables.append(table)
            owners.append(planned)
    if not tables:
        return pd.DataFrame(columns=list(EVALUATION_COLUMNS))
    counts = [len(table) for table in tables]
    joined = pa.concat_tables(tables, promote_options="default").unify_dictionaries()
    del tables
    frame = joined.to_pandas(self_destruct=True, split_blocks=True)
    for name in TEXT_COLUMNS:
        frame[name] = _alphabetical(frame[name].astype("category"))
    for name in ("trial", "method", "variant"):
        column = _alphabetical(pd.Series([getattr(planned, name) for planned in owners], dtype="category"))
        frame[name] = column.repeat(counts).array
    frame["seed"] = np.repeat([planned.seed for planned in owners], counts)
    return frame[[*EVALUATION_COLUMNS, *(c for c in frame.columns if c not in EVALUATION_COLUMNS)]]


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table | None:
    """One trial's evaluation, validated; None if there is no file.

    Args:
        path: the trial's `evaluation.parquet`.
        columns: the columns to read; all by default.

    Raises:
        DamagedFileError: the file is no evaluation, or lacks a part of one.
        OSError: the file cannot be read now; it may be intact.
    """
    try:
        with pq.ParquetFile(path, read_dictionary=list(TEXT_COLUMNS), page_checksum_verification=True) as file:
            _check_columns(file.schema_arrow)
            table = file.read(columns, use_threads=False).replace_schema_metadata()
            if columns is None:
                table.validate(full=True)
    except FileNotFoundError:
        return None
    except KeyError as error:  # a column of `read_dictionary` is missing
        name = error.args[0]
        name = name.decode() if isinstance(name, bytes) else name
        raise DamagedFileError(f"lacks the column {name}") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EISDIR, errno.ENOTDIR):
            raise  # a failing disk, missing rights or too few file handles: the file may be intact
        raise DamagedFileError(unreadable(path) or f"is damaged ({one_line(str(error), 80)})") from None
    keys = [name for name in table.column_names if name in ROW_COLUMNS and name != "value"]  # a NaN is stored as null
    lacking = next((name for name in keys if table[name].null_count), None)
    if lacking is not None:
        raise DamagedFileError(f"has rows without a {lacking}")
    if columns is None and _repeats(table):
        raise DamagedFileError("has repeated rows")
    return table


def points_of(path: Path) -> set[int]:
    """The numbers of the points that an evaluation has rows of.

    Raises:
        DamagedFileError: see `read_table`.
    """
    table = read_table(path, ("point",))
    return set() if table is None else set(pc.unique(table["point"]).to_pylist())


def _check_columns(schema: pa.Schema) -> None:
    lacking = [name for name in ROW_COLUMNS if name not in schema.names]
    if lacking:
        raise DamagedFileError(f"lacks the column{'s' if len(lacking) > 1 else ''} {', '.join(lacking)}")
    wrong = [name for name, is_kind in ROW_COLUMNS.items() if not is_kind(schema.field(name).type)]
    if wrong:
        raise DamagedFileError(f"has {schema.field(wrong[0]).type} for {wrong[0]}")


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


ROW_COLUMNS: Mapping[str, Callable[[pa.DataType], bool]] = {
    "point": pa.types.is_integer,
    **dict.fromkeys(TEXT_COLUMNS, _is_text),
    "sample": pa.types.is_integer,
    "value": _is_number,
}
"""The columns of `evaluation.parquet`, each with a check of its type."""


def _repeats(table: pa.Table) -> bool:
    """Whether a row occurs twice. Rows are compared only if points differ in their number of rows, as this is slow."""
    counts = pc.value_counts(table["point"]).field("counts")
    if len(pc.unique(counts)) <= 1:
        return False
    return bool(table.select([name for name in ROW_COLUMNS if name != "value"]).to_pandas().duplicated().any())


def _alphabetical(column: pd.Series) -> pd.Series:
    return column.cat.reorder_categories(sorted(column.cat.categories))
