"""What a reader must be warned of before reading a number."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from reports.costs import SECONDS_NOTE
from reports.formatting import listing, plural
from reports.frame import BROKEN, DONE, GOING
from reports.meta import Meta
from reports.overoptimisation import warning

SAME_ON_ALL = ("hardware", "precision", "threads", "commit", "versions", "weights")


@dataclass(frozen=True)
class Notice:
    """`kind` is "going", "broken" or "caution"; it picks the colour and nothing else."""

    kind: str
    text: str


def notices(curves: pd.DataFrame, evaluation: pd.DataFrame, trials: pd.DataFrame, meta: Meta) -> list[Notice]:
    """In the order of their weight: still going, broken trials, NaN, over-optimisation, provenance, shared seconds."""
    found = [_going(trials), *_broken(trials), _values(curves, evaluation)]
    turned = warning(curves, meta) if not curves.empty else None
    found += [Notice("caution", turned) if turned else None, *_provenance(trials)]
    if not meta.seconds_comparable:
        found.append(Notice("caution", SECONDS_NOTE))
    return [notice for notice in found if notice is not None]


def _going(trials: pd.DataFrame) -> Notice | None:
    going = trials["status"].isin(GOING).sum()
    if not going:
        return None
    done = (trials["status"] == DONE).sum()
    return Notice("going", f"This run is still going: {done} of {plural(len(trials), 'trial')} done. "
                           "What follows is what has been seen so far.")  # fmt: skip


def _broken(trials: pd.DataFrame) -> list[Notice]:
    found = []
    for status in BROKEN:
        rows = trials[trials["status"] == status]
        if len(rows):
            names = listing(
                f"{variant} (seed {seed})" for variant, seed in zip(rows["variant"][:6], rows["seed"][:6], strict=True)
            )
            more = f" and {len(rows) - 6} more" if len(rows) > 6 else ""
            found.append(
                Notice("broken", f"{plural(len(rows), 'trial')} {status}: {names}{more}. The causes are under Trials.")
            )
    return found


def _values(curves: pd.DataFrame, evaluation: pd.DataFrame) -> Notice | None:
    odd = [frame[~np.isfinite(frame["value"].astype(float))] for frame in (curves, evaluation)]
    count = sum(map(len, odd))
    if not count:
        return None
    where = sorted({str(v) for frame in odd for v in frame["variant"]})
    told = "They are shown as such and nothing is averaged over them."
    return Notice("broken", f"{plural(count, 'value')} of {listing(where)} are NaN or infinite. {told}")


def _provenance(trials: pd.DataFrame) -> Iterable[Notice]:
    records = [record for record in trials["provenance"] if isinstance(record, Mapping)]
    for key in SAME_ON_ALL:
        values = sorted({_flat(record[key]) for record in records if record.get(key) is not None})
        if len(values) > 1:
            yield Notice("caution", f"Trials differ in {key}: {'; '.join(values[:4])}. Compare their costs with care.")
    if any(record.get("dirty") for record in records):
        yield Notice("caution", "Some trials ran from a working tree with uncommitted changes.")


def _flat(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_flat(item)}" for key, item in sorted(value.items()))
    return str(value)
