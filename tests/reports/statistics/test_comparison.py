"""Statistics over frames small enough to work out by hand."""

import math

import pandas as pd
import pytest

from reports.names import CURVE_AXES
from reports.statistics import comparison
from tests.reports.conftest import family_of


def curve(variant, seed, queries, values, status="done", method=None):
    """Rows of one trial; every axis runs like the queries, memory is 100 + point."""
    rows = []
    for point, (spent, value) in enumerate(zip(queries, values, strict=True)):
        axes = dict.fromkeys(CURVE_AXES, float(spent)) | {"peak_memory_bytes": 100.0 + point}
        rows.append({
            "trial": f"{variant}-s{seed}", "method": method or variant, "variant": variant, "seed": seed,
            "family": family_of(method or variant), "status": status, "point": point, "split": "train",
            "metric": "reward", "value": value, **axes,
        })  # fmt: skip
    return rows


@pytest.fixture
def small():
    return pd.DataFrame([
        *curve("base", 0, [0], [0.2]),
        *curve("alignprop", 0, [0, 10, 20], [0.2, 0.6, 1.0]),
        *curve("alignprop", 1, [0, 10, 20], [0.2, 1.0, 1.2]),
        *curve("ddpo", 0, [0, 50, 100], [0.2, 0.4, 0.6]),
        *curve("ddpo", 1, [0, 50, 100], [0.2, 0.3, 0.4]),
    ])  # fmt: skip


def test_final_values_are_the_last_points(small):
    finals = comparison.final_values(small, "reward", "train").set_index("trial")["value"]
    assert finals.to_dict() == {
        "base-s0": 0.2,
        "alignprop-s0": 1.0,
        "alignprop-s1": 1.2,
        "ddpo-s0": 0.6,
        "ddpo-s1": 0.4,
    }


def test_the_common_range_is_what_every_trained_trial_has_seen(small):
    assert comparison.common_range(small, "reward_queries") == (0, 20)


def test_trials_that_are_not_done_do_not_narrow_the_range(small):
    failed = pd.concat([small, pd.DataFrame(curve("rwr", 0, [0, 5], [0.2, 0.2], status="failed"))])
    running = failed.assign(status=failed["status"].replace("failed", "running"))
    assert comparison.common_range(failed, "reward_queries") == (0, 20)
    assert comparison.common_range(running, "reward_queries") == (0, 20), "no area is taken of them"


def test_areas_by_hand(small):
    areas = comparison.areas(small, "reward_queries").set_index("trial")["value"]
    assert areas["base-s0"] == pytest.approx(0.2)
    assert areas["alignprop-s0"] == pytest.approx(0.6)
    assert areas["ddpo-s0"] == pytest.approx((0.2 + 0.28) / 2)  # 0.28 at 20 queries


def test_costs_to_target_by_hand(small):
    costs = comparison.costs_to_target(small, 0.8, ["reward_queries", "peak_memory_bytes"]).set_index("trial")
    assert costs.loc["alignprop-s0", "reward_queries"] == pytest.approx(15)
    assert not costs.loc["alignprop-s0", "at_most"]
    early = comparison.costs_to_target(small, 0.4, ["reward_queries", "peak_memory_bytes"]).set_index("trial")
    assert early.loc["ddpo-s1", "reward_queries"] == pytest.approx(100)
    assert early.loc["ddpo-s1", "peak_memory_bytes"] == 102
    assert "base-s0" not in costs.index


def test_nothing_is_interpolated_before_the_first_evaluation(small):
    costs = comparison.costs_to_target(small, 0.2001, ["reward_queries", "peak_memory_bytes"]).set_index("trial")
    assert costs.loc["ddpo-s0", "reward_queries"] == 50, "and not 0.025 queries"
    assert costs["at_most"].all()
    assert costs["reached"].all()
    summary = comparison.cost_summaries(costs.reset_index(), "reward_queries")["ddpo"]
    assert (summary.median, summary.at_most) == (50, {"median", "low", "high"})
    assert comparison.cost_summaries(costs.reset_index(), "peak_memory_bytes")["ddpo"].at_most == frozenset()


def test_a_curve_that_begins_at_the_target_has_spent_nothing(small):
    costs = comparison.costs_to_target(small, 0.2, ["reward_queries"])
    assert (costs["reward_queries"] == 0).all()
    assert not costs["at_most"].any()


def test_a_curve_whose_beginning_was_lost_gives_a_bound(small):
    cut = small[(small["variant"] != "ddpo") | (small["point"] > 0)]
    costs = comparison.costs_to_target(cut, 0.3, ["reward_queries"]).set_index("trial")
    assert (costs.loc["ddpo-s0", "reward_queries"], costs.loc["ddpo-s0", "at_most"]) == (50, True)


def ratio(frame, target, baseline="ddpo", variant="alignprop"):
    costs = comparison.costs_to_target(frame, target, ["reward_queries"])
    return comparison.ratios_to_baseline(costs, comparison.spent(frame), baseline, "reward_queries").get(variant)


def two(alignprop, ddpo):
    """A seed each, evaluated every 10 and every 50 queries."""
    return pd.DataFrame([*curve("alignprop", 0, [0, 10, 20], alignprop), *curve("ddpo", 0, [0, 50, 100], ddpo)])


def test_ratios_are_taken_seed_by_seed():
    frame = pd.DataFrame([
        *curve("alignprop", 0, [0, 10, 20], [0.2, 0.3, 0.5]), *curve("alignprop", 1, [0, 10, 20], [0.2, 0.3, 0.7]),
        *curve("ddpo", 0, [0, 50, 100], [0.2, 0.3, 0.5]), *curve("ddpo", 1, [0, 50, 100], [0.2, 0.3, 0.4]),
    ])  # fmt: skip
    found = ratio(frame, 0.4)
    assert (found.summary.low, found.summary.high) == pytest.approx((75 / 15, 100 / 12.5))
    assert not found.at_least
    assert not found.at_most


def test_a_baseline_that_never_arrived_gives_a_lower_bound_from_all_it_spent():
    found = ratio(two([0.2, 0.3, 0.7], [0.2, 0.3, 0.4]), 0.5)
    assert found.at_least
    assert found.summary.high == pytest.approx(100 / 15)


def test_a_ratio_with_a_bound_is_a_bound_and_of_two_there_is_none():
    early = ratio(two([0.2, 0.6, 0.7], [0.2, 0.3, 0.5]), 0.4)
    assert (early.at_least, early.at_most, early.summary.median) == (True, False, pytest.approx(75 / 10))
    late = ratio(two([0.2, 0.3, 0.5], [0.2, 0.6, 0.7]), 0.4)
    assert (late.at_least, late.at_most, late.summary.median) == (False, True, pytest.approx(50 / 15))
    assert ratio(two([0.2, 0.6, 0.7], [0.2, 0.6, 0.7]), 0.4).summary.missing == 1
    assert ratio(two([0.2, 0.6, 0.7], [0.2, 0.3, 0.35]), 0.4).at_least, "from all that ddpo spent, and from 10"
    mixed = pd.concat([two([0.2, 0.6, 0.7], [0.2, 0.3, 0.5]), two([0.2, 0.3, 0.5], [0.2, 0.6, 0.7]).assign(
        seed=1, trial=lambda rows: rows["trial"] + "-1")])  # fmt: skip
    assert ratio(mixed, 0.4) is None, "a lower bound in one seed and an upper one in the other"


def test_a_seed_that_never_arrived_counts_as_infinite(small):
    costs = comparison.costs_to_target(small, 1.1, ["reward_queries"]).set_index("trial")
    assert costs.loc["alignprop-s0", "reward_queries"] == math.inf
    assert not costs.loc["alignprop-s0", "reached"]


@pytest.mark.parametrize(
    ("wanted", "expected"), [("alignprop", "alignprop"), (None, "ddpo"), ("absent", "ddpo"), ("base", "ddpo")]
)
def test_the_baseline_is_the_named_one_then_the_reference(small, wanted, expected):
    assert comparison.pick_baseline(small, wanted, "ddpo") == expected


def test_without_the_reference_the_baseline_is_the_worst_trained_method(small):
    renamed = small.assign(
        method=small["method"].replace("ddpo", "rwr"), variant=small["variant"].replace("ddpo", "rwr")
    )
    assert comparison.pick_baseline(renamed, None, "ddpo") == "rwr"
    assert comparison.pick_baseline(small[small["variant"] != "ddpo"], None, "ddpo") is None  # nothing to compare with


def paired_rows(variant, seed, values, point=1):
    return [
        {"trial": f"{variant}-s{seed}", "method": variant, "variant": variant, "seed": seed, "point": point,
         "split": "train", "metric": "reward", "prompt": prompt, "sample": sample, "value": value}
        for (prompt, sample), value in values.items()
    ]  # fmt: skip


def paired_difference(frame, variant, other):
    last = comparison.last_values(frame)
    own, reference = (last[last["variant"] == name] for name in (variant, other))
    return comparison.paired_with(own, reference).get(variant)


def test_paired_differences_by_hand():
    base = {("a", 0): 1.0, ("a", 1): 2.0, ("b", 0): 3.0}
    one = {("a", 0): 1.5, ("a", 1): 2.5, ("b", 0): 3.2}
    two = {("a", 0): 0.0, ("a", 1): 2.0, ("b", 0): 4.0, ("c", 0): 9.0}  # c has no partner
    frame = pd.DataFrame([
        *paired_rows("base", 0, base, point=0), *paired_rows("ddpo", 0, one), *paired_rows("ddpo", 1, two),
        *paired_rows("ddpo", 1, {("a", 0): 99.0}, point=0),
    ])  # fmt: skip
    found = paired_difference(frame, "ddpo", "base")
    assert found.over_seeds.low == pytest.approx(0)
    assert found.over_seeds.high == pytest.approx(0.4)
    assert found.pairs == 6
    assert found.better == pytest.approx(4 / 6)


def test_pairing_by_seed_where_the_other_has_seeds_and_none_without_partners():
    low, high = {("a", 0): 1.0}, {("a", 0): 5.0}
    frame = pd.DataFrame(
        [*paired_rows("x", 0, low), *paired_rows("x", 1, high), *paired_rows("y", 0, low), *paired_rows("y", 1, high)]
    )
    assert paired_difference(frame, "x", "y").over_seeds.high == 0
    assert paired_difference(frame, "x", "absent") is None


def test_nan_in_a_pair_is_not_dropped():
    frame = pd.DataFrame([*paired_rows("x", 0, {("a", 0): math.nan, ("b", 0): 1.0}),
                          *paired_rows("base", 0, {("a", 0): 0.0, ("b", 0): 0.0})])  # fmt: skip
    assert paired_difference(frame, "x", "base").over_seeds.missing == 1
    prompts = {(str(i), 0): 1.0 + i for i in range(6)}
    seeds = [
        row for seed in range(5) for row in paired_rows("x", seed, prompts | {("0", 0): math.nan} if seed else prompts)
    ]
    found = paired_difference(pd.DataFrame([*seeds, *paired_rows("base", 0, dict.fromkeys(prompts, 0.0))]), "x", "base")
    assert (found.clear_seeds, found.interval, math.isnan(found.better)) == (1, None, True)


def test_a_clear_seed_has_an_interval_over_prompts_off_zero():
    base = {(str(i), 0): 0.0 for i in range(6)}
    better = {(str(i), 0): 1.0 + 0.1 * i for i in range(6)}
    mixed = {(str(i), 0): (-1.0) ** i for i in range(6)}
    frame = pd.DataFrame([*paired_rows("base", 0, base), *paired_rows("x", 0, better), *paired_rows("x", 1, mixed)])
    assert paired_difference(frame, "x", "base").clear_seeds == 1


def test_from_five_seeds_the_difference_has_a_seeded_interval_over_seeds_and_prompts():
    base = {(str(i), 0): 0.0 for i in range(6)}

    def rows(seeds):
        trained = [paired_rows("x", s, {(str(i), 0): 0.1 * s + 0.01 * i for i in range(6)}) for s in range(seeds)]
        return pd.DataFrame([*paired_rows("base", 0, base), *(row for seed in trained for row in seed)])

    assert paired_difference(rows(4), "x", "base").interval is None
    found = paired_difference(rows(6), "x", "base")
    low, high = found.interval
    assert low < found.over_seeds.mean < high
    assert found == paired_difference(rows(6), "x", "base")
    torn = rows(6).query("not (seed == 2 and prompt == '3')")
    assert paired_difference(torn, "x", "base").interval is None


def test_an_interval_is_printed_with_its_coverage(make_run, meta):
    from reports.tables import rewards

    curves, evaluation, trials = make_run(seeds=range(5))
    table = rewards.paired(curves, evaluation, trials, meta)
    assert "simulated, it covers 87% with 5 seeds" in table.note
    few = make_run()
    assert "simulated" not in rewards.paired(*few, meta).note
