"""One colour and line style a method, the same on every figure of every report.

A method brings its colours (`meta.MethodFacts`). One without any takes a colour by the hash of its name, the next free
one where two such names meet in a report.
"""

import colorsys
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from reports.meta import MethodFacts

Dashes = Literal["solid"] | tuple[float, tuple[float, ...]]
LINES: dict[str, Dashes] = {
    "solid": "solid",
    "dashed": (0, (5, 2)),
    "dashdot": (0, (6, 2, 1.5, 2)),
    "dotted": (0, (1.5, 1.5)),
}
SOLID, DASHED, DASHDOT, DOTTED = LINES.values()


@dataclass(frozen=True)
class Style:
    """How a variant is drawn: its colour on light paper, its colour on dark paper, its line."""

    colour: str
    dark: str
    dashes: Dashes = SOLID

    @property
    def css_dashes(self) -> str:
        return "none" if isinstance(self.dashes, str) else " ".join(f"{d * 1.8:g}" for d in self.dashes[1])


FALLBACK = (
    Style("#3b3fa0", "#9296ee"),
    Style("#8f6b3a", "#cfa972"),
    Style("#00747c", "#45bcc5"),
    Style("#b8447a", "#ef8db8"),
    Style("#5d7a1f", "#a6c95d"),
    Style("#6d5a72", "#b9a3bf"),
)


def styles(frame: pd.DataFrame, methods: Mapping[str, MethodFacts]) -> dict[str, Style]:
    """Variant -> style, from the columns `method` and `variant` of any frame.

    A variant named like a method is drawn as that method. Several variants of one method share its hue and differ in
    lightness and dashes, in the order of their names.

    Args:
        methods: method -> its facts, those of methods that are not in the frame included.
    """
    known = {
        name: Style(facts.colour, facts.dark, LINES[facts.line])
        for name, facts in methods.items()
        if facts.colour and facts.dark
    }
    pairs = frame[["method", "variant"]].astype(str).drop_duplicates()
    hues = known | _by_hash(sorted(set(pairs["method"]) - set(known)))
    chosen: dict[str, Style] = {}
    for method, rows in pairs.groupby("method"):
        variants = sorted(rows["variant"], key=lambda v: (v != method, v))
        rank = 0
        for variant in variants:
            chosen[variant] = known.get(variant) or _shade(hues[str(method)], rank)
            rank += variant not in known or variant == method
    return chosen


def _by_hash(methods: list[str]) -> dict[str, Style]:
    free: dict[str, Style] = {}
    found = {}
    rounds = iter((SOLID, DASHED, DASHDOT, DOTTED))
    for method in methods:
        if not free:  # the same colours once more, in other dashes
            dashes = next(rounds, SOLID)
            free = {style.colour: replace(style, dashes=dashes) for style in FALLBACK}
        start = int(hashlib.sha256(method.encode()).hexdigest(), 16) % len(FALLBACK)
        order = [*FALLBACK[start:], *FALLBACK[:start]]
        found[method] = free.pop(next(style.colour for style in order if style.colour in free))
    return found


def _shade(style: Style, rank: int) -> Style:
    if rank == 0:
        return style
    dashes = (SOLID, DASHED, DASHDOT, DOTTED)[rank % 4]
    step = 0.12 * ((rank + 1) // 2) * (1 if rank % 2 else -0.6)
    return Style(_lighten(style.colour, step), _lighten(style.dark, -step), dashes)


def _lighten(colour: str, amount: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
    hue, light, saturation = colorsys.rgb_to_hls(red, green, blue)
    mixed = colorsys.hls_to_rgb(hue, min(max(light + amount, 0.15), 0.85), saturation)
    return "#" + "".join(f"{round(channel * 255):02x}" for channel in mixed)
