"""The answer in three sentences: whether the pictures became better, which method reached which reward for how much,
and what became of the other metrics.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import pandas as pd

from reports.formatting import amount, listing, measured, number, plural
from reports.frame import base_variant, select, untrained_variants
from reports.machines import speed_classes
from reports.meta import Meta
from reports.names import GOING, HEADLINE_AXES, SECONDS, axis_words
from reports.opening import opening
from reports.statistics import comparison, gains
from reports.statistics.curve import Summary
from reports.statistics.gains import Gain
from reports.statistics.overoptimisation import courses
from reports.tables.costs import Target, targets
from reports.tables.table import possible_places, ranked_variants

MOST_NAMED = 3
"""Methods that a sentence names, of those that share a place."""


def headline(
    curves: pd.DataFrame,
    trials: pd.DataFrame,
    meta: Meta,
    evaluation: pd.DataFrame | None = None,
    gained: Mapping[str, Gain] | None = None,
) -> str:
    """Three sentences on the best ranked method that clearly beat the untrained model; fewer where there is none.

    Args:
        evaluation: values by prompt; without them a gain is clear by the seeds alone.
        gained: the result of `gains.gains`, where it is computed already.
    """
    untrained = untrained_variants(curves) if not curves.empty else set()
    ranked = ranked_variants(curves, trials, meta)
    places = [variant for variant, place in ranked if place is not None]
    trained = [variant for variant in places if variant not in untrained]
    if not trained:
        return "No trained method has finished all its seeds yet, so there is no answer."
    if speed_classes(trials):
        meta = replace(meta, seconds_comparable=False)
    run = _Run(curves, meta, ranked, gained if gained is not None else gains.gains(curves, evaluation))
    so_far = "So far, " if trials["status"].isin(GOING).any() else ""
    clear = [variant for variant in trained if variant in run.gained and run.gained[variant].direction > 0]
    if places[0] in untrained or not clear:
        text = _nobody(run, trained[0], clear, above=places[0] in untrained)
    else:
        # A method may rank higher by its area without a clear gain; it has not beaten the untrained model.
        leader = clear[0]
        better = _clear_gold(run, leader, evaluation)
        sentences = (opening(curves, leader, meta, better), _achievement(run, leader), _price(curves, leader, meta))
        text = " ".join([*filter(None, sentences), *_unmeasured(run, leader)])
    return f"{so_far}{text[:1].lower() if so_far else text[:1]}{text[1:]}".strip()


@dataclass(frozen=True)
class _Run:
    """The data that every sentence is written from."""

    curves: pd.DataFrame
    meta: Meta
    ranked: list[tuple[str, int | None]]
    gained: Mapping[str, Gain]

    @property
    def untrained(self) -> str:
        return gains.untrained_words(self.curves)


def _nobody(run: _Run, best: str, clear: list[str], above: bool) -> str:
    """The answer where the untrained model ranks first, or where no gain is clear.

    Args:
        best: the best ranked trained variant.
        clear: variants whose gain is clear.
        above: whether the untrained model ranks first.
    """
    clearly = "" if above else "clearly "
    if above and clear:
        late = f"{listing(clear[:MOST_NAMED])} ended clearly above it"
        return f"No method beat {run.untrained} over the whole budget, though {late}. {_final_of(run, clear[0])}"
    return f"No method {clearly}beat {run.untrained}. {_final_of(run, best)}"


def _final_of(run: _Run, variant: str) -> str:
    """A variant's final reward, its gain over the untrained model, and in how many seeds that gain is clear."""
    final = comparison.final_summaries(run.curves, "reward", "train")[variant]
    text = f"{variant} ended at a {run.meta.reward} of {measured(final.mean)} over {_seeds(final.count)}"
    gain = run.gained.get(variant)
    if gain is None or gain.over_seeds.missing:
        return f"{text}."
    clear = "" if gain.clear_seeds is None else f", clear in {gain.clear_seeds} of {gain.over_seeds.count} seeds"
    return f"{text} ({measured(gain.over_seeds.mean, signed=True)}{clear})."


def _seeds(count: int) -> str:
    return "one seed" if count == 1 else plural(count, "seed")


def _clear_gold(run: _Run, leader: str, evaluation: pd.DataFrame | None) -> bool:
    """Whether the leader's gold clearly rose."""
    kept = [leader, *untrained_variants(run.curves)]
    by_prompt = None if evaluation is None else evaluation[evaluation["variant"].isin(kept)]
    found = gains.gains(run.curves[run.curves["variant"].isin(kept)], by_prompt, "gold")
    return leader in found and found[leader].direction > 0


def _achievement(run: _Run, leader: str) -> str:
    """The hardest target that the leader reached and its cost against the baseline's, else its place."""
    baseline = gains.baseline(run.curves, run.meta, run.gained).usable
    for target in reversed(targets(run.curves, run.meta, run.gained)):
        sentence = _against(run, leader, baseline, target) if target.of != leader else None
        if sentence:
            return sentence
    return _standing(run, leader)


def _unmeasured(run: _Run, leader: str) -> Iterator[str]:
    """The sentence on a baseline that learned nothing, which is why no cost is compared with its costs."""
    baseline = gains.baseline(run.curves, run.meta, run.gained)
    if baseline.variant not in (None, leader) and not baseline.beats:
        yield f"{baseline.variant} did not clearly beat {run.untrained}, so nothing is measured against it."


def _standing(run: _Run, leader: str) -> str:
    """The leader's place and its final reward."""
    possible = possible_places(run.curves, run.ranked, run.meta)
    beside = {leader, *untrained_variants(run.curves)}  # the leader clearly beat the untrained ones
    first = [variant for variant, place in possible.items() if place[0] == 1 and variant not in beside]
    final = comparison.final_summaries(run.curves, "reward", "train")[leader]
    ended = f"with a final {run.meta.reward} of {measured(final.mean)} over {_seeds(final.count)}"
    if leader not in possible or possible[leader][0] > 1:
        return f"{leader} is the first in the ranking that clearly beat {run.untrained}, {ended}."
    if not first:
        return f"{leader} ranks first, {ended}."
    others = [*first[:MOST_NAMED], *([f"{len(first) - MOST_NAMED} more"] if len(first) > MOST_NAMED else [])]
    seeds = "one seed does" if final.count == 1 else "its seeds do"
    return f"{leader} stands first, {ended}; {seeds} not tell it apart from {listing(others)}."


def _against(run: _Run, leader: str, baseline: str | None, target: Target) -> str | None:
    meta, axis = run.meta, run.meta.budget_column
    axes = list(dict.fromkeys((axis, *HEADLINE_AXES)))
    costs = comparison.costs_to_target(run.curves, target.value, axes)
    own = comparison.cost_summaries(costs, axis).get(leader)
    if own is None or not math.isfinite(own.median):
        return None
    goal = f"{leader} reached {target.words} ({measured(target.value)}) {_after(own, axis)}"
    seeds = f"median of {plural(own.count, 'seed')}" if own.count > 1 else "one seed"
    if own.median == 0:
        return f"{goal} ({seeds})."
    ends = comparison.spent(run.curves)
    ratios = {} if baseline in (None, leader) else {
        a: comparison.ratios_to_baseline(costs, ends, str(baseline), a).get(leader) for a in axes
    }  # fmt: skip
    main = ratios.get(axis)
    if main is None or main.summary.missing or not main.summary.median > 0:
        return f"{goal} ({seeds})."
    others = [
        f"{_times(ratios[a], a)} {axis_words(a)}" for a in HEADLINE_AXES if a != axis and _is_shown(ratios[a], a, meta)
    ]
    beside = f", with {listing(others)}" if others else ""
    seeds = f"median of {plural(main.summary.count, 'seed')}" if main.summary.count > 1 else "one seed"
    return f"{goal}: {_times(main, axis)} than {baseline} ({seeds}{_spread(main.summary)}){beside}."


def _after(cost: Summary, axis: str) -> str:
    """ "after 147 reward queries"; an upper bound where the target was reached before the first evaluation."""
    if cost.median == 0:
        return "before any training"
    if "median" in cost.at_most:
        return f"before the first evaluation, after at most {_amount(cost.median, axis)}"
    return f"after {_amount(cost.median, axis)}"


def _amount(cost: float, axis: str) -> str:
    """An axis' amount in words; a count that was interpolated between points is rounded to a whole number."""
    whole = 10 <= cost < 1000 and axis not in SECONDS
    return amount(round(cost) if whole else cost, axis, axis_words(axis))


def _is_shown(ratio: comparison.Ratio | None, axis: str, meta: Meta) -> bool:
    if ratio is None or ratio.summary.missing or not 0 < ratio.summary.median < math.inf:
        return False
    return meta.seconds_comparable or axis != "train_seconds"


def _times(ratio: comparison.Ratio | None, axis: str) -> str:
    """ "11.2× fewer", "1.5× more" where the ratio is below one; "at least" or "at most" where it is a bound."""
    assert ratio is not None
    less = "less" if axis in SECONDS else "fewer"
    median = ratio.summary.median
    least, most = ("at least ", "at most ") if median >= 1 else ("at most ", "at least ")
    bound = least if ratio.at_least else most if ratio.at_most else ""
    return f"{bound}{number(median)}× {less}" if median >= 1 else f"{bound}{number(1 / median)}× more"


def _spread(summary: Summary) -> str:
    """The range over seeds of the ratio that `_times` writes; below one where some seed needed more."""
    low, high = summary.low, summary.high
    if summary.median < 1:
        low, high = (1 / end if end else math.inf for end in (high, low))
    return "" if number(low) == number(high) else f", {number(low)} to {number(high)}×"


def _price(curves: pd.DataFrame, leader: str, meta: Meta) -> str:
    """The sentence on the leader's metrics before and after: reward, held-out reward, gold, diversity, drift."""
    reward = _move(curves, leader, "reward", "train")
    if reward is None:
        return ""
    heldout = _move(curves, leader, "reward", "heldout")
    aside = ""
    if heldout:
        alike = _verb(*heldout).split()[0] == _verb(*reward).split()[0]
        aside = f" (on held-out prompts {_from_to(*heldout) if alike else f'it {_verb(*heldout)}'})"
    rest = [
        f"{meta.metric_words(metric)} {_verb(*move)}{_turn(curves, leader, meta) if metric == 'gold' else ''}"
        for metric in ("gold", "diversity", "drift")
        if (move := _move(curves, leader, metric, "train")) is not None
    ]
    joined = f", while {listing(rest)}" if rest else ""
    return f"Its {meta.reward} {_verb(*reward)}{aside}{joined}."


def _verb(before: float, after: float) -> str:
    if measured(before) == measured(after):
        return f"stayed at {measured(after)}"
    return f"{'rose' if after > before else 'fell'} {_from_to(before, after)}"


def _from_to(before: float, after: float) -> str:
    return f"from {measured(before)} to {measured(after)}"


def _move(curves: pd.DataFrame, leader: str, metric: str, split: str) -> tuple[float, float] | None:
    """(value before training, value after it); None where either was not measured."""
    before = _before(curves, base_variant(curves), leader, metric, split)
    after = _final(curves, leader, metric, split)
    return None if before is None or after is None else (before, after)


def _turn(curves: pd.DataFrame, leader: str, meta: Meta) -> str:
    """ "after a peak at 512 reward queries", where gold rose and then clearly fell in every seed; else ""."""
    course = courses(curves, meta.budget_column).get(leader)
    if course is None or course.turned < course.seeds:
        return ""
    return f" after a peak at {amount(course.peak, meta.budget_column, axis_words(meta.budget_column))}"


def _final(curves: pd.DataFrame, variant: str, metric: str, split: str) -> float | None:
    found = comparison.final_summaries(curves, metric, split).get(variant)
    return None if found is None or found.missing else found.mean


def _before(curves: pd.DataFrame, base: str | None, leader: str, metric: str, split: str) -> float | None:
    """The untrained model's value: that of its own variant where one ran, else the leader's first point."""
    if base is not None and (value := _final(curves, base, metric, split)) is not None:
        return value
    first = select(curves[curves["variant"] == leader], metric, split).groupby("trial").head(1)
    value = first["value"].mean(skipna=False) if len(first) else math.nan
    return None if math.isnan(value) else float(value)
