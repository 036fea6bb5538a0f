"""Figures of over-optimisation: the reward against drift and diversity, and gold against the reward.

Each line is a trial's course through training, from a hollow ring (untrained) to a dot (the end). For methods whose
gold fell, a diamond marks where it was highest.
"""

from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from reports.figures.curves import MANY_POINTS, PAPER, STYLE, legend, panel_title
from reports.figures.styles import Style
from reports.formatting import capitalised, tick
from reports.frame import runs_of, select, untrained_variants
from reports.meta import Meta
from reports.names import DONE
from reports.statistics.overoptimisation import courses

PAIRS = (("drift", "reward"), ("diversity", "reward"), ("reward", "gold"))
"""(across, up)."""


def pairs(curves: pd.DataFrame) -> list[tuple[str, str]]:
    """The pairs of metrics that trained variants measured on training prompts."""
    trained = curves[~curves["variant"].isin(untrained_variants(curves))]
    present = set(trained.loc[trained["split"] == "train", "metric"])
    return [pair for pair in PAIRS if set(pair) <= present]


def turned(curves: pd.DataFrame, meta: Meta) -> dict[str, float]:
    """Variant -> the place on the budget's axis where gold was highest, for variants whose gold fell from there."""
    found = courses(curves, meta.budget_column).items()
    return {name: course.peak for name, course in found if course.mostly_fell or course.turned == course.seeds}


def figure(
    curves: pd.DataFrame,
    shown: Sequence[tuple[str, str]],
    meta: Meta,
    chosen: Mapping[str, Style],
    turns: Mapping[str, float],
    paper: bool = False,
) -> Figure:
    """The pairs beside each other, with `turned`'s marks.

    Where `paper`, on white with a legend; else without either, for a page that has its own.
    """
    with mpl.rc_context(STYLE | ({"figure.facecolor": PAPER} if paper else {})):
        drawn = Figure(figsize=(4.4 * len(shown), 3.3), layout="constrained" if paper else None)
        FigureCanvasAgg(drawn)
        # A page's figures are one to a file: their frames lie at the same place in each.
        grid = {"left": 0.16 / len(shown), "right": 1 - 0.07 / len(shown), "bottom": 0.17, "top": 0.9, "wspace": 0.2}
        panels = drawn.subplots(1, len(shown), squeeze=False, gridspec_kw=None if paper else grid)[0]
        for axes, (across, up) in zip(panels, shown, strict=True):
            _draw(axes, curves, across, up, meta, chosen, turns)
        if paper:
            untrained = untrained_variants(curves)
            legend(drawn, {variant: style for variant, style in chosen.items() if variant not in untrained})
        return drawn


def _draw(
    axes: Axes,
    curves: pd.DataFrame,
    across: str,
    up: str,
    meta: Meta,
    chosen: Mapping[str, Style],
    turns: Mapping[str, float],
) -> None:
    both = _together(curves, across, up, meta.budget_column)
    for variant, rows in both.groupby("variant", sort=False):
        style = chosen[str(variant)]
        ways = rows[["x", "y"]].to_numpy(dtype=float)
        seeds = [ways[start:end] for start, end in zip(*runs_of(rows["trial"].to_numpy()), strict=True)]
        drawn = LineCollection(seeds, colors=style.colour, linewidths=0.8, alpha=0.45, zorder=2)
        drawn.set_rasterized(len(both) > MANY_POINTS)
        axes.add_collection(drawn)
        axes.autoscale_view()
        middle = _median(rows[rows["status"].isin((DONE, "running"))])
        if not len(middle):
            continue
        axes.plot(middle["x"], middle["y"], color=style.colour, linestyle=style.dashes, linewidth=2.1, zorder=3)
        first, last = middle.iloc[0], middle.iloc[-1]
        axes.plot([first["x"]], [first["y"]], "o", color=style.colour, markerfacecolor="none", markersize=6, zorder=4)
        axes.plot([last["x"]], [last["y"]], "o", color=style.colour, markersize=6, zorder=4)
        if str(variant) in turns:
            place = middle.iloc[_nearest(middle["axis"].to_numpy(), turns[str(variant)])]
            axes.plot([place["x"]], [place["y"]], "D", color=style.colour, markersize=7.5, zorder=5)
    axes.set_title(f"{_name(up, meta)} against {_name(across, meta).lower() if across != 'reward' else 'reward'}")
    axes.set_xlabel(panel_title(across, "train", meta))
    for line in (axes.xaxis, axes.yaxis):
        line.set_major_locator(MaxNLocator(5))
        line.set_major_formatter(FuncFormatter(tick))
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    sns.despine(ax=axes)


def _name(metric: str, meta: Meta) -> str:
    words = metric if metric == "diversity" else meta.metric_words(metric)  # the axis names the features
    return capitalised(words)


def _together(curves: pd.DataFrame, across: str, up: str, axis: str) -> pd.DataFrame:
    """The points at which a trained trial has both metrics. Columns: trial, variant, status, point, axis, x, y."""
    moving = curves[~curves["variant"].isin(untrained_variants(curves))]
    x = select(moving, across, "train").rename(columns={"value": "x"})
    y = select(moving, up, "train").rename(columns={"value": "y"})[["trial", "point", "y"]]
    return (
        x.merge(y, on=["trial", "point"])
        .sort_values(["trial", "point"], kind="stable")
        .assign(axis=lambda rows: rows[axis])
    )


def _median(rows: pd.DataFrame) -> pd.DataFrame:
    """The median of x and y over seeds at each point that all seeds have."""
    seeds = rows["trial"].nunique()
    grouped = rows.groupby("point")
    middle = grouped[["x", "y", "axis"]].median()
    return middle[grouped["trial"].nunique() == seeds]


def _nearest(values: NDArray[np.float64], place: float) -> int:
    return int(np.abs(values - place).argmin())
