"""Numbers as text: three significant digits, a true minus sign, thousands separated, one unit a column."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

NOTHING = "–"
NOT_REACHED = "not reached"
AT_THE_START = "at the start"


@dataclass(frozen=True)
class Scale:
    """The unit of a whole column or axis: values are divided by `divisor`, and `unit` stands in the header."""

    divisor: float
    unit: str

    def label(self, words: str) -> str:
        return f"{words} ({self.unit})" if self.unit else words


_STEPS: dict[str, tuple[Scale, ...]] = {
    "seconds": (Scale(1, "s"), Scale(60, "min"), Scale(3600, "h")),
    "bytes": (Scale(2**20, "MiB"), Scale(2**30, "GiB")),
    "flops": (
        Scale(1e6, "MFLOP"),
        Scale(1e9, "GFLOP"),
        Scale(1e12, "TFLOP"),
        Scale(1e15, "PFLOP"),
        Scale(1e18, "EFLOP"),
    ),
    "count": (Scale(1, ""), Scale(1e6, "million"), Scale(1e9, "billion")),
}


def scale_for(axis: str, values: Iterable[float]) -> Scale:
    """The largest unit in which the typical (median) value is at least 1, and for seconds at least 3."""
    finite = sorted(v for v in values if math.isfinite(v) and v > 0)
    typical = finite[len(finite) // 2] if finite else 0.0
    kind = next((k for k in ("seconds", "bytes", "flops") if axis.endswith(k) or axis.startswith(k)), "count")
    floor = 3.0 if kind == "seconds" else 1.0
    fitting = [scale for scale in _STEPS[kind] if typical >= floor * scale.divisor]
    return fitting[-1] if fitting else _STEPS[kind][0]


def number(value: float | None, digits: int = 3, signed: bool = False) -> str:
    """A number as text: 1234.5 -> "1,230"; integers below 100,000 keep their digits; NaN -> "NaN"; None -> a dash."""
    if value is None:
        return NOTHING
    value = float(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    if value == int(value) and abs(value) < 100_000:
        text = f"{int(value):,}"
    elif value != 0 and abs(value) < 1e-4:
        text = f"{value:.{digits - 1}e}"
    else:
        places = digits - 1 - int(f"{value:.{digits - 1}e}".split("e")[1])  # of the rounded value: 9.999 -> 10.0
        text = f"{round(value, places):,.{max(places, 0)}f}"
    if signed and value > 0:
        text = f"+{text}"
    return text.replace("-", "−")


def amount(value: float, axis: str, words: str) -> str:
    """An amount of an axis in words, such as "2,048 reward queries", "10 min of training time" or "3.2 TFLOP"."""
    scale = scale_for(axis, [value])
    text = number(value / scale.divisor)
    if axis.startswith("flops"):
        return f"{text} {scale.unit}"
    counted = scale in _STEPS["count"]
    return " ".join(part for part in (text, scale.unit, words if counted else f"of {words}") if part)


def measured(value: float | None, digits: int = 3, signed: bool = False) -> str:
    """`number` for a measurement, which keeps trailing zeros as they show its precision: 1.0 -> "1.00"."""
    if value is None or not math.isfinite(value) or abs(value) >= 100 or 0 < abs(value) < 0.1:
        return number(value, digits, signed)
    places = 3 if abs(value) < 1 else 2
    value += 0.0  # turns minus zero into zero
    text = f"{value:+.{places}f}" if signed else f"{value:.{places}f}"
    return text.replace("-", "−")


def tick(value: float, _: object = None) -> str:
    """A tick's label without trailing zeros: 0.02, not 0.0200. matplotlib passes the second argument."""
    mantissa, exponent, power = number(value).partition("e")
    trimmed = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{trimmed}{exponent}{power}"


def with_range(middle: str, low: str, high: str) -> str:
    """ "1.83 (1.75–1.90)"; the range is left out where its ends are equal."""
    if low == high:
        return middle
    dash = " to " if "−" in low + high or "+" in low + high else "–"
    return f"{middle} ({low}{dash}{high})"


_RANGE = re.compile(r" (\([^()]*\)|± \S+)$")


def cell_parts(text: str) -> tuple[str, str, list[str]]:
    """(value of a table's cell, its range in brackets or "", further lines)."""
    first, *more = text.split("\n")
    found = _RANGE.search(first)
    return (first[: found.start()], found[1], more) if found else (first, "", more)


def plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def p_value(p: float) -> str:
    """A p-value to three decimals: "0.012", or "<0.001" where all three are zeros."""
    return "<0.001" if p < 1e-3 else f"{p:.3f}"


def capitalised(text: str) -> str:
    """The text with a capital first letter, the others as they are."""
    return text[:1].upper() + text[1:]


def sentence(clauses: Iterable[str]) -> str:
    """Clauses joined to "First; second", without a full stop."""
    return capitalised("; ".join(clauses))


def listing(words: Iterable[str]) -> str:
    """ "a, b and c"."""
    *most, last = list(words)
    return f"{', '.join(most)} and {last}" if most else last
