"""The parts of a worker's memory, predicted beside measured."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reports.formatting import number, scale_for
from reports.tables.table import Cell, Table

WHEN = ("predicted", "measured")
PARTS = ("parameters", "gradients", "optimiser", "activations")

NOTE = (
    "Predicted before the run → measured in a trial’s first training step, on the worker that needed most. Parameters "
    "are those of the denoiser, its adapter, the decoder, the text encoder and every reward; activations are the most "
    "that was alive at once beside the other three, for as many kept steps as that step drew. The process itself, "
    "kernels’ workspaces and evaluation are not in it."
)


def memory_table(trials: pd.DataFrame, order: Sequence[str]) -> Table | None:
    """A row for each variant, from its first trial with a prediction and a measurement; None where no trial has both.

    Args:
        trials: with the columns `memory`, a mapping for each worker, and `predicted`, one mapping for all workers.
        order: the variants in the order of their rows.
    """
    rows = []
    for variant in order:
        for trial in trials[trials["variant"] == variant].to_dict("records"):
            measured, predicted = trial.get("memory"), trial.get("predicted")
            if isinstance(measured, list) and measured and isinstance(predicted, Mapping):
                rows.append((variant, predicted, max(measured, key=_total)))
                break
    if not rows:
        return None
    every = [_bytes(found, part) for _, *both in rows for found in both for part in PARTS]
    scale = scale_for("bytes", [value for value in every if value])

    def cell(predicted: Mapping[str, Any], measured: Mapping[str, Any], part: str) -> Cell:
        shown = [_bytes(found, part) for found in (predicted, measured)]
        values = [None if value is None else value / scale.divisor for value in shown]
        known = {name: value for name, value in zip(WHEN, values, strict=True) if value is not None}
        return Cell(" → ".join(number(value) for value in values), known)

    headers = {part: scale.label(part) for part in PARTS}
    table_rows: list[dict[str, str | Cell]] = [
        {"method": variant, **{headers[part]: cell(predicted, measured, part) for part in PARTS}}
        for variant, predicted, measured in rows
    ]
    return Table.of("Memory of a worker", table_rows, NOTE)


def _bytes(found: Mapping[str, Any], part: str) -> float | None:
    value = found.get(part)
    return float(sum(value.values())) if isinstance(value, Mapping) else value


def _total(found: Mapping[str, Any]) -> float:
    return sum(_bytes(found, part) or 0 for part in PARTS)
