"""One colour and line style a method, the same on every figure of every report.

The colours keep apart under the common colour-blindnesses (Okabe & Ito's palette and its neighbours); families of
methods share a hue region: gradient blue and green, policy gradient orange and red, reward-weighted purple.
A name that is not known takes a colour by its hash, the next free one if two such names meet in a report.
"""

import colorsys
import hashlib
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

Dashes = Literal["solid"] | tuple[float, tuple[float, ...]]
SOLID: Dashes = "solid"
DASHED: Dashes = (0, (5, 2))
DASHDOT: Dashes = (0, (6, 2, 1.5, 2))
DOTTED: Dashes = (0, (1.5, 1.5))


@dataclass(frozen=True)
class Style:
    """How a variant is drawn. `colour` on light paper, `dark` on dark."""

    colour: str
    dark: str
    dashes: Dashes = SOLID

    @property
    def css_dashes(self) -> str:
        return "none" if isinstance(self.dashes, str) else " ".join(f"{d * 1.8:g}" for d in self.dashes[1])


KNOWN: dict[str, Style] = {
    "base": Style("#6f7680", "#9aa2ad", DASHED),
    "alignprop": Style("#0067a8", "#58b2ef"),
    "trl-alignprop": Style("#4b8fc4", "#8ccbf5", DASHED),
    "draft": Style("#008a67", "#3fc79f"),
    "draft-lv": Style("#4aa88c", "#7fdcc0", DASHDOT),
    "refl": Style("#2f9bd6", "#7cc8f2", DOTTED),
    "ddpo": Style("#d1560a", "#f58b4c"),
    "trl-ddpo": Style("#dc8a55", "#f7b48c", DASHED),
    "dpok": Style("#c98a00", "#eebc4a", DASHDOT),
    "rwr": Style("#a8508f", "#dc92c6"),
    "rwr-sparse": Style("#c283b1", "#ecbcdf", DASHED),
    "raft": Style("#7a4fa3", "#b795da", DASHDOT),
    "d3po": Style("#8a2d3b", "#e07f8d"),
    "dpo": Style("#b0606b", "#f0a7b1", DASHED),
    "nft": Style("#6b6b00", "#c3c352"),
    "best-of-n": Style("#444b54", "#c4cad2", DOTTED),
}
FALLBACK = (
    Style("#3b3fa0", "#9296ee"),
    Style("#8f6b3a", "#cfa972"),
    Style("#00747c", "#45bcc5"),
    Style("#b8447a", "#ef8db8"),
    Style("#5d7a1f", "#a6c95d"),
    Style("#6d5a72", "#b9a3bf"),
)


def styles(frame: pd.DataFrame) -> dict[str, Style]:
    """Variant -> style, from the columns `method` and `variant` of any frame.

    A variant named like a known method is drawn as that method. Several variants of one method share its hue and
    differ in lightness and dashes, in the order of their names.
    """
    pairs = frame[["method", "variant"]].astype(str).drop_duplicates()
    hues = _hues(sorted(set(pairs["method"])))
    chosen: dict[str, Style] = {}
    for method, rows in pairs.groupby("method"):
        variants = sorted(rows["variant"], key=lambda v: (v != method, v))
        rank = 0
        for variant in variants:
            if variant in KNOWN:
                chosen[variant] = KNOWN[variant]
                rank += variant == method
            else:
                chosen[variant] = _shade(hues[str(method)], rank)
                rank += 1
    return chosen


def _hues(methods: list[str]) -> dict[str, Style]:
    free = {style.colour: style for style in FALLBACK}
    hues = {}
    rounds = iter((DASHED, DASHDOT, DOTTED))
    for method in methods:
        if method in KNOWN:
            hues[method] = KNOWN[method]
            continue
        if not free:  # the same colours once more, in other dashes
            dashes = next(rounds, SOLID)
            free = {style.colour: replace(style, dashes=dashes) for style in FALLBACK}
        start = int(hashlib.sha256(method.encode()).hexdigest(), 16) % len(FALLBACK)
        order = [*FALLBACK[start:], *FALLBACK[:start]]
        hues[method] = free.pop(next(style.colour for style in order if style.colour in free))
    return hues


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
