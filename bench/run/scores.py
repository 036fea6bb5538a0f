"""Scores that are NaN or infinite: whose they are and how many, in words."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    import pandas as pd

    from bench.build.trial_spec import Trial


def not_finite(label: str, scores: Tensor, parts: Mapping[str, Tensor]) -> str | None:
    """What of a reward's scores is not finite, naming the parts that it comes from; None where all are.

    Args:
        label: the reward's.
        scores: `[B]`.
        parts: label -> scores `[B]` of what the reward is made of.
    """
    if bool(scores.detach().isfinite().all()):
        return None
    own = {name: part for name, part in parts.items() if not bool(part.detach().isfinite().all())}
    made = "".join(f"; its part {name!r} gave {_counted(part)}" for name, part in own.items())
    return f"reward {label!r} gave {_counted(scores)}{made}"


def _counted(scores: Tensor) -> str:
    return _told(len(scores), int(scores.detach().isnan().sum()), int(scores.detach().isinf().sum()))


def _told(total: int, nan: int, infinite: int) -> str:
    kinds = [f"{count} {word}" for count, word in ((nan, "NaN"), (infinite, "infinite")) if count]
    scores = "score that is" if nan + infinite == 1 else "scores that are"
    return f"{nan + infinite} {scores} not finite ({' and '.join(kinds)}) of {total}"


def odd_columns(rows: "pd.DataFrame", trial: "Trial") -> dict[str, str]:
    """Metric -> what of an evaluation's values is not finite, for the metrics of which something is not.

    Args:
        rows: of `bench.run.evaluation.Evaluation`.
    """
    import numpy as np

    found = {}
    for metric, values in rows.groupby("metric", sort=False)["value"]:
        nan, infinite = int(values.isna().sum()), int(np.isinf(values).sum())
        if nan + infinite:
            found[str(metric)] = f"{_named(str(metric), trial)} gave {_told(len(values), nan, infinite)}"
    return found


def _named(metric: str, trial: "Trial") -> str:
    if metric == "gold" and trial.gold:
        return f"gold reward {trial.gold.label!r}"
    kind, _, label = metric.partition("/")
    return f"{kind} {label!r}" if label else metric
