"""Figures of curves: every seed thin, the median bold, the range shaded, the target and the untrained model as lines.

They are drawn with matplotlib in seaborn's style, without pyplot, so that no global state changes. Files are PNG on
white; `svg.py` turns the same figures into parts of a page.
"""

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import matplotlib as mpl
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import NDArray

from reports.figures.styles import Style
from reports.formatting import Scale, capitalised, measured, scale_for, tick
from reports.frame import runs_of, select, untrained_variants
from reports.meta import Meta
from reports.names import DONE, SPLIT_WORDS, axis_words
from reports.statistics.curve import band

INK, MUTED, RULE, PAPER = "#1d2024", "#646b75", "#dfe1e4", "#ffffff"
LOG_SPREAD = 20.0  # the largest ratio of the methods' totals that a linear axis still shows well
HANDLE_INCHES, LETTER_INCHES = 0.7, 0.085  # of a legend's entry: its line and what is between two; a letter
MANY_POINTS = 1_500  # above this, seeds are drawn as pixels inside the SVG: a page has sixty panels and ten megabytes

STYLE = {
    **sns.axes_style("ticks"),
    "font.family": "sans-serif",
    "font.size": 10,
    "text.parse_math": False,  # a variant may be called anything, "$" included
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 10,
    "axes.titlecolor": INK,
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.unicode_minus": True,
    "axes.titlepad": 9,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "svg.fonttype": "none",
}


def panels(curves: pd.DataFrame) -> list[tuple[str, str]]:
    """The (metric, split) pairs that a report draws, in order: reward, gold, diversity, drift, other rewards."""
    present = set(map(tuple, curves[["metric", "split"]].drop_duplicates().to_numpy()))
    others = sorted({m for m, _ in present if str(m).startswith("reward/")})
    order = [("reward", "train"), ("reward", "heldout"), ("gold", "train"), ("gold", "heldout")]
    order += [(metric, split) for metric in ("diversity", "drift", *others) for split in ("train", "heldout")]
    return [pair for pair in order if pair in present]


def panel_title(metric: str, split: str, meta: Meta) -> str:
    """ "Reward, training prompts"."""
    return f"{capitalised(meta.metric_words(metric))}, {SPLIT_WORDS[split]}"


def panel(
    curves: pd.DataFrame,
    axis: str,
    metric: str,
    split: str,
    meta: Meta,
    chosen: Mapping[str, Style],
    targets: Mapping[str, float] | None = None,
) -> Figure:
    """The figure of one metric on one split against one axis.

    Args:
        chosen: variant -> style.
        targets: name -> reward, drawn as lines on the training reward; under a variant's name in that variant's colour.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.4, 3.0))
        FigureCanvasAgg(figure)
        # Fixed margins: a fitted layout draws everything twice, and panels beside each other line up this way.
        axes = figure.subplots(gridspec_kw={"left": 0.125, "right": 0.985, "bottom": 0.165, "top": 0.9})
        _draw(axes, curves, axis, metric, split, meta, chosen, targets or {})
        return figure


def strip(
    curves: pd.DataFrame,
    axis: str,
    pairs: Iterable[tuple[str, str]],
    meta: Meta,
    chosen: Mapping[str, Style],
    targets: Mapping[str, float],
) -> Figure:
    """The figure for a README or a paper: several panels side by side with a legend."""
    pairs = list(pairs)
    with mpl.rc_context(STYLE | {"figure.facecolor": PAPER}):
        figure = Figure(figsize=(4.1 * len(pairs), 3.4), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, (metric, split) in zip(figure.subplots(1, len(pairs), squeeze=False)[0], pairs, strict=True):
            _draw(axes, curves, axis, metric, split, meta, chosen, targets)
        legend(figure, chosen)
        return figure


def legend(figure: Figure, chosen: Mapping[str, Style]) -> None:
    """Adds the legend of the variants under a figure whose layout is constrained."""
    handles = [Line2D([], [], color=s.colour, linestyle=s.dashes, linewidth=2.2, label=v) for v, s in chosen.items()]
    widest = HANDLE_INCHES + LETTER_INCHES * max(map(len, chosen), default=0)
    fitting = max(1, int(figure.get_figwidth() / widest))
    figure.legend(handles=handles, loc="outside lower left", ncols=min(len(handles), 6, fitting), frameon=False)


def png(figure: Figure, dpi: int = 160) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": ""})
    return buffer.getvalue()


def _draw(
    axes: Axes,
    curves: pd.DataFrame,
    axis: str,
    metric: str,
    split: str,
    meta: Meta,
    chosen: Mapping[str, Style],
    targets: Mapping[str, float],
) -> None:
    rows = select(curves, metric, split)
    untrained = untrained_variants(rows)
    moving = rows[~rows["variant"].isin(untrained)]
    scale = scale_for(axis, moving.groupby("trial")[axis].max())
    moving = moving.assign(x=moving[axis] / scale.divisor)
    for variant in sorted(untrained & set(rows["variant"])):
        values = rows[rows["variant"] == variant].groupby("trial")["value"].last()
        axes.axhline(
            values.median(), color=chosen[variant].colour, linestyle=chosen[variant].dashes, linewidth=1.5, zorder=2
        )
    lines = _lines(moving)
    _seeds(axes, lines, chosen)
    _medians(axes, lines, chosen)
    if metric == "reward" and split == "train":
        for name, target in targets.items():
            _target(axes, name, target, chosen)
    _dress(axes, moving, axis, scale, panel_title(metric, split, replace(meta, diversity="")))
    if metric == "diversity":  # in the title, the features would run into the next panel's title
        axes.set_ylabel(meta.diversity)


def _target(axes: Axes, name: str, target: float, chosen: Mapping[str, Style]) -> None:
    """A dotted line: the sweep's own target with its value, a variant's final reward in that variant's colour.

    A target far above all values is named at the edge instead, as a line there would flatten the curves.
    """
    low, high = axes.get_ylim()
    far = target > high + 0.5 * (high - low)
    if not far:
        colour = chosen[name].colour if name in chosen else INK
        axes.axhline(target, color=colour, linestyle=(0, (1, 2.2)), linewidth=1.1, zorder=1.5)
    if name not in chosen:
        # In the corner that rising curves leave free; at the line's end it would lie on them.
        axes.annotate(
            f"{'↑' if far else '···'} target {measured(target)}", (0, 1), (5, -3),
            xycoords="axes fraction", textcoords="offset points", color=MUTED, fontsize=9, ha="left", va="top",
        )  # fmt: skip


@dataclass(frozen=True)
class _Line:
    """One trial on one panel."""

    variant: str
    status: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]


def _lines(moving: pd.DataFrame) -> list[_Line]:
    """The trials of a panel, taken in one pass, as grouping a frame of a thousand trials is slow."""
    starts, ends = runs_of(moving["trial"].to_numpy())
    columns = [moving[name].to_numpy() for name in ("variant", "status", "x", "value")]
    return [
        _Line(str(columns[0][i]), str(columns[1][i]), columns[2][i:j], columns[3][i:j])
        for i, j in zip(starts, ends, strict=True)
    ]


def _seeds(axes: Axes, lines: Sequence[_Line], chosen: Mapping[str, Style]) -> None:
    """Draws every seed, a collection a variant; a dot for a single point, a cross where a trial stopped unfinished."""
    many = _many(lines)
    for variant in dict.fromkeys(line.variant for line in lines):
        segments = [np.column_stack([line.x, line.y]) for line in lines if line.variant == variant]
        drawn = LineCollection(segments, colors=chosen[variant].colour, linewidths=0.8, alpha=0.55, zorder=2)
        drawn.set_rasterized(many)
        axes.add_collection(drawn, autolim=True)
    axes.autoscale_view()
    for line in lines:
        stopped = line.status not in (DONE, "running")
        finite = np.flatnonzero(np.isfinite(line.y))
        if finite.size and (stopped or len(line.x) == 1):
            x, y, colour = line.x[finite[-1]], line.y[finite[-1]], chosen[line.variant].colour
            axes.plot([x], [y], "x" if stopped else "o", color=colour, markersize=6, markeredgewidth=1.6, zorder=4)


def _medians(axes: Axes, lines: Sequence[_Line], chosen: Mapping[str, Style]) -> None:
    alive = [line for line in lines if line.status in (DONE, "running") and len(line.x) > 1]
    variants = list(dict.fromkeys(line.variant for line in alive))
    many = _many(lines)
    for variant in variants:
        points = max(40, min(200, 4000 // len(variants)))
        found = band([(line.x, line.y) for line in alive if line.variant == variant], points)
        if found is None:
            continue
        style = chosen[variant]
        shade = axes.fill_between(
            found.axis, found.low, found.high, color=style.colour, alpha=0.13, linewidth=0, zorder=1
        )
        shade.set_rasterized(many)
        axes.plot(found.axis, found.median, color=style.colour, linestyle=style.dashes, linewidth=2.3, zorder=3)


def wants_log(moving: pd.DataFrame, axis: str) -> bool:
    """Whether the methods' totals on this column differ too much for a linear axis."""
    ends = moving.groupby("variant")[axis].max()
    return bool(len(ends) > 1 and ends.min() > 0 and ends.max() / ends.min() > LOG_SPREAD)


def _many(lines: Sequence[_Line]) -> bool:
    return sum(len(line.x) for line in lines) > MANY_POINTS


def _dress(axes: Axes, moving: pd.DataFrame, axis: str, scale: Scale, title: str) -> None:
    axes.set_title(title)
    label = scale.label(axis_words(axis))
    positive = moving.loc[moving["x"] > 0, "x"]
    if wants_log(moving, "x"):
        axes.set_xscale("symlog", linthresh=positive.min(), linscale=0.5)
        label += ", log scale"
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5, min_n_ticks=3))
    if math.isfinite(positive.max() if len(positive) else math.nan):
        axes.set_xlim(left=0)
    axes.set_xlabel(label)
    axes.set_ylabel("")
    axes.xaxis.set_major_formatter(FuncFormatter(tick))
    axes.ticklabel_format(axis="y", useOffset=False, style="plain")
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    sns.despine(ax=axes)
