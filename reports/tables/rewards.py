"""The tables of the ranking, the rewards and the paired differences; `statistics/` computes their numbers."""

import math
from collections.abc import Iterable

import pandas as pd

from reports.formatting import NOTHING, measured, number, scale_for
from reports.frame import base_variant, metrics_in, untrained_variants
from reports.meta import Meta
from reports.names import DONE, SPLIT_WORDS, axis_words
from reports.statistics import comparison
from reports.statistics.curve import SEEDS_FOR_AN_INTERVAL
from reports.statistics.evidence import CROSSED_COVERAGE
from reports.tables.table import (
    Cell,
    Table,
    cost_cell,
    median_cell,
    metric_header,
    possible_places,
    range_cell,
    ranked_variants,
    seed_counts,
    spread_note,
    target_cell,
    value_cell,
)


def ranking(curves: pd.DataFrame, trials: pd.DataFrame, meta: Meta) -> Table:
    """The ranking: place, seeds, final rewards, area, cost to the target, total cost."""
    axis = meta.budget_column
    columns = {
        f"{metric}\n{SPLIT_WORDS[split]}": comparison.final_summaries(curves, metric, split)
        for metric, split in _pairs(curves, ("reward", "gold"))
        if (metric, split) != ("gold", "heldout")
    }
    areas = comparison.area_summaries(curves, axis)
    ends = comparison.spent(curves[curves["status"] == DONE])
    costs = None
    if meta.target is not None:
        costs = comparison.cost_summaries(comparison.costs_to_target(curves, meta.target, [axis]), axis)
    scale = scale_for(axis, ends[axis])
    counts = seed_counts(trials)
    untrained = untrained_variants(curves)
    rows = []
    ranked = ranked_variants(curves, trials, meta)
    possible = possible_places(curves, ranked, meta)
    for variant, _ in ranked:
        done, planned = counts[variant]
        row: dict[str, str | Cell] = {
            "#": _place(possible.get(variant)),
            "method": variant,
            "seeds": _of(done, planned),
        }
        row |= {name: value_cell(summaries.get(variant)) for name, summaries in columns.items()}
        row["area under\nthe reward"] = median_cell(areas.get(variant))
        if costs is not None:
            header = scale.label(f"{axis_words(axis)}\nto {measured(meta.target)}")
            row[header] = NOTHING if variant in untrained else target_cell(costs.get(variant), scale)
        own = comparison.summarise(ends.loc[ends["variant"] == variant, axis].to_numpy())
        row[scale.label(f"{axis_words(axis)}\nspent")] = NOTHING if variant in untrained else cost_cell(own, scale)
        rows.append(row)
    return Table.of("Ranking", rows, _ranking_note(curves, meta, [c for c, _ in counts.values()]))


def _place(possible: tuple[int, int] | None) -> str | Cell:
    """ "2", or "2–4" where the seeds leave several places open."""
    if possible is None:
        return NOTHING
    text = "–".join(map(str, dict.fromkeys(possible)))
    return Cell(text, dict(zip(("place_low", "place_high"), possible, strict=True)))


def _ranking_note(curves: pd.DataFrame, meta: Meta, seeds: list[int]) -> str:
    span = comparison.common_range(curves, meta.budget_column)
    words = axis_words(meta.budget_column)
    if span is None:
        area = "No stretch of the budget is covered by every trial, so there is no area and no rank"
    else:
        scale = scale_for(meta.budget_column, span)
        area = (
            "Ranked by the area under the reward: the mean height of the curve on training prompts over "
            f"{number(span[0] / scale.divisor)} to {scale.label(number(span[1] / scale.divisor))} {words}, "
            "the stretch that every finished trial has seen; median over seeds (range), as costs are"
        )
    spread = spread_note(seeds)
    values = f"Rewards: {spread[:1].lower()}{spread[1:]} " if spread else ""
    return f"{area}. {values}{_places_note(seeds)}A method is ranked once all its seeds are done."


def _places_note(seeds: list[int]) -> str:
    if max(seeds, default=0) < 2:
        return "One seed tells no two methods apart, so all places are open: the rows are in the order of the area. "
    return (
        "Rows that their seeds cannot tell apart share places, as 2–4: Student’s t over seeds, as bench compare has "
        "it, at 5 % for all that a row is compared with. "
    )


def rewards(curves: pd.DataFrame, trials: pd.DataFrame, meta: Meta) -> Table:
    """The table of all metrics on both splits after training, a row a variant, the untrained model first."""
    columns = {
        metric_header(metric, split, meta): comparison.final_summaries(curves, metric, split)
        for metric, split in _pairs(curves, metrics_in(curves))
    }
    variants = [variant for variant, _ in ranked_variants(curves, trials, meta)]
    base = base_variant(curves)
    variants.sort(key=lambda v: v != base)
    rows = [{"method": v, **{name: value_cell(found.get(v)) for name, found in columns.items()}} for v in variants]
    gold = f" Gold is {meta.gold}: what the reward stands for, never optimised." if meta.gold else ""
    named = f"Reward is {meta.reward}." if meta.reward != "reward" else ""
    note = f"{named}{gold} After training. {spread_note([c for c, _ in seed_counts(trials).values()])}".strip()
    return Table.of("Rewards, diversity and drift", rows, note)


def paired(curves: pd.DataFrame, evaluation: pd.DataFrame, trials: pd.DataFrame, meta: Meta) -> Table | None:
    """Each variant minus the untrained model on the same prompts and noise.

    None without values by prompt, or where the untrained model did not run as a method of its own.
    """
    base = base_variant(curves)
    if evaluation.empty or base is None:
        return None
    done = set(trials.loc[trials["status"] == DONE, "trial"])
    evaluation = comparison.last_values(evaluation[evaluation["trial"].isin(done)])
    differences = {}
    for metric, split in _pairs(evaluation, ("reward", "gold")):
        of_measure = evaluation[(evaluation["metric"] == metric) & (evaluation["split"] == split)]
        own = of_measure["variant"] == base
        differences[metric, split] = comparison.paired_with(of_measure[~own], of_measure[own])
    rows: list[dict[str, str | Cell]] = []
    counts: list[int] = []
    for variant, _ in ranked_variants(curves, trials, meta):
        for (metric, split), of_variant in differences.items():
            found = of_variant.get(variant)
            if found is None:
                continue
            counts.append(found.over_seeds.count)
            rows.append({
                "method": variant,
                "measure": f"{meta.metric_words(metric)}, {SPLIT_WORDS[split]}",
                "difference": _difference(found),
                "pairs better": Cell(
                    "NaN" if math.isnan(found.better) else f"{100 * found.better:.0f} %", {"share": found.better}
                ),
                "clear seeds": f"{found.clear_seeds} of {found.over_seeds.count}",
            })  # fmt: skip
    if not counts:
        return None
    note = (
        f"Each method minus {base} on the same prompts and the same noise, after training. {_paired_note(counts)} "
        "Pairs better: the share in which the method scores higher. Clear seeds: those whose 95 % Student-t interval "
        "over prompts excludes zero, given that trained model."
    )
    return Table.of(f"Difference from {base}, paired", rows, note, text=("method", "measure"), grouped="method")


def _difference(found: comparison.Paired) -> str | Cell:
    if found.interval is None:
        return value_cell(found.over_seeds, signed=True)
    return range_cell(found.over_seeds.mean, *found.interval, signed=True)


def _paired_note(counts: Iterable[int]) -> str:
    many = any(count >= SEEDS_FOR_AN_INTERVAL for count in counts)
    few = spread_note(count for count in counts if count < SEEDS_FOR_AN_INTERVAL)
    if not many:
        return few
    coverage = " and ".join(f"{share:.0%} with {seeds} seeds" for seeds, share in CROSSED_COVERAGE.items())
    return (
        f"{few} From five seeds on the range is the interval of a bootstrap over seeds and prompts as crossed "
        f"factors, nominally 95 %; simulated, it covers {coverage}."
    ).strip()


def _pairs(frame: pd.DataFrame, metrics: Iterable[str]) -> list[tuple[str, str]]:
    present = set(map(tuple, frame[["metric", "split"]].drop_duplicates().to_numpy()))
    return [(metric, split) for metric in metrics for split in SPLIT_WORDS if (metric, split) in present]


def _of(done: int, planned: int) -> str:
    return str(planned) if done == planned else f"{done} of {planned}"
