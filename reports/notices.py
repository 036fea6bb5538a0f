"""The warnings above a report's numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from reports.formatting import NOTHING, listing, plural
from reports.machines import differences, records, speed_classes
from reports.meta import Meta
from reports.names import DONE, GOING, SECONDS, STOPPED
from reports.statistics.overoptimisation import warning
from reports.tables.costs import SECONDS_NOTE

MOST_NAMED = 6

SAME_ON_ALL = ("hardware", "precision", "threads", "commit", "versions", "weights")

MACHINES_NOTE = (
    "Trials ran on different kinds of machine: in the tables of costs their seconds and memory stand in columns of "
    "their own, and they are not compared. Steps, queries, denoiser evaluations and FLOPs can be."
)

BUDGET_NOTE = "The budget is in seconds, so the ranking compares machines as much as methods."
SHARED_BUDGET_NOTE = "The budget is in seconds, so the ranking measures what else the machine did, too."


@dataclass(frozen=True)
class Notice:
    """One warning. `kind` is "going", "broken" or "caution", and decides nothing but the colour."""

    kind: str
    text: str


def notices(curves: pd.DataFrame, evaluation: pd.DataFrame, trials: pd.DataFrame, meta: Meta) -> list[Notice]:
    """The warnings of a run, the gravest first.

    Their order: unfinished trials, broken trials, damaged and missing files, NaN, over-optimisation, the run's own
    warnings, differing provenance, seconds that are not compared.
    """
    found = [_going(trials), *_broken(trials), *_damaged(trials), *_absent(curves, evaluation, trials)]
    found.append(_values(curves, evaluation, meta))
    turned = warning(curves, meta) if not curves.empty else None
    found += [Notice("caution", turned) if turned else None]
    found += [Notice("caution", text) for text in meta.warnings]
    found += _provenance(trials)
    if speed_classes(trials):
        budget = f" {BUDGET_NOTE}" if meta.budget_column in SECONDS else ""
        found.append(Notice("caution", MACHINES_NOTE + budget))
    if not meta.seconds_comparable:
        budget = f" {SHARED_BUDGET_NOTE}" if meta.budget_column in SECONDS else ""
        found.append(Notice("caution", SECONDS_NOTE + budget))
    return [notice for notice in found if notice is not None]


def unreadable(paths: Sequence[Path]) -> list[Notice]:
    """The warning that image files cannot be read; empty where all can."""
    if not paths:
        return []
    named = listing("/".join(path.parts[-4:]) for path in paths[:MOST_NAMED])
    more = f" and {len(paths) - MOST_NAMED} more" if len(paths) > MOST_NAMED else ""
    verb = "is" if len(paths) == 1 else "are"
    text = f"{plural(len(paths), 'picture')} cannot be read and {verb} left out: {named}{more}."
    return [Notice("broken", f"{text} No number comes from pictures.")]


def apart(metas: Sequence[Meta]) -> list[Notice]:
    """The warning on what keeps the parts of a page apart; empty for one part."""
    if len(metas) < 2:
        return []
    names = list(dict.fromkeys(name for meta in metas for name in meta.protocol))
    differing = []
    for name in names:
        values = {meta.name: meta.protocol.get(name, NOTHING).rstrip(".") for meta in metas}
        if len(set(values.values())) > 1:
            differing.append(f"{name} ({'; '.join(f'{run}: {value}' for run, value in values.items())})")
    text = f"These runs cannot be compared with each other: they differ in {listing(differing or ['protocol'])}."
    return [Notice("broken", f"{text} Each has tables and curves of its own below.")]


def _going(trials: pd.DataFrame) -> Notice | None:
    going = trials["status"].isin(GOING).sum()
    if not going:
        return None
    done = f"{(trials['status'] == DONE).sum()} of {plural(len(trials), 'trial')} done"
    # A run that was stopped leaves planned trials and no running one.
    state = "is still going" if (trials["status"] == "running").any() else "is not finished"
    return Notice("going", f"This run {state}: {done}. The report shows the results so far.")


def _broken(trials: pd.DataFrame) -> list[Notice]:
    found = []
    for status in STOPPED:
        rows = trials[trials["status"] == status]
        if len(rows):
            text = f"{plural(len(rows), 'trial')} {status}: {_named(rows)}. The causes are under Trials."
            found.append(Notice("broken", text))
    return found


def _damaged(trials: pd.DataFrame) -> Iterable[Notice]:
    """Damaged files, trial by trial, with what was done about each."""
    if "damage" not in trials:
        return
    rows = trials[[bool(texts) for texts in trials["damage"]]]
    for variant, seed, texts in zip(rows["variant"][:MOST_NAMED], rows["seed"], rows["damage"], strict=False):
        yield Notice("broken", f"{variant} (seed {seed}): {'. '.join(texts)}.")
    if len(rows) > MOST_NAMED:
        more = plural(len(rows) - MOST_NAMED, "more trial")
        yield Notice("broken", f"Files of {more} are or were damaged; `bench status` lists them.")


def _absent(curves: pd.DataFrame, evaluation: pd.DataFrame, trials: pd.DataFrame) -> Iterable[Notice]:
    """Finished trials that lack a curve or an evaluation."""
    done = trials[trials["status"] == DONE]
    for what, frame in (("a curve", curves), ("an evaluation by prompt", evaluation)):
        # A million rows hold a thousand trials; searching the rows themselves would take seconds and 400 MiB.
        lost = done[~done["trial"].isin(frame["trial"].unique())] if len(frame) else done[:0]
        if len(lost):
            yield Notice("broken", f"{plural(len(lost), 'trial')} done without {what}: {_named(lost)}.")


def _named(rows: pd.DataFrame) -> str:
    """The first `MOST_NAMED` trials by method and seed, and how many more there are."""
    names = listing(
        f"{v} (seed {s})" for v, s in zip(rows["variant"][:MOST_NAMED], rows["seed"][:MOST_NAMED], strict=True)
    )
    return f"{names} and {len(rows) - MOST_NAMED} more" if len(rows) > MOST_NAMED else names


def _values(curves: pd.DataFrame, evaluation: pd.DataFrame, meta: Meta) -> Notice | None:
    """The warning on NaN and infinite values, counted by image, or by point in a run without an evaluation."""
    for frame in (evaluation, curves):
        odd = frame[~np.isfinite(frame["value"].astype(float))]
        if odd.empty:
            continue
        bad, whole = odd["metric"].value_counts(), frame["metric"].value_counts()
        counts = listing(
            f"{bad[metric]} of {plural(int(whole[metric]), 'value')} of {_reward_of(metric, meta)}"
            for metric in sorted(odd["metric"].astype(str).unique())
        )
        where = listing(sorted(odd["variant"].astype(str).unique()))
        text = f"{counts} are NaN or infinite ({where}). They are shown as such and nothing is averaged over them."
        return Notice("broken", text)
    return None


def _reward_of(metric: str, meta: Meta) -> str:
    """ "gold (NAME)": a metric with the name of the reward that computed it."""
    named = {"reward": meta.reward, "gold": meta.gold}.get(metric)
    return f"{metric} ({named})" if named else metric


def _provenance(trials: pd.DataFrame) -> Iterable[Notice]:
    for name, values in differences(trials, SAME_ON_ALL).items():
        holders = [f"{_shortened(value)} ({_holders(variants)})" for value, variants in list(values.items())[:4]]
        more = f" and {len(values) - 4} more" if len(values) > 4 else ""
        yield Notice("caution", f"Trials differ in {name}: {'; '.join(holders)}{more}.")
    if any(record.get("dirty") for record in records(trials).values()):
        yield Notice("caution", "Some trials ran from a working tree with uncommitted changes.")


def _holders(variants: list[str]) -> str:
    return listing([*variants[:4], f"{len(variants) - 4} more"] if len(variants) > 4 else variants)


def _shortened(value: str) -> str:
    """A hash cut to its first twelve digits; any other value as it is."""
    return value[:12] if len(value) in (40, 64) and " " not in value else value
