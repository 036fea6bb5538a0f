"""The schema of the frames this package reads, and the words it uses for them.

*Curves*: one row per (trial, point, split, metric), with every axis of the ledger at that point.
*Evaluation*: one row per (trial, point, split, metric, prompt, sample), what pairing needs.
*Trials*: one row per trial, planned ones included, with status, cause, provenance and final axes.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.names import METRICS, SPLITS, is_metric

AXES = (
    "steps",
    "updates",
    "reward_queries",
    "reward_gradients",
    "images",
    "nfe_forward",
    "nfe_backward",
    "nfe_recompute",
    "nfe",
    "decodes",
    "flops",
    "flops_recompute",
    "train_seconds",
    "reward_seconds",
    "eval_seconds",
    "log_seconds",
    "wall_seconds",
    "device_seconds",
    "peak_memory_bytes",
    "eval_queries",
    "eval_nfe",
)
KEYS = ("trial", "method", "variant", "seed", "point", "split", "metric", "value")
EVALUATION_KEYS = ("trial", "variant", "seed", "point", "split", "metric", "prompt", "sample", "value")
TRIAL_KEYS = ("trial", "method", "variant", "seed", "status")

DONE = "done"
GOING = ("planned", "running")
BROKEN = ("failed", "diverged", "interrupted", "skipped", "pruned")
STATUSES = (*GOING, DONE, *BROKEN)

BUDGET_SECONDS = "budget_seconds"
"""What a budget of seconds counts: training and its rewards, which the ledger keeps apart; added on validation."""

SECONDS = (*(axis for axis in AXES if axis.endswith("_seconds")), BUDGET_SECONDS)
MACHINES_OWN = (*SECONDS, "peak_memory_bytes")
"""Axes that two machines never have alike."""

SPLIT_WORDS = {"train": "training prompts", "heldout": "held-out prompts"}
AXIS_WORDS = {
    "steps": "steps",
    "updates": "optimiser updates",
    "reward_queries": "reward queries",
    "reward_gradients": "reward gradients",
    "images": "images",
    "nfe": "denoiser evaluations",
    "flops": "FLOPs",
    "train_seconds": "training time",
    BUDGET_SECONDS: "training and reward time",
    "wall_seconds": "wall time",
    "eval_seconds": "evaluation time",
    "device_seconds": "device time",
    "peak_memory_bytes": "peak memory",
}


def axis_words(axis: str) -> str:
    """`reward_queries` -> "reward queries"."""
    return AXIS_WORDS.get(axis, axis.replace("_", " "))


def budget_column(axis: str) -> str:
    """The column that a budget's axis is counted on."""
    return BUDGET_SECONDS if axis == "seconds" else axis


def metrics_in(curves: pd.DataFrame) -> list[str]:
    """The metrics present: the known ones in reading order, other rewards by name after the optimised one."""
    present = set(curves["metric"].unique())
    others = sorted(present - set(METRICS))
    return [m for m in ("reward", *others, "gold", "diversity", "drift") if m in present]


def select(curves: pd.DataFrame, metric: str, split: str) -> pd.DataFrame:
    """The rows of one metric on one split, in the order of their points."""
    rows = curves[(curves["metric"] == metric) & (curves["split"] == split)]
    return rows.sort_values(["trial", "point"], kind="stable")


def runs_of(values: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where each stretch of equal neighbours begins, and where it ends."""
    if not len(values):
        return np.array([], np.intp), np.array([], np.intp)
    starts = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1]]))
    return starts, np.append(starts[1:], len(values))


def trials_in(
    rows: pd.DataFrame, columns: Sequence[str]
) -> Iterator[tuple[str, str, int, dict[str, NDArray[np.float64]]]]:
    """Trial, variant, seed and the named columns of each trial, from rows that `select` gave.

    Arrays, as a frame of each of a thousand trials takes longer than what is computed from it.
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
    """A checked copy: every axis a float column (NaN where the run did not log it), `value` float.

    Raises:
        ValueError: naming the column, value or trial at fault.
    """
    if curves.empty:
        raise ValueError("The curves frame is empty: no trial has written a point yet.")
    logged = "train_seconds" if budget_axis == BUDGET_SECONDS else budget_axis
    _require_columns(curves, (*KEYS, "status", logged), "curves")
    curves = curves.copy()
    for axis in AXES:
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
    return pd.DataFrame(columns=[*KEYS, "status", *AXES, BUDGET_SECONDS])


def validate_evaluation(evaluation: pd.DataFrame) -> pd.DataFrame:
    """A checked copy; an empty frame is allowed and means that nothing can be paired."""
    if evaluation.empty:
        return pd.DataFrame(columns=list(EVALUATION_KEYS))
    _require_columns(evaluation, EVALUATION_KEYS, "evaluation")
    evaluation = evaluation.copy()
    evaluation["value"] = _floats(evaluation, "value", "evaluation")
    _refuse_duplicates(evaluation, ["trial", "point", "split", "metric", "prompt", "sample"], "evaluation")
    return evaluation


def validate_trials(trials: pd.DataFrame, curves: pd.DataFrame) -> pd.DataFrame:
    """A checked copy with one row a trial; trials that only the curves know are added, so that none is lost."""
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
    """The curves with each trial's status as the list of trials has it, which is written last."""
    status = trials.set_index("trial")["status"]
    return curves.assign(status=curves["trial"].map(status))


def base_variant(curves: pd.DataFrame) -> str | None:
    """The variant that is the model as it came, or None."""
    names = curves.loc[curves["method"] == "base", "variant"].unique()
    return str(names[0]) if len(names) else None


def untrained_variants(curves: pd.DataFrame) -> set[str]:
    """Variants with nothing but points at step 0: `base`, and whatever else trains nothing."""
    steps = curves["steps"] if curves["steps"].notna().any() else curves["point"]
    moved = steps.groupby(curves["variant"]).max() > 0
    settled = (curves["status"] == DONE).groupby(curves["variant"]).all()
    still = set(moved.index[~moved & settled].astype(str))
    base = base_variant(curves)
    return still | {base} if base else still


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
