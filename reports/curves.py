"""The figures: every seed thin, the median bold, the range shaded, the target and the untrained model as lines.

Drawn with seaborn and matplotlib without pyplot, so that no global state is touched. In a page the SVG's colours are
CSS variables (`page_svg`), so one figure serves light and dark; files are written as PNG on white.
"""

import io
import math
import re
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import matplotlib as mpl
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reports.formatting import Scale, measured, number, scale_for
from reports.frame import DONE, SPLIT_WORDS, axis_words, select, untrained_variants
from reports.meta import Meta
from reports.statistics import Band, band
from reports.styles import Style, styles

INK, MUTED, RULE, PAPER = "#1d2024", "#646b75", "#dfe1e4", "#ffffff"
_VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule"}
_LOG_SPREAD = 20.0  # methods whose totals differ by more than this share no linear axis usefully
_MANY_POINTS = 20_000  # above this, seeds are drawn as pixels inside the SVG to keep the page small

_STYLE = {
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
    """The (metric, split) pairs that a report draws, in reading order: the ranking's first, then what it cost."""
    present = set(map(tuple, curves[["metric", "split"]].drop_duplicates().to_numpy()))
    others = sorted(m for m, _ in present if str(m).startswith("reward/"))
    order = [("reward", "train"), ("reward", "heldout"), ("gold", "train"), ("gold", "heldout")]
    order += [(metric, split) for metric in ("diversity", "drift", *others) for split in ("train", "heldout")]
    return [pair for pair in order if pair in present]


def panel_title(metric: str, split: str, meta: Meta) -> str:
    """ "Reward, training prompts"."""
    words = meta.metric_words(metric)
    return f"{words[:1].upper()}{words[1:]}, {SPLIT_WORDS[split]}"


def panel(
    curves: pd.DataFrame, axis: str, metric: str, split: str, meta: Meta, targets: Mapping[str, float] | None = None
) -> Figure:
    """One figure of one metric on one split against one axis.

    `targets`, by name, are lines on the training reward; one under a variant's name takes that variant's colour.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(4.4, 3.0))
        FigureCanvasAgg(figure)
        # Fixed margins: a fitted layout draws everything twice, and panels beside each other line up this way.
        axes = figure.subplots(gridspec_kw={"left": 0.125, "right": 0.985, "bottom": 0.165, "top": 0.9})
        _draw(axes, curves, axis, metric, split, meta, targets or {})
        return figure


def strip(
    curves: pd.DataFrame, axis: str, pairs: Iterable[tuple[str, str]], meta: Meta, targets: Mapping[str, float]
) -> Figure:
    """Several panels beside each other with a legend: the figure for a README or a paper."""
    pairs = list(pairs)
    with mpl.rc_context(_STYLE | {"figure.facecolor": PAPER}):
        figure = Figure(figsize=(4.1 * len(pairs), 3.4), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, (metric, split) in zip(figure.subplots(1, len(pairs), squeeze=False)[0], pairs, strict=True):
            _draw(axes, curves, axis, metric, split, meta, targets)
        chosen = styles(curves)
        handles = [
            Line2D([], [], color=s.colour, linestyle=s.dashes, linewidth=2.2, label=v) for v, s in chosen.items()
        ]
        figure.legend(handles=handles, loc="outside lower left", ncols=min(len(handles), 6), frameon=False)
        return figure


def png(figure: Figure, dpi: int = 160) -> bytes:
    """The figure as a PNG file."""
    buffer = io.BytesIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": ""})
    return buffer.getvalue()


def page_svg(figure: Figure, name: str, label: str) -> str:
    """The figure as an SVG element for a page: colours are CSS variables, text is text in the page's font.

    Args:
        name: unique on the page; the element's ids are derived from it.
        label: what a screen reader says.
    """
    buffer = io.StringIO()
    with mpl.rc_context(_STYLE | {"svg.hashsalt": name}), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>\s*", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'(?<=[ "#])(?:figure|patch|axes|matplotlib\.axis|xtick|ytick|text|line2d|LineCollection|PolyCollection'
        r'|FillBetweenPolyCollection|legend|PathCollection)_\d+(?=")',
        lambda m: f"{name}-{m[0]}",
        svg,
    )
    # matplotlib writes the family by itself since 3.11 and as the end of the shorthand before
    svg = re.sub(r"((?<!-)font: [^;\"]*?px |font-family: )[^;\"]+", r"\1var(--font)", svg)
    svg = re.sub(r'width="[\d.]+pt" height="[\d.]+pt"', f'role="img" aria-label="{_attribute(label)}"', svg, count=1)
    return re.sub(r"(fill|stroke|stop-color): (#[0-9a-f]{6})\b", _as_variable, svg)


def palette_css(chosen: Mapping[str, Style]) -> tuple[str, str]:
    """The CSS declarations of the variants' colours, for light and for dark."""
    pairs = {style.colour: style.dark for style in chosen.values()}
    light = "".join(f"{_variable(colour)}:{colour};" for colour in pairs)
    return light, "".join(f"{_variable(colour)}:{dark};" for colour, dark in pairs.items())


def _variable(colour: str) -> str:
    return _VARIABLES.get(colour, f"--c{colour[1:]}")


def _as_variable(match: re.Match[str]) -> str:
    return f"{match[1]}: var({_variable(match[2])}, {match[2]})"


def _attribute(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")


def _draw(
    axes: Axes, curves: pd.DataFrame, axis: str, metric: str, split: str, meta: Meta, targets: Mapping[str, float]
) -> None:
    chosen = styles(curves)
    rows = select(curves, metric, split)
    still = untrained_variants(curves)
    moving = rows[~rows["variant"].isin(still)]
    scale = scale_for(axis, moving.groupby("trial")[axis].max())
    moving = moving.assign(x=moving[axis] / scale.divisor)
    for variant in sorted(still & set(rows["variant"])):
        values = rows[rows["variant"] == variant].groupby("trial")["value"].last()
        axes.axhline(
            values.median(), color=chosen[variant].colour, linestyle=chosen[variant].dashes, linewidth=1.5, zorder=2
        )
    _seeds(axes, moving, chosen)
    _medians(axes, moving, chosen)
    if metric == "reward" and split == "train":
        for name, target in targets.items():
            _target(axes, name, target, chosen)
    _dress(axes, moving, axis, scale, panel_title(metric, split, meta))


def _target(axes: Axes, name: str, target: float, chosen: Mapping[str, Style]) -> None:
    """A dotted line: the sweep's own target with its value, a variant's final reward in that variant's colour.

    A target far above everything that was seen is named at the edge instead, so that it does not flatten the curves.
    """
    low, high = axes.get_ylim()
    far = target > high + 0.5 * (high - low)
    if not far:
        colour = chosen[name].colour if name in chosen else INK
        axes.axhline(target, color=colour, linestyle=(0, (1, 2.2)), linewidth=1.1, zorder=1.5)
    if name not in chosen:
        axes.annotate(
            f"target {measured(target)}{' ↑' if far else ''}", (1, 1 if far else target), (0, -9 if far else 3),
            xycoords="axes fraction" if far else ("axes fraction", "data"), textcoords="offset points",
            color=MUTED, fontsize=9, ha="right", va="bottom",
        )  # fmt: skip


def _seeds(axes: Axes, moving: pd.DataFrame, chosen: Mapping[str, Style]) -> None:
    if moving.empty:
        return
    sns.lineplot(
        moving, x="x", y="value", hue="variant", units="trial", estimator=None, sort=False, legend=False, ax=axes,
        palette={variant: style.colour for variant, style in chosen.items()}, linewidth=0.8, alpha=0.55,
        rasterized=len(moving) > _MANY_POINTS,
    )  # fmt: skip
    last = moving.dropna(subset=["value"]).groupby("trial").tail(1)
    lone = last[last["trial"].map(moving.groupby("trial").size()) == 1]
    stopped = last[~last["status"].isin((DONE, "running"))]
    for marks, marker, size in ((lone, "o", 24), (stopped, "x", 36)):
        axes.scatter(marks["x"], marks["value"], c=[chosen[v].colour for v in marks["variant"]], marker=marker,
                     s=size, linewidths=1.6, zorder=4)  # fmt: skip


def _medians(axes: Axes, moving: pd.DataFrame, chosen: Mapping[str, Style]) -> None:
    alive = moving[moving["status"].isin((DONE, "running"))]
    for variant, rows in alive.groupby("variant"):
        found = _band(rows)
        if found is None:
            continue
        style = chosen[str(variant)]
        axes.fill_between(found.axis, found.low, found.high, color=style.colour, alpha=0.13, linewidth=0, zorder=1)
        axes.plot(found.axis, found.median, color=style.colour, linestyle=style.dashes, linewidth=2.3, zorder=3)


def _band(rows: pd.DataFrame) -> Band | None:
    return band([(c["x"].to_numpy(), c["value"].to_numpy()) for _, c in rows.groupby("trial") if len(c) > 1])


def _dress(axes: Axes, moving: pd.DataFrame, axis: str, scale: Scale, title: str) -> None:
    axes.set_title(title)
    label = scale.label(axis_words(axis))
    ends = moving.groupby("variant")["x"].max()
    positive = moving.loc[moving["x"] > 0, "x"]
    if len(ends) > 1 and ends.min() > 0 and ends.max() / ends.min() > _LOG_SPREAD:
        axes.set_xscale("symlog", linthresh=positive.min(), linscale=0.5)
        label += ", log scale"
    else:
        axes.xaxis.set_major_locator(MaxNLocator(5, min_n_ticks=3))
    if math.isfinite(positive.max() if len(positive) else math.nan):
        axes.set_xlim(left=0)
    axes.set_xlabel(label)
    axes.set_ylabel("")
    ticks: Any = FuncFormatter(lambda value, _: number(value))
    axes.xaxis.set_major_formatter(ticks)
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y")
    axes.set_axisbelow(True)
    sns.despine(ax=axes)
