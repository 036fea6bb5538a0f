"""Draws docs/overview.png, the README's picture, from the committed results in docs/results/aesthetic.

    .venv/bin/python docs/overview.py

Left: samples of the base model and of the trained ones, on the same prompts and the same noise. Right: the reward
on training prompts against the reward queries spent, every seed thin and the median bold.
"""

import sys
from pathlib import Path

import pandas as pd
import seaborn as sns
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from PIL import Image

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS / "results" / "aesthetic"
METHODS = {"base": "base", "rwr": "RWR", "ddpo": "DDPO", "alignprop": "AlignProp"}
COLOURS = {"base": "#6f7680", "rwr": "#a8508f", "ddpo": "#d1560a", "alignprop": "#0067a8"}
"""As reports draw these methods."""

ROWS = ["base", "alignprop", "ddpo", "rwr"]
PROMPTS = {"a cat": 0, "a rabbit": 1, "a raccoon": 3, "a fish": 4, "a snail": 8}
"""Rows and columns of figures/pictures.png."""

LEFT, TOP, CELL, PITCH = 72, 38, 96, 100
"""Where its first sample begins, a sample's side, and the distance between two, in pixels."""


def draw(file: Path) -> None:
    """Writes the picture as PNG: 1,900 pixels wide, which GitHub shows at half of that."""
    with sns.axes_style("ticks", {"axes.edgecolor": "#646b75"}), sns.plotting_context("notebook", font_scale=1.05):
        figure = Figure(figsize=(12.6, 4.7), layout="constrained")
        FigureCanvasAgg(figure)
        samples, curves = figure.subfigures(1, 2, width_ratios=[1.12, 1])
        _samples(samples)
        _curves(curves)
        figure.savefig(file, dpi=150, metadata={"Software": ""})


def _samples(figure: SubFigure) -> None:
    sheet = Image.open(RESULTS / "figures" / "pictures.png").convert("RGB")
    figure.suptitle("Same prompts and noise after 2,048 queries", x=0.01, ha="left", weight="bold")
    for row, axes_of_row in zip(METHODS, figure.subplots(len(METHODS), len(PROMPTS)), strict=True):
        for (prompt, column), axes in zip(PROMPTS.items(), axes_of_row, strict=True):
            x, y = LEFT + PITCH * column, TOP + PITCH * ROWS.index(row)
            axes.imshow(sheet.crop((x, y, x + CELL, y + CELL)), interpolation="bicubic")
            axes.set(xticks=[], yticks=[])
            sns.despine(ax=axes, left=True, bottom=True)
            if row == "base":
                axes.set_title(prompt, fontsize="medium")
        label = axes_of_row[0].set_ylabel(METHODS[row], rotation=0, ha="right", va="center", labelpad=10)
        label.set(color=COLOURS[row], weight="bold")


def _curves(figure: SubFigure) -> None:
    frame = pd.read_parquet(RESULTS / "results.parquet")
    frame = frame[(frame["metric"] == "reward") & (frame["split"] == "train")]
    axes = figure.subplots()
    figure.suptitle("Reward against reward queries, three seeds", x=0.01, ha="left", weight="bold")
    for method, name in METHODS.items():
        rows = frame[frame["variant"] == method]
        if method == "base":
            axes.axhline(rows["value"].median(), color=COLOURS[method], linestyle="--")
            ends = rows["value"].median()
        else:
            common = {"data": rows, "x": "reward_queries", "y": "value", "color": COLOURS[method], "ax": axes}
            sns.lineplot(**common, units="seed", estimator=None, linewidth=0.9, alpha=0.5)
            sns.lineplot(**common, estimator="median", errorbar=None, linewidth=2.8)
            ends = rows[rows["point"] == rows["point"].max()]["value"].median()
        axes.annotate(
            name,
            (2048, ends),
            (8, 0),
            textcoords="offset points",
            va="center",
            color=COLOURS[method],
            weight="bold",
            annotation_clip=False,
        )
    axes.set(xlabel="reward queries", ylabel="reward, training prompts", xlim=(0, 2048), xticks=range(0, 2049, 512))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.grid(axis="y", color="#dfe1e4")
    sns.despine(ax=axes)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else DOCS / "overview.png")
