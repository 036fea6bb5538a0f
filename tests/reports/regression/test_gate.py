"""The verdict: directions, tolerances, seeds that cannot decide, and everything that must not pass."""

import json
import math
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest

from reports.regression import gate, gate_text
from reports.regression import verdict as words
from reports.regression.baseline import Baseline, make, rounded_up
from tests.reports import simulate
from tests.reports.simulate import AXIS, KNOWN

FIRST = {"protocol": {"reward": "a", "precision": "fp32"}, "fingerprint": {"cpu": "x", "threads": "1"}}


@pytest.fixture
def frames():
    """One method, five seeds, three points, two splits: 1.0 → 2.0, alike over seeds up to 0.01."""
    return build()


def build(gain=1.0, seeds=5, slow=1.0, points=3, variant="m", noise=0.01, nfe=320.0, shift=0):
    curves, evaluation, trials = [], [], []
    for seed in range(seeds):
        trial = {"trial": f"{variant}-s{seed}", "method": variant, "variant": variant, "seed": seed}
        trials.append({**trial, "status": "done", "cause": None})
        for point in range(points):
            share = min(1.0, point / (points - 1) / slow) if points > 1 else 0.0
            value = 1.0 + gain * share + noise * math.sin(7 * (seed + shift)) * (point > 0)
            for split in ("train", "heldout"):
                at = {**trial, "point": point, "split": split, "metric": "reward"}
                cost = {AXIS: 64.0 * point, "steps": point, "nfe": nfe * point, "flops": 1e9 * point}
                curves.append({**at, **cost, "status": "done", "value": value})
                evaluation += [
                    {**at, "prompt": p, "sample": 0, "value": value + d} for p, d in (("a", 0.1), ("b", -0.1))
                ]
    return pd.DataFrame(curves), pd.DataFrame(evaluation), pd.DataFrame(trials)


def saved(frames, primary="area", target=None) -> Baseline:
    curves, evaluation, _ = frames
    return make(
        curves, evaluation, name="n", reward="a", axis=AXIS, target=target, provenance={}, settings={}, primary=primary,
        **FIRST,
    )  # fmt: skip


def check(baseline, frames, **options):
    known = FIRST | {key: options.pop(key) for key in ("protocol", "fingerprint") if key in options}
    return gate.check(baseline, *frames, **known, **options)


def finding(verdict, statistic):
    return next(f for f in verdict.methods[0].findings if f.statistic == statistic)


def test_the_same_run_is_identical_and_passes_with_statistics_too(frames):
    assert check(saved(frames), frames).methods[0].verdict == words.IDENTICAL
    assert check(saved(frames), frames, mode="exact").passed
    verdict = check(saved(frames), frames, mode="statistical")
    assert verdict.verdict == "passed"
    assert all(f.loss == 0 for f in verdict.methods[0].findings)


def test_a_drop_in_reward_fails_and_a_rise_passes(frames):
    assert check(saved(frames), build(gain=0.7)).verdict == words.REGRESSION
    better = check(saved(frames), build(gain=1.4))
    assert better.passed
    assert better.methods[0].verdict == words.BETTER


def test_a_rise_in_queries_to_the_target_fails_and_a_fall_passes(frames):
    """With the final reward alone as primary, a slower method keeps it."""
    slower = check(saved(build(slow=0.5), "final"), frames)
    assert finding(slower, "final").verdict == words.PASSED
    assert finding(slower, "cost_to_target").verdict == words.REGRESSION
    assert slower.verdict == words.REGRESSION
    faster = check(saved(frames, "final"), build(slow=0.5))
    assert finding(faster, "cost_to_target").verdict == words.BETTER
    assert faster.passed


def test_a_rise_in_what_is_spent_fails_though_the_curves_are_equal(frames):
    verdict = check(saved(frames), build(nfe=400.0))
    assert verdict.methods[0].agreement.equal
    assert finding(verdict, "nfe").verdict == words.REGRESSION
    assert verdict.verdict == words.REGRESSION
    assert check(saved(frames), build(nfe=200.0)).passed


def test_a_target_that_is_not_reached_any_more_counts_with_all_that_was_spent(frames):
    verdict = check(saved(frames, "final"), build(gain=0.3))
    assert finding(verdict, "cost_to_target").run == 128.0
    assert finding(verdict, "cost_to_target").verdict == words.REGRESSION


def test_a_loss_within_the_tolerance_passes_however_certain(frames):
    baseline = saved(frames)
    tolerance = baseline.methods["m"].statistics["area"].tolerance
    verdict = check(baseline, build(gain=1.0 - 0.8 * tolerance))
    assert finding(verdict, "area").adjusted < 0.001
    assert finding(verdict, "area").loss > 0
    assert verdict.passed


def test_a_loss_that_the_seeds_cannot_show_is_inconclusive():
    noisy = build(noise=0.5)
    verdict = check(saved(noisy), build(gain=0.7, noise=0.5, shift=1))
    assert verdict.verdict == words.INCONCLUSIVE
    assert "run more seeds" in verdict.methods[0].reason


def test_one_seed_decides_nothing(frames):
    one = build(seeds=1)
    verdict = check(saved(one), one, mode="statistical")
    assert verdict.verdict == words.INCONCLUSIVE
    assert verdict.methods[0].findings[0].power == 0.0
    assert check(saved(one), one).passed, "an identical curve needs no statistics"
    assert saved(one).methods["m"].detects is None


def test_one_seed_against_five_can_show_a_large_loss_and_claims_less():
    baseline = saved(build(noise=0.1))
    assert check(baseline, build(seeds=1, gain=-1.0), fewer_seeds=True).verdict == words.REGRESSION
    fewer = check(baseline, build(seeds=1), fewer_seeds=True, mode="statistical")
    assert fewer.methods[0].findings[0].detects > baseline.methods["m"].detects
    assert fewer.verdict == words.INCONCLUSIVE


def test_missing_seeds_fail_unless_they_were_not_planned(frames):
    verdict = check(saved(frames), build(seeds=4))
    assert verdict.verdict == words.FAILED
    assert "Seed 4 is missing" in verdict.methods[0].reason


@pytest.mark.parametrize("status", ["failed", "diverged", "interrupted", "skipped", "pruned"])
def test_a_trial_that_did_not_finish_is_a_failure_with_its_cause(frames, status):
    curves, evaluation, trials = frames
    trials = trials.assign(status=["done"] * 4 + [status], cause=[None] * 4 + ["out of memory"])
    curves = curves.assign(status=curves["trial"].map(trials.set_index("trial")["status"]))
    verdict = check(saved(frames), (curves, evaluation, trials))
    assert verdict.verdict == words.FAILED
    assert f"Seed 4 {status} (out of memory)" in verdict.methods[0].reason


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("point", [1, 2])
def test_a_value_that_is_not_finite_is_a_failure(frames, bad, point):
    curves = frames[0].copy()
    curves.loc[(curves["seed"] == 2) & (curves["point"] == point) & (curves["split"] == "train"), "value"] = bad
    assert check(saved(frames), (curves, *frames[1:])).verdict == words.FAILED
    with pytest.raises(ValueError, match="not finite"):
        saved((curves, *frames[1:]))


def test_a_run_still_going_is_inconclusive_and_an_empty_one_a_failure(frames):
    curves, evaluation, trials = frames
    going = trials.assign(status=["done"] * 3 + ["running", "planned"])
    seen = curves.assign(status=curves["trial"].map(going.set_index("trial")["status"]))
    verdict = check(saved(frames), (seen, evaluation, going))
    assert verdict.verdict == words.INCONCLUSIVE
    assert "still going" in verdict.methods[0].reason
    planned = trials.assign(status="planned")
    assert check(saved(frames), (curves.iloc[:0], evaluation.iloc[:0], planned)).verdict == words.FAILED
    assert check(saved(frames), (curves.iloc[:0], evaluation.iloc[:0], trials.iloc[:0])).verdict == words.FAILED


def test_a_method_that_is_gone_is_a_failure_and_a_new_one_a_note(frames):
    verdict = check(saved(frames), build(variant="other"))
    assert verdict.verdict == words.FAILED
    assert "Not in the baseline, so not checked: other." in verdict.notes


def test_unequal_lengths(frames):
    """A curve cut short is another comparison; one with other points over the same stretch is compared."""
    curves, evaluation, trials = frames
    short = check(saved(frames), (curves[curves["point"] < 2], evaluation[evaluation["point"] < 2], trials))
    assert short.verdict == words.NOT_COMPARABLE
    assert "ends at 64 reward queries, the baseline's at 128" in short.methods[0].reason
    denser = build(points=5)
    denser[0][[AXIS, "nfe", "flops"]] /= 2
    found = check(saved(frames), denser)
    assert found.passed
    assert "evaluated at other points" in found.methods[0].agreement.words


def test_another_protocol_is_never_a_pass(frames):
    verdict = check(saved(frames), frames, protocol={"reward": "a", "precision": "bf16"})
    assert verdict.verdict == words.NOT_COMPARABLE
    assert "precision: fp32, now bf16" in verdict.reason


def test_another_machine_is_tested_and_not_compared_point_by_point(frames):
    other = {"cpu": "y", "threads": "1"}
    verdict = check(saved(frames), frames, fingerprint=other)
    assert verdict.verdict == "passed"
    assert verdict.methods[0].agreement is None
    assert "cpu: x, now y" in verdict.notes[0]
    assert check(saved(frames), frames, fingerprint=other, mode="exact").verdict == words.NOT_COMPARABLE


def test_the_exact_mode_says_where_curves_part(frames):
    curves = frames[0].copy()
    curves.loc[(curves["seed"] == 3) & (curves["point"] == 1), "value"] += 1e-3
    verdict = check(saved(frames), (curves, *frames[1:]), mode="exact")
    assert verdict.verdict == words.REGRESSION
    assert "seed 3 differs from point 1 on (by up to 0.001)" in verdict.methods[0].reason.lower()
    curves.loc[:, "value"] = frames[0]["value"] + 1e-7
    assert check(saved(frames), (curves, *frames[1:]), mode="exact").passed, "within the stated tolerance"


def test_a_method_that_trains_nothing_needs_no_seeds():
    base = build(points=1, variant="base", noise=0.0, seeds=1)
    assert check(saved(base), base, mode="statistical").passed
    worse = (base[0].assign(value=0.9), base[1].assign(value=0.9), base[2])
    assert check(saved(base), worse).verdict == words.REGRESSION
    better = (base[0].assign(value=1.1), base[1].assign(value=1.1), base[2])
    assert check(saved(base), better).methods[0].verdict == words.BETTER


def test_holm_over_methods_costs_the_others_power():
    pair = zip(build(noise=0.1), build(variant="n", noise=0.1), strict=True)
    two = [pd.concat(parts, ignore_index=True) for parts in pair]
    assert saved(two).methods["m"].detects > saved(build(noise=0.1)).methods["m"].detects
    assert sum(saved(two).shares().values()) == pytest.approx(1)
    pair = zip(build(noise=0.1), build(variant="n", noise=0.1, gain=0.3), strict=True)
    worse = [pd.concat(parts, ignore_index=True) for parts in pair]
    verdict = check(saved(two), worse)
    assert [m.verdict for m in verdict.methods] == [words.IDENTICAL, words.REGRESSION]


def test_prompts_name_where_it_was_lost(frames):
    evaluation = frames[1].copy()
    hit = (evaluation["prompt"] == "b") & (evaluation["point"] > 0)
    evaluation.loc[hit, "value"] -= 0.6
    curves = frames[0].copy()
    curves.loc[curves["point"] > 0, "value"] -= 0.3
    verdict = check(saved(frames), (curves, evaluation, frames[2]))
    assert next(iter(verdict.methods[0].prompts)) == "b"
    assert any("lost most on: b" in line for line in gate_text.details(verdict))


def test_a_costs_figures_have_their_unit_wherever_they_are_told(frames):
    dearer = (frames[0].assign(flops=5e3 * frames[0]["flops"]), *frames[1:])
    usual = (frames[0].assign(flops=4e3 * frames[0]["flops"]), *frames[1:])
    verdict = check(saved(usual), dearer)
    assert finding(verdict, "flops").verdict == words.REGRESSION
    assert "FLOPs in all 8 → 10 TFLOP (" in verdict.reason
    assert "tolerance 0.0800 TFLOP)" in verdict.reason
    for text in (gate_text.to_markdown(verdict), gate_text.to_junit(verdict)):
        assert "8 → 10 TFLOP" in text
    row = gate_text.findings_table(verdict).cells.set_index("statistic").loc["FLOPs in all (TFLOP)"]
    assert (row["baseline"], row["run"], row["loss"]) == ("8", "10", "2")


def test_every_form_says_the_same(frames):
    bad = check(saved(frames), build(gain=0.5))
    assert gate_text.to_markdown(bad).startswith("## ❌ n: regression")
    assert json.loads(json.dumps(gate_text.to_json(bad)))["passed"] is False
    suite = ElementTree.fromstring(gate_text.to_junit(bad)).find("testsuite")
    assert int(suite.get("failures")) >= 1
    assert int(suite.get("tests")) == len(suite.findall("testcase"))
    good = ElementTree.fromstring(gate_text.to_junit(check(saved(frames), frames))).find("testsuite")
    assert (good.get("failures"), good.get("errors")) == ("0", "0")
    for verdict in (
        check(saved(frames), build(seeds=4)),
        check(saved(frames), frames, protocol={"reward": "b", "precision": "fp32"}),
        check(saved(build(seeds=1)), build(seeds=1), mode="statistical"),
    ):
        suite = ElementTree.fromstring(gate_text.to_junit(verdict)).find("testsuite")
        assert int(suite.get("errors")) >= 1, "what does not pass is no green test"
        assert "⚠️" in gate_text.to_markdown(verdict) or "❌" in gate_text.to_markdown(verdict)


def of_seeds(frames, seeds):
    return tuple(frame[frame["seed"].isin(seeds)] if "seed" in frame else frame for frame in frames)


def test_some_seeds_of_an_unchanged_method_are_no_regression():
    """Its curve is equal, and what the other seeds would bring is their luck and not a loss."""
    frames = build(noise=0.1)
    for seed in range(5):
        verdict = check(saved(frames), of_seeds(frames, [seed]), fewer_seeds=True)
        assert verdict.methods[0].verdict == words.IDENTICAL, seed
        assert all(found.loss == 0 for found in verdict.methods[0].findings)
    more = check(saved(of_seeds(frames, [0, 1])), frames)
    assert more.methods[0].verdict == words.IDENTICAL


def test_exact_mode_with_no_seed_in_common_compares_nothing(frames):
    curves, evaluation, trials = build(seeds=2)
    other = tuple(frame.assign(seed=frame["seed"] + 5) for frame in (curves, evaluation, trials))
    verdict = check(saved(frames), other, fewer_seeds=True, mode="exact")
    assert verdict.verdict == words.NOT_COMPARABLE
    assert "No seed in common" in verdict.reason


def test_the_means_shown_are_of_the_seeds_that_are_paired():
    frames = build(seeds=12, noise=0.1)
    verdict = check(saved(of_seeds(frames, range(5))), frames, mode="statistical")
    assert finding(verdict, "final").loss == 0
    assert finding(verdict, "final").baseline == pytest.approx(finding(verdict, "final").run)


def test_an_evaluation_that_is_not_the_curves_is_a_failure(frames):
    curves, evaluation, trials = frames
    other = evaluation.assign(value=evaluation["value"] - 0.2 * (evaluation["seed"] == 1))
    verdict = check(saved(frames), (curves, other, trials))
    assert verdict.verdict == words.FAILED
    assert "Curve and evaluation of seed 1 disagree" in verdict.reason


def test_a_run_that_says_nothing_of_its_protocol_is_not_comparable(frames):
    assert check(saved(frames), frames, protocol={}).verdict == words.NOT_COMPARABLE


def test_a_cause_with_a_terminals_colours_is_still_xml(frames):
    curves, evaluation, trials = frames
    trials = trials.assign(status=["failed", *["done"] * 4], cause=["\x1b[31mred\x00", *[None] * 4])
    text = gate_text.to_junit(check(saved(frames), (curves, evaluation, trials)))
    assert "red" in ElementTree.fromstring(text).find(".//error").get("message")


def test_a_name_cannot_act_on_the_markdown():
    name = "a|b*<img>"
    text = gate_text.to_markdown(check(saved(build(variant=name)), build(gain=0.5, variant=name)))
    assert text.count(r"a\|b\*&lt;img>") >= 2
    assert "<img>" not in text


def test_tolerances_are_rounded_up():
    assert rounded_up(0.01234) == 0.013
    assert rounded_up(0.012) == 0.012
    assert rounded_up(0.0) == 0.0


@pytest.mark.slow
@pytest.mark.parametrize("alike", [0.0, 0.7])
def test_unchanged_runs_through_the_whole_gate(alike):
    """At most 5 % and 2.5 standard deviations of 300; the size is tested on more pairs in test_evidence.py."""
    found = [verdict.verdict for _, verdict in simulate.verdicts(300, 5, 6, alike, seed=3)]
    assert found.count(words.REGRESSION) <= 300 * 0.05 + 2.5 * math.sqrt(300 * 0.05 * 0.95)
    assert found.count("passed") > 0.7 * len(found)
    assert set(found) <= {"passed", words.REGRESSION, words.INCONCLUSIVE}


@pytest.mark.slow
def test_a_planted_loss_of_the_claimed_size_is_caught_through_the_whole_gate():
    """80 % less three standard deviations of 200, through frames, Holm over two methods and all statistics."""
    generator = np.random.default_rng(5)
    caught = 0
    for _ in range(200):
        both = {f"m{k}": simulate.values(generator, 1, 5, 6, 0.0) for k in range(2)}
        baseline = simulate.baseline_of({name: 8 + before[0] for name, (before, _) in both.items()})
        runs = {name: 8 + after[0] for name, (_, after) in both.items()}
        runs["m0"] = runs["m0"] - baseline.methods["m0"].detects
        verdict = simulate.verdict_of(baseline, runs)
        caught += verdict.methods[0].verdict == words.REGRESSION
    assert caught >= 200 * (0.8 - 3 * math.sqrt(0.8 * 0.2 / 200))


assert set(KNOWN) == set(FIRST)


def test_a_method_the_baseline_does_not_know_cannot_fail_unseen(frames):
    for status, verdict in (("failed", words.FAILED), ("diverged", words.FAILED), ("skipped", "passed")):
        new = {"trial": "n-s0", "method": "n", "variant": "n", "seed": 0, "status": status, "cause": "out of memory"}
        trials = pd.concat([frames[2], pd.DataFrame([new])], ignore_index=True)
        found = check(saved(frames), (*frames[:2], trials))
        assert found.verdict == verdict
        if verdict == words.FAILED:
            assert found.methods[-1].reason == f"Seed 0 {status} (out of memory). It is not in the baseline."


def test_where_curves_are_equal_a_cost_is_certain_however_few_the_seeds():
    few = build(seeds=3)
    few[0]["nfe"] *= 1 + 0.06 * few[0]["seed"]
    dearer = few[0].assign(nfe=1.05 * few[0]["nfe"])
    verdict = check(saved(few), (dearer, *few[1:]))
    assert finding(verdict, "nfe").adjusted > 0.05, "the seeds alone would not have shown it"
    assert finding(verdict, "nfe").verdict == words.REGRESSION
    assert "certain, as the curves are equal" in verdict.methods[0].reason
    one = build(seeds=1)
    assert check(saved(one), build(seeds=1, nfe=330.0)).verdict == words.REGRESSION


def test_a_stored_axis_that_was_rounded_past_the_others_beginning_is_no_error(frames):
    curves = frames[0].assign(**{AXIS: frames[0][AXIS] * 1e7 + 1_234_567.6})
    baseline = saved((curves, *frames[1:]))
    assert min(axis[0] for axis in baseline.methods["m"].curves.axis.values()) > curves[AXIS].min()
    shorter = curves.assign(**{AXIS: curves[AXIS] - 1e7 * (curves["point"] == 2)})
    assert finding(check(baseline, (shorter, *frames[1:])), "area").loss == pytest.approx(0.0, abs=0.05)


def test_the_primary_statistic_cannot_be_let_off_or_be_none(frames):
    kept = saved(frames).model_dump(mode="json")
    kept["methods"]["m"]["statistics"]["area"]["gate"] = False
    with pytest.raises(ValueError, match="area is the primary statistic and has gate: false"):
        Baseline.model_validate(kept)
    kept["methods"]["m"]["primary"] = "areas"
    with pytest.raises(ValueError, match="'areas' is none of its statistics: area"):
        Baseline.model_validate(kept)


def test_a_bound_is_not_printed_as_a_number(frames):
    verdict = check(saved(frames, "final"), build(gain=0.3))
    assert finding(verdict, "cost_to_target").bound
    assert "≥ 128" in set(gate_text.findings_table(verdict).cells["run"])


def test_another_set_of_seeds_is_not_said_to_have_other_curves(frames):
    curves, evaluation, trials = build(seeds=7)
    late = [frame[frame["seed"] > 4] for frame in (curves, evaluation, trials)]
    verdict = check(saved(frames), late, fewer_seeds=True)
    assert not verdict.methods[0].notes
