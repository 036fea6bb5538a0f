"""Many trials' curves and evaluations as one frame each, a column at a time: a dictionary a row would be slow."""

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
from reports.names import AXES

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

    def add(self, planned: PlannedTrial, status: str, curve: Iterable[Point]) -> None:
        """The rows of one trial.

        Args:
            planned: its row of the plan.
            status: as it stands.
            curve: its points, as `TrialFolder.read_curve` gives them.
        """
        before = len(self.rows["value"])
        for point in curve:
            begun = len(self.rows["value"])
            for split, metrics in point.values.items():
                self.rows["split"] += [split] * len(metrics)
                self.rows["metric"] += metrics.keys()
                self.rows["value"] += metrics.values()
            self.points["point"].append(point.point)
            for axis in AXES:
                self.points[axis].append(point.axes.get(axis, math.nan))
            self.rows_of_points.append(len(self.rows["value"]) - begun)
        for name in OF_TRIALS:
            self.trials[name].append(getattr(planned, name))
        self.trials["status"].append(str(status))
        self.rows_of_trials.append(len(self.rows["value"]) - before)

    def frame(self) -> pd.DataFrame:
        """All that was added, in its order."""
        columns: dict[str, Any] = dict(self.rows)
        for values, repeats in ((self.trials, self.rows_of_trials), (self.points, self.rows_of_points)):
            columns |= {name: pd.Series(column).repeat(repeats).array for name, column in values.items()}
        frame = pd.DataFrame(columns)[[*RESULT_COLUMNS, *AXES]]
        # FLOPs of a paper-scale run come near the largest 64-bit integer.
        return frame.astype({"value": "float64", "flops": "float64", "flops_recompute": "float64"})


def read_evaluations(
    files: Sequence[tuple[PlannedTrial, Path]], judge: Callable[[str, pa.Table | None, str], bool] | None = None
) -> pd.DataFrame:
    """The evaluations of many trials, with the trial's columns before theirs; trials without one are left out.

    Args:
        files: a trial's row of the plan, and its file, which may not be there yet.
        judge: is asked of each trial, with its table (None where there is none) and what is the matter with the file
            ("" for nothing), whether the table is to be used.

    Raises:
        DamagedFileError: a file cannot be read, and there is no `judge`.
    """
    tables, owners = [], []
    for planned, path in files:
        table, why = None, ""
        try:
            table = read_table(path)
        except DamagedFileError as error:
            if judge is None:
                raise DamagedFileError(f"{path} {error}") from None
            why = str(error)
        if judge is not None and not judge(planned.trial, table, why):
            continue
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
        whole = _alphabetical(pd.Series([getattr(planned, name) for planned in owners], dtype="category"))
        frame[name] = whole.repeat(counts).array
    frame["seed"] = np.repeat([planned.seed for planned in owners], counts)
    return frame[[*EVALUATION_COLUMNS, *(c for c in frame.columns if c not in EVALUATION_COLUMNS)]]


def read_table(path: Path, columns: Sequence[str] | None = None) -> pa.Table | None:
    """One trial's evaluation, checked; None where there is no file.

    Args:
        columns: those wanted; all by default.

    Raises:
        DamagedFileError: it is no evaluation, or not all of one.
    """
    try:
        with pq.ParquetFile(path, read_dictionary=list(WORDS), page_checksum_verification=True) as file:
            _check_columns(file.schema_arrow)
            table = file.read(columns, use_threads=False).replace_schema_metadata()
            if columns is None:
                table.validate(full=True)
    except FileNotFoundError:
        return None
    except KeyError as error:  # of a column that is to be read as words
        name = error.args[0]
        name = name.decode() if isinstance(name, bytes) else name
        raise DamagedFileError(f"lacks the column {name}") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EISDIR, errno.ENOTDIR):
            raise  # the disk's own trouble, or a lack of rights or of handles: the file may be whole
        raise DamagedFileError(unreadable(path) or f"is damaged ({one_line(str(error), 80)})") from None
    keys = [name for name in table.column_names if name in OF_ROWS and name != "value"]  # a NaN is stored as null
    lacking = next((name for name in keys if table[name].null_count), None)
    if lacking is not None:
        raise DamagedFileError(f"has rows without a {lacking}")
    if columns is None and _repeats(table):
        raise DamagedFileError("has repeated rows")
    return table


def points_of(path: Path) -> set[int]:
    """The points that an evaluation has rows of.

    Raises:
        DamagedFileError: see `read_table`.
    """
    table = read_table(path, ("point",))
    return set() if table is None else set(pc.unique(table["point"]).to_pylist())


def _check_columns(schema: pa.Schema) -> None:
    lacking = [name for name in OF_ROWS if name not in schema.names]
    if lacking:
        raise DamagedFileError(f"lacks the column{'s' if len(lacking) > 1 else ''} {', '.join(lacking)}")
    wrong = [name for name, is_kind in OF_ROWS.items() if not is_kind(schema.field(name).type)]
    if wrong:
        raise DamagedFileError(f"has {schema.field(wrong[0]).type} for {wrong[0]}")


def _is_word(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_integer(kind)


OF_ROWS: Mapping[str, Callable[[pa.DataType], bool]] = {
    "point": pa.types.is_integer,
    **dict.fromkeys(WORDS, _is_word),
    "sample": pa.types.is_integer,
    "value": _is_number,
}
"""The columns of `evaluation.parquet`, and what they hold."""


def _repeats(table: pa.Table) -> bool:
    """Whether a row is there twice. Every point has as many rows as any other, or it is looked into."""
    counts = pc.value_counts(table["point"]).field("counts")
    if len(pc.unique(counts)) <= 1:
        return False
    return bool(table.select([name for name in OF_ROWS if name != "value"]).to_pandas().duplicated().any())


def _alphabetical(column: pd.Series) -> pd.Series:
    return column.cat.reorder_categories(sorted(column.cat.categories))
