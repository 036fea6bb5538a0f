"""What training gained over the untrained model, on the same prompts and noise, and which gains are clear.

The untrained model is a method of its own where one ran, else each trial's first point. A gain is clear where Student's
t over seeds shows it (two-sided, 95 %, as in `bench compare`; the untrained model does not vary with the seed, so the
differences are tested whatever their number). Under five seeds it is also clear where every seed is clear by itself:
the interval of its gain over prompts excludes zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from reports.frame import base_variant, finished, select, untrained_variants
from reports.meta import Meta
from reports.statistics import comparison
from reports.statistics.curve import SEEDS_FOR_AN_INTERVAL, Summary, summarise, t_interval
from reports.statistics.places import ROUNDING


@dataclass(frozen=True)
class Gain:
    """A variant after training minus the untrained model.

    Attributes:
        over_seeds: summary over seeds of each seed's mean gain.
        clear_seeds: how many seeds have an interval over prompts that excludes zero; None without values by prompt.
        direction: 1 where the gain is clearly above zero, −1 where it is clearly below, else 0.
    """

    over_seeds: Summary
    clear_seeds: int | None
    direction: int


def gains(curves: pd.DataFrame, evaluation: pd.DataFrame | None = None, metric: str = "reward") -> dict[str, Gain]:
    """Variant -> its gain on training prompts over its finished trials, for every trained variant.

    Args:
        curves: validated.
        evaluation: validated; without values by prompt a gain is clear by the seeds alone.
        metric: whose gain is taken.
    """
    done = finished(curves)
    untrained = untrained_variants(curves)
    rows = select(done, metric, "train")
    ends = rows.groupby("trial").tail(1)
    base = base_variant(rows)
    if base is None:
        first = rows.groupby("trial").head(1)
        starts = first[first["point"] == 0].set_index("trial")["value"]
        ends = ends.assign(start=ends["trial"].map(starts))
    else:
        starts = ends[ends["variant"] == base].set_index("seed")["value"]
        ends = ends.assign(start=ends["seed"].map(starts) if len(starts) > 1 else starts.mean())
    moved = ends[~ends["variant"].isin(untrained)]
    # A seed without a partner is compared with nothing; a value that is NaN makes the whole gain NaN.
    moved = moved[moved["start"].notna() | moved["value"].isna()]
    paired = _paired(evaluation, set(moved["trial"]), base, done, metric) if evaluation is not None else {}
    return {
        str(variant): _gain(of_variant, paired.get(str(variant)))
        for variant, of_variant in moved.groupby("variant", sort=False)
    }


@dataclass(frozen=True)
class Baseline:
    """The variant whose costs the other variants' are divided by.

    Attributes:
        variant: its name; None where there are not two variants to compare.
        beats: whether it clearly beat the untrained model. Costs are never divided by those of a variant that learned
            nothing: it spent them without getting anywhere.
    """

    variant: str | None
    beats: bool

    @property
    def usable(self) -> str | None:
        return self.variant if self.beats else None


def baseline(curves: pd.DataFrame, meta: Meta, gained: Mapping[str, Gain]) -> Baseline:
    """The variant that `comparison.pick_baseline` picks, and whether it clearly gained."""
    name = comparison.pick_baseline(curves, meta.baseline, meta.reference)
    gain = gained.get(name) if name else None
    return Baseline(name, gain is not None and gain.direction > 0)


def untrained_words(curves: pd.DataFrame) -> str:
    """The words for the model that gains are measured from."""
    return "the untrained model" if base_variant(finished(curves)) is None else "the base model"


def _paired(
    evaluation: pd.DataFrame, trials: set[str], base: str | None, done: pd.DataFrame, metric: str
) -> dict[str, comparison.Paired]:
    """Each variant paired with the untrained model by prompt and noise; empty without values by prompt."""
    rows = evaluation[(evaluation["metric"] == metric) & (evaluation["split"] == "train")]
    rows = rows[rows["trial"].isin([*trials, *done.loc[done["variant"] == base, "trial"].unique()])]
    if rows.empty:
        return {}
    last = comparison.last_values(rows)
    own = last["trial"].isin(trials)
    if base is None:
        return comparison.paired_with(last[own], rows[rows["point"] == 0], ["trial", "prompt", "sample"])
    return comparison.paired_with(last[own], last[~own])


def _gain(rows: pd.DataFrame, paired: comparison.Paired | None) -> Gain:
    differences = (rows["value"] - rows["start"]).to_numpy(float)
    found = summarise(differences)
    assert found is not None
    clear = None if paired is None else paired.above + paired.below
    size = rows[["value", "start"]].abs().to_numpy().max()
    if found.missing or abs(found.mean) <= ROUNDING * size:
        return Gain(found, clear, 0)
    interval = t_interval(differences)
    by_seeds = 0 if interval is None else int(interval[0] > 0) - int(interval[1] < 0)
    each = 0
    if paired is not None and len(differences) < SEEDS_FOR_AN_INTERVAL:
        each = int(paired.above == len(differences)) - int(paired.below == len(differences))
    return Gain(found, clear, by_seeds or each)
