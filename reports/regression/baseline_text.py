"""A baseline's contents as a table, and its power as sentences."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from reports.formatting import measured, plural
from reports.regression import measures
from reports.regression.baseline import Baseline, MethodBaseline, Statistic
from reports.regression.units import Unit
from reports.tables.table import Table


def table(baseline: Baseline) -> Table:
    """The table of a baseline, a row a statistic: mean and range over seeds, direction, tolerance."""
    rows = []
    for variant, entry in baseline.methods.items():
        for name, statistic in entry.statistics.items():
            values = list(statistic.values.values())
            unit = Unit.of(measures.axis_of(name, baseline.axis), values)
            words = unit.label(measures.words(name, baseline.axis))
            rows.append(
                {
                    "method": variant,
                    "statistic": words + (" *" if name == entry.primary else ""),
                    "mean": unit.text(_mean(statistic)),
                    "lowest": unit.text(min(values)),
                    "highest": unit.text(max(values)),
                    "better": statistic.direction,
                    "tolerance": unit.text(statistic.tolerance) if statistic.gate else "shown only",
                }
            )
    text = ("method", "statistic", "better")
    return Table(baseline.name, pd.DataFrame(rows), "* the primary statistic", text, grouped="method")


def claims(baseline: Baseline) -> list[str]:
    """A sentence for each method on the loss that the gate finds in a run of as many seeds."""
    return [_claim(variant, entry, baseline) for variant, entry in baseline.methods.items()]


def changes(before: Baseline, after: Baseline) -> Iterator[str]:
    """The changes of an updated baseline, a line for each method's primary statistic."""
    for variant in dict.fromkeys([*before.methods, *after.methods]):
        old, new = before.methods.get(variant), after.methods.get(variant)
        if old is None or new is None:
            yield f"{variant}: {'new' if old is None else 'gone'}"
            continue
        was, now = (_mean(entry.statistics[entry.primary]) for entry in (old, new))
        words, unit = measures.words(new.primary, after.axis), _unit(new, after)
        moved = unit.worded(f"{unit.text(was)} → {unit.text(now)}")
        yield f"{variant}: {words} {moved} ({unit.text(now - was, signed=True)})"


def _claim(variant: str, entry: MethodBaseline, baseline: Baseline) -> str:
    words, seeds = measures.words(entry.primary, baseline.axis), plural(len(entry.seeds), "seed")
    if not entry.trains:
        tolerance = _unit(entry, baseline).amount(entry.statistics[entry.primary].tolerance)
        return f"{variant}: trains nothing, so any loss of {words} above {tolerance} is seen."
    if entry.detects is None:
        return f"{variant}: with {seeds} this gate can see no loss; save a run with more."
    size = _unit(entry, baseline).amount(entry.detects)
    can = f"{variant}: with {seeds} this gate can see a loss of {words} of {size} or more"
    return f"{can}{_share(entry)}, with {100 * baseline.power:.0f} % power ({entry.test} test)."


def _share(entry: MethodBaseline) -> str:
    """A clause that sets the detected loss against the gain of training; a loss above the gain says little."""
    if entry.gain is None or entry.detects is None:
        return ""
    if entry.gain <= 0:
        return ", although training gained nothing here"
    share = entry.detects / entry.gain
    if share > 1:
        return f", which is more than all that training gained ({measured(entry.gain)})"
    return f", {100 * share:.0f} % of what training gained"


def _unit(entry: MethodBaseline, baseline: Baseline) -> Unit:
    """The unit of the primary statistic."""
    return Unit.of(measures.axis_of(entry.primary, baseline.axis), entry.statistics[entry.primary].values.values())


def _mean(statistic: Statistic) -> float:
    return float(np.mean(list(statistic.values.values())))
