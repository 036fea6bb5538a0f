"""Figures as SVG for a page: colours are CSS variables, so that one figure serves light and dark, and text is text."""

import base64
import io
import re
import warnings
from collections.abc import Mapping

import matplotlib as mpl
from matplotlib.figure import Figure
from PIL import Image

from reports.figures.curves import INK, MUTED, RULE, STYLE
from reports.figures.styles import Style

_VARIABLES = {INK: "--ink", MUTED: "--muted", RULE: "--rule"}


def page_svg(figure: Figure, name: str, label: str) -> str:
    """The figure as an SVG element for a page: colours are CSS variables, text is text in the page's font.

    Args:
        name: unique on the page; the element's ids are derived from it.
        label: the text for screen readers.
    """
    buffer = io.StringIO()
    with mpl.rc_context(STYLE | {"svg.hashsalt": name}), warnings.catch_warnings():
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
    svg = re.sub(r"(?<=data:image/png;base64,)[^\"]+", _lighter, svg)
    return re.sub(r"(fill|stroke|stop-color): (#[0-9a-f]{6})\b", _as_variable, svg)


def _lighter(match: re.Match[str]) -> str:
    """A rasterised picture reduced to 128 colours: a fifth of the bytes, without a visible difference."""
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(match[0]))) as picture:
        few = picture.convert("RGBA").quantize(128, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(buffer, "PNG", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


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
