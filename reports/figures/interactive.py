"""The data of the page's curves as JSON, which `interactive.js` draws with uPlot (vendor/uplot, MIT).

A trial is its axes and values point by point. The page computes medians and ranges, as its axes can be switched.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from reports.figures.curves import panel_title, wants_log
from reports.figures.styles import Style
from reports.formatting import scale_for
from reports.frame import runs_of, untrained_variants
from reports.meta import Meta
from reports.names import STOPPED, axis_words

MOST_NUMBERS = 300_000
"""Most numbers of a page, about 2 MB. Above, every trial is thinned to the same number of points, keeping both ends."""


def payload(
    curves: pd.DataFrame,
    axes: Sequence[str],
    pairs: Sequence[tuple[str, str]],
    meta: Meta,
    chosen: Mapping[str, Style],
    targets: Mapping[str, float],
    main_panels: int,
) -> dict[str, Any]:
    """The data of the page's curves: `axes`, `panels`, `variants`, `trials`, `targets`, `main`."""
    untrained = untrained_variants(curves)
    moving = curves[~curves["variant"].isin(untrained)]
    variants = list(chosen)
    scales = {axis: scale_for(axis, moving.groupby("trial")[axis].max()) for axis in axes}
    wide = _wide(curves, axes, pairs)
    starts, ends = runs_of(wide["trial"].to_numpy())
    most = max(2, MOST_NUMBERS // max(1, (len(axes) + len(pairs)) * len(starts)))
    about = {name: wide[name].to_numpy() for name in ("trial", "variant", "seed", "status")}
    across = [wide[axis].to_numpy(dtype=float) / scales[axis].divisor for axis in axes]
    up = [wide[pair].to_numpy(dtype=float) for pair in pairs]
    trials = []
    for start, end in zip(starts, ends, strict=True):  # arrays, as a frame for each of a thousand trials is slow
        kept = start + _thinned(end - start, most)
        trials.append({
            "name": str(about["trial"][start]), "variant": variants.index(str(about["variant"][start])),
            "seed": str(about["seed"][start]), "stopped": about["status"][start] in STOPPED,
            "x": [_numbers(values[kept]) for values in across], "y": [_numbers(values[kept]) for values in up],
        })  # fmt: skip
    return {
        "axes": [{"key": axis, "words": axis_words(axis), "label": scales[axis].label(axis_words(axis)),
                  "log": wants_log(moving, axis)} for axis in axes],
        "panels": [{"title": panel_title(metric, split, meta), "target": (metric, split) == ("reward", "train")}
                   for metric, split in pairs],
        "variants": [{"name": v, "colour": chosen[v].colour, "dark": chosen[v].dark, "still": v in untrained,
                      "dash": [] if isinstance(chosen[v].dashes, str) else [2 * d for d in chosen[v].dashes[1]]}
                     for v in variants],
        "trials": trials,
        "targets": [{"value": value, "of": variants.index(name) if name in variants else None}
                    for name, value in targets.items()],
        "main": main_panels,
    }  # fmt: skip


def as_json(data: Mapping[str, Any]) -> str:
    """The data as JSON that is safe inside a script element."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False, ensure_ascii=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _wide(curves: pd.DataFrame, axes: Sequence[str], pairs: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """A row for each (trial, point) with its axes, and a column for each (metric, split)."""
    keys = ["trial", "point"]
    rows = curves.sort_values(keys, kind="stable")
    first = ((rows["trial"] != rows["trial"].shift()) | (rows["point"] != rows["point"].shift())).to_numpy()
    place = first.cumsum() - 1
    about = rows.loc[first, [*keys, "variant", "seed", "status", *axes]].copy()
    metric, split, value = (rows[name].to_numpy() for name in ("metric", "split", "value"))
    for pair in pairs:
        own = (metric == pair[0]) & (split == pair[1])
        column = np.full(len(about), np.nan)
        column[place[own]] = value[own]
        about[pair] = column
    return about


def _thinned(count: int, most: int) -> NDArray[np.intp]:
    return np.arange(count) if count <= most else np.unique(np.linspace(0, count - 1, most).round().astype(int))


def _numbers(values: NDArray[np.float64]) -> list[float | None]:
    return [float(f"{v:.5g}") if math.isfinite(v) else None for v in values.tolist()]
