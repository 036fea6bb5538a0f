"""The answer in two sentences, made from the data: who reached what for how much, and what that cost."""

import math
from dataclasses import replace

import pandas as pd

from reports.formatting import amount, listing, measured, number, plural
from reports.frame import GOING, SECONDS, axis_words, base_variant, select, untrained_variants
from reports.machines import speed_classes
from reports.meta import Meta
from reports.statistics import comparison
from reports.statistics.curve import Summary, summarise
from reports.statistics.overoptimisation import courses
from reports.tables.costs import Target, targets
from reports.tables.table import ranked_variants


def headline(curves: pd.DataFrame, trials: pd.DataFrame, meta: Meta) -> str:
    """Two sentences on the best ranked trained method; one if there is nothing to rank yet."""
    still = untrained_variants(curves) if not curves.empty else set()
    places = ranked_variants(curves, trials, meta)
    trained = [variant for variant, place in places if place is not None and variant not in still]
    if not trained:
        return "No trained method has finished all its seeds yet, so there is no answer."
    leader = trained[0]
    if speed_classes(trials):
        meta = replace(meta, seconds_comparable=False)
    so_far = "So far, " if trials["status"].isin(GOING).any() else ""
    return f"{so_far}{_achievement(curves, leader, meta)} {_price(curves, leader, meta)}".strip()


def _achievement(curves: pd.DataFrame, leader: str, meta: Meta) -> str:
    """What the leader reached, for how much, against whom."""
    baseline = comparison.pick_baseline(curves, meta.baseline)
    for target in reversed(targets(curves, meta)):
        sentence = _against(curves, leader, baseline, target, meta) if target.of != leader else None
        if sentence:
            return sentence
    final = comparison.final_summaries(curves, "reward", "train")[leader]
    seeds = plural(final.count, "seed")
    return f"{leader} ranks first, with a final {meta.reward} of {measured(final.mean)} over {seeds}."


def _against(curves: pd.DataFrame, leader: str, baseline: str | None, target: Target, meta: Meta) -> str | None:
    axis = meta.budget_column
    axes = list(dict.fromkeys((axis, "nfe", "flops", "train_seconds")))
    costs = comparison.costs_to_target(curves, target.value, axes)
    own = summarise(costs.loc[costs["variant"] == leader, axis].to_numpy())
    if own is None or not math.isfinite(own.median):
        return None
    goal = f"{leader} reached {target.words} ({measured(target.value)}) after {_amount(own.median, axis)}"
    seeds = f"median of {plural(own.count, 'seed')}" if own.count > 1 else "one seed"
    if baseline is None or baseline == leader:
        return f"{goal} ({seeds})."
    ends = comparison.spent(curves)
    ratios = {a: comparison.ratios_to_baseline(costs, ends, baseline, a).get(leader) for a in axes}
    main = ratios[axis]
    if main is None or main.summary.missing or not main.summary.median > 0:
        return f"{goal} ({seeds})."
    others = [
        f"{_times(ratios[a], less)} {words}"
        for a, less, words in _OTHER_COSTS
        if a != axis and _says_something(ratios[a], a, meta)
    ]
    beside = f", with {listing(others)}" if others else ""
    seeds = f"median of {plural(main.summary.count, 'seed')}" if main.summary.count > 1 else "one seed"
    less = "less" if axis.endswith("seconds") else "fewer"
    return f"{goal}: {_times(main, less)} than {baseline} ({seeds}{_spread(main.summary)}){beside}."


def _amount(cost: float, axis: str) -> str:
    """A count interpolated between points is told in whole numbers."""
    whole = 10 <= cost < 1000 and axis not in SECONDS
    return amount(round(cost) if whole else cost, axis, axis_words(axis))


_OTHER_COSTS = (
    ("nfe", "fewer", "denoiser evaluations"),
    ("flops", "fewer", "FLOPs"),
    ("train_seconds", "less", "training time"),
)


def _says_something(ratio: comparison.Ratio | None, axis: str, meta: Meta) -> bool:
    if ratio is None or ratio.summary.missing or not 0 < ratio.summary.median < math.inf:
        return False
    return meta.seconds_comparable or axis != "train_seconds"


def _times(ratio: comparison.Ratio | None, less: str) -> str:
    """ "11.2× fewer"; "1.5× more" where the ratio is below one; "at least" where it is a lower bound."""
    assert ratio is not None
    median = ratio.summary.median
    if median >= 1:
        return f"{'at least ' if ratio.at_least else ''}{number(median)}× {less}"
    return f"{'at most ' if ratio.at_least else ''}{number(1 / median)}× more"


def _spread(summary: Summary) -> str:
    """The range over seeds of what `_times` says; below one where some seed needed more."""
    low, high = summary.low, summary.high
    if summary.median < 1:
        low, high = (1 / end if end else math.inf for end in (high, low))
    return "" if number(low) == number(high) else f", {number(low)} to {number(high)}×"


def _price(curves: pd.DataFrame, leader: str, meta: Meta) -> str:
    """What became of the reward itself, of held-out prompts, and of what was not optimised: gold, diversity, drift."""
    reward = _move(curves, leader, "reward", "train")
    if reward is None:
        return ""
    heldout = _move(curves, leader, "reward", "heldout")
    aside = ""
    if heldout:
        alike = _verb(*heldout).split()[0] == _verb(*reward).split()[0]
        aside = f" (on held-out prompts {_from_to(*heldout) if alike else f'it {_verb(*heldout)}'})"
    rest = [
        f"{metric} {_verb(*move)}{_turn(curves, leader, meta) if metric == 'gold' else ''}"
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
    """(untrained, trained); None where either was not measured."""
    before = _before(curves, base_variant(curves), leader, metric, split)
    after = _final(curves, leader, metric, split)
    return None if before is None or after is None else (before, after)


def _turn(curves: pd.DataFrame, leader: str, meta: Meta) -> str:
    """Where gold was highest, if it rose at first and fell clearly since: over-optimisation has a place."""
    course = courses(curves, meta.budget_column).get(leader)
    if course is None or course.turned < course.seeds:
        return ""
    return f" after a peak at {amount(course.peak, meta.budget_column, axis_words(meta.budget_column))}"


def _final(curves: pd.DataFrame, variant: str, metric: str, split: str) -> float | None:
    found = comparison.final_summaries(curves, metric, split).get(variant)
    return None if found is None or found.missing else found.mean


def _before(curves: pd.DataFrame, base: str | None, leader: str, metric: str, split: str) -> float | None:
    """The untrained model's value: base's where it ran, else the leader's own first point."""
    if base is not None and (value := _final(curves, base, metric, split)) is not None:
        return value
    first = select(curves[curves["variant"] == leader], metric, split).groupby("trial").head(1)
    value = first["value"].mean(skipna=False) if len(first) else math.nan
    return None if math.isnan(value) else float(value)
