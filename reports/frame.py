"""The schema of the three frames that this package reads, with its checks.

*Curves*: one row per (trial, point, split, metric), with every axis of the meter at that point, and with the column
`family` of the trial's method, by which the untrained model is known.
*Evaluation*: one row per (trial, point, split, metric, prompt, sample); values are paired by prompt and sample.
*Trials*: one row per trial, planned ones included, with status, cause, provenance and final axes.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.names import BUDGET_SECONDS, CURVE_AXES, DONE, METRICS, SPLITS, STATUSES, UNTRAINED, is_metric

KEYS = ("trial", "method", "variant", "seed", "point", "split", "metric", "value")
EVALUATION_KEYS = ("trial", "variant", "seed", "point", "split", "metric", "prompt", "sample", "value")
TRIAL_KEYS = ("trial", "method", "variant", "seed", "status")


def metrics_in(curves: pd.DataFrame) -> list[str]:
    """The metrics of the frame in reading order: reward, other rewards by name, gold, diversity, drift."""
    present = set(curves["metric"].unique())
    others = sorted(present - set(METRICS))
    return [m for m in ("reward", *others, "gold", "diversity", "drift") if m in present]


def select(curves: pd.DataFrame, metric: str, split: str) -> pd.DataFrame:
    """The rows of one metric on one split, in the order of their points."""
    rows = curves[(curves["metric"] == metric) & (curves["split"] == split)]
    return rows.sort_values(["trial", "point"], kind="stable")


def runs_of(values: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """The first index of each run of equal neighbouring values, and the index after its last."""
    if not len(values):
        return np.array([], np.intp), np.array([], np.intp)
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    return starts, np.append(starts[1:], len(values))


def trials_in(
    rows: pd.DataFrame, columns: Sequence[str]
) -> Iterator[tuple[str, str, int, dict[str, NDArray[np.float64]]]]:
    """Yields each trial's name, variant, seed and named columns as arrays, from rows that `select` returned.

    Building a frame for each of a thousand trials would take longer than the statistics themselves.
    """
    names = [rows[name].to_numpy() for name in ("trial", "variant", "seed")]
    values = {name: rows[name].to_numpy() for name in columns}
    for start, end in zip(*runs_of(names[0]), strict=True):
        curve = {name: column[start:end] for name, column in values.items()}
        yield str(names[0][start]), str(names[1][start]), names[2][start], curve


def finished(curves: pd.DataFrame) -> pd.DataFrame:
    """The rows of trials that are done."""
    return curves[curves["status"] == DONE]


def validate_curves(curves: pd.DataFrame, budget_axis: str) -> pd.DataFrame:
    """Checks the frame and returns a copy: every axis a float column (NaN where the run did not log it), `value` float.

    Raises:
        ValueError: the frame breaks the schema; the message names the column, value or trial.
    """
    if curves.empty:
        raise ValueError("The curves frame is empty: no trial has written a point yet.")
    logged = "train_seconds" if budget_axis == BUDGET_SECONDS else budget_axis
    _require_columns(curves, (*KEYS, "status", logged), "curves")
    curves = curves.copy()
    for axis in CURVE_AXES:
        curves[axis] = _floats(curves, axis, "curves") if axis in curves else np.nan
    curves[BUDGET_SECONDS] = curves["train_seconds"] + curves["reward_seconds"].fillna(0.0)
    curves["value"] = _floats(curves, "value", "curves")
    _require_members(curves, "split", SPLITS, "curves")
    _require_members(curves, "status", STATUSES, "curves")
    unknown = sorted(m for m in curves["metric"].unique() if not is_metric(m))
    if unknown:
        raise ValueError(f"The curves frame has unknown metrics {unknown}; known: {', '.join(METRICS)}, reward/NAME.")
    _refuse_duplicates(curves, ["trial", "point", "split", "metric"], "curves")
    _require_forward_axis(curves, budget_axis)
    return curves


def no_curves() -> pd.DataFrame:
    """A curves frame without rows."""
    return pd.DataFrame(columns=[*KEYS, "status", *CURVE_AXES, BUDGET_SECONDS])


def validate_evaluation(evaluation: pd.DataFrame) -> pd.DataFrame:
    """Checks the frame and returns a copy; an empty frame is allowed, and then nothing is paired."""
    if evaluation.empty:
        return pd.DataFrame(columns=list(EVALUATION_KEYS))
    _require_columns(evaluation, EVALUATION_KEYS, "evaluation")
    evaluation = evaluation.copy()
    evaluation["value"] = _floats(evaluation, "value", "evaluation")
    _refuse_duplicates(evaluation, ["trial", "point", "split", "metric", "prompt", "sample"], "evaluation")
    return evaluation


def validate_trials(trials: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """Checks the frame and returns a copy with one row a trial; a trial that only has a curve gets a row too."""
    if trials.empty:
        trials = pd.DataFrame(columns=list(TRIAL_KEYS))
    _require_columns(trials, TRIAL_KEYS, "trials")
    _refuse_duplicates(trials, ["trial"], "trials")
    _require_members(trials, "status", STATUSES, "trials")
    if not curves.empty:
        known = curves.drop_duplicates("trial")
        unlisted = known[~known["trial"].isin(trials["trial"])]
        if not unlisted.empty:
            extra = unlisted[list(TRIAL_KEYS)].assign(cause="not in the list of trials; only its curve was found")
            trials = extra if trials.empty else pd.concat([trials, extra])
    trials = trials.reset_index(drop=True)
    for column in ("cause", "provenance", "axes", "identity", "damage"):
        if column not in trials:
            trials[column] = None
    return trials


def with_statuses(curves: pd.DataFrame, trials: pd.DataFrame) -> pd.DataFrame:
    """The curves with each trial's status from the trials frame, which is the later one of the two."""
    status = trials.set_index("trial")["status"]
    return curves.assign(status=curves["trial"].map(status))


def with_families(curves: pd.DataFrame, families: Mapping[str, str | None]) -> pd.DataFrame:
    """The curves with the column `family`.

    Args:
        families: method -> its family; None where it is not known.
    """
    return curves.assign(family=curves["method"].map(families))


def base_variant(curves: pd.DataFrame) -> str | None:
    """The variant that is the model as it came, or None; the column `family` says which."""
    if "family" not in curves:
        return None
    names = curves.loc[curves["family"] == UNTRAINED, "variant"].unique()
    return str(names[0]) if len(names) else None


def untrained_variants(curves: pd.DataFrame) -> set[str]:
    """The untrained model's variant, and every other whose finished trials have nothing but points at step 0."""
    steps = curves["steps"] if curves["steps"].notna().any() else curves["point"]
    moved = steps.groupby(curves["variant"]).max() > 0
    settled = (curves["status"] == DONE).groupby(curves["variant"]).all()
    untrained = set(moved.index[~moved & settled].astype(str))
    base = base_variant(curves)
    return untrained | {base} if base else untrained


def _require_columns(frame: pd.DataFrame, columns: tuple[str, ...], what: str) -> None:
    missing = [column for column in columns if column not in frame]
    if missing:
        raise ValueError(f"The {what} frame lacks {', '.join(missing)}; it has {', '.join(map(str, frame.columns))}.")


def _require_members(frame: pd.DataFrame, column: str, allowed: tuple[str, ...], what: str) -> None:
    unknown = sorted(map(str, set(frame[column].unique()) - set(allowed)))
    if unknown:
        raise ValueError(f"The {what} frame has unknown {column} {unknown}; known: {', '.join(allowed)}.")


def _refuse_duplicates(frame: pd.DataFrame, keys: list[str], what: str) -> None:
    repeated = frame[frame.duplicated(keys)]
    if not repeated.empty:
        first = ", ".join(f"{key} {repeated.iloc[0][key]}" for key in keys)
        raise ValueError(f"The {what} frame has {len(repeated)} repeated rows, the first at {first}.")


def _floats(frame: pd.DataFrame, column: str, what: str) -> pd.Series:
    try:
        return pd.to_numeric(frame[column]).astype(float)
    except (TypeError, ValueError) as error:
        raise ValueError(f"The {what} frame's {column} is not a number: {error}") from None


def _require_forward_axis(curves: pd.DataFrame, axis: str) -> None:
    order = curves.sort_values(["trial", "split", "metric", "point"], kind="stable")
    if order[axis].isna().any():
        raise ValueError(
            f"{axis}, the budget axis, is missing for trial {order.loc[order[axis].isna(), 'trial'].iloc[0]}."
        )
    backwards = order.groupby(["trial", "split", "metric"])[axis].diff() < 0
    if backwards.any():
        trial = order.loc[backwards, "trial"].iloc[0]
        raise ValueError(f"{axis} runs backwards in trial {trial}: a ledger only grows, so its curve is damaged.")
