"""What the tables say, and what they refuse to say."""

import dataclasses
import math

import pandas as pd
import pytest

from reports.build import build_report, write_document
from reports.headline import _spread, headline
from reports.notices import notices
from reports.statistics.curve import summarise
from reports.tables import costs, rewards
from reports.tables.costs import Target


def with_status(trials, trial, status, cause=None):
    trials = trials.copy()
    trials.loc[trials["trial"] == trial, ["status", "cause"]] = [status, cause]
    return trials


def applied(curves, trials):
    return curves.assign(status=curves["trial"].map(trials.set_index("trial")["status"]))


def without_other_measures(run):
    known = ["reward", "diversity", "drift"]
    return tuple(frame[frame["metric"].isin(known)] if "metric" in frame else frame for frame in run)


def test_ranking_orders_by_area_and_prints_strings(run, meta):
    curves, _, trials = run
    table = rewards.ranking(curves, trials, meta)
    assert list(table.cells["method"]) == ["alignprop", "ddpo", "rwr", "base"]
    assert list(table.cells["#"]) == ["1", "2", "3–4", "3–4"]
    assert table.records()[2]["#"] == {"text": "3–4", "place_low": 3, "place_high": 4}
    assert "cannot tell apart share places, as 2–4" in table.note
    assert all(isinstance(cell, str) for cell in table.cells.to_numpy().ravel())
    assert table.cells.set_index("method").loc["ddpo", "reward queries\nto 1.00"] == "not reached"


def test_a_method_with_a_broken_seed_stays_in_the_ranking_without_a_place(run, meta):
    curves, _, trials = run
    trials = with_status(trials, "alignprop-s1-0123abcd", "diverged", "NaN")
    row = rewards.ranking(applied(curves, trials), trials, meta).cells.set_index("method").loc["alignprop"]
    assert (row["#"], row["seeds"]) == ("–", "2 of 3")


def test_a_method_without_any_curve_is_still_a_row(run, meta):
    curves, _, trials = run
    curves = curves[curves["variant"] != "rwr"]
    trials.loc[trials["variant"] == "rwr", "status"] = "failed"
    cells = rewards.ranking(curves, trials, meta).cells.set_index("method")
    assert (cells.loc["rwr", "seeds"], cells.loc["rwr", "reward\ntraining prompts"]) == ("0 of 3", "–")


def test_nan_is_printed_and_takes_the_place_away(run, meta):
    curves, _, trials = run
    odd = (curves["trial"] == "alignprop-s0-0123abcd") & (curves["point"] == 11) & (curves["metric"] == "reward")
    curves.loc[odd, "value"] = math.nan
    row = rewards.ranking(curves, trials, meta).cells.set_index("method").loc["alignprop"]
    assert row["reward\ntraining prompts"] == "NaN (1 of 3 seeds)"
    assert row["#"] == "–"
    assert any(
        "NaN" in notice.text for notice in notices(curves, pd.DataFrame(columns=["value", "variant"]), trials, meta)
    )


def test_efficiency_has_costs_ratios_and_the_best_in_bold(run, meta):
    curves, _, trials = run
    found = costs.targets(curves, meta)
    assert [target.words for target in found] == ["the target", "ddpo’s median final reward"]
    table = costs.efficiency(curves, trials, meta, found[1])
    cells = table.cells.set_index("method")
    assert "×" in cells.loc["alignprop", "reward\nqueries"]
    assert "×" not in cells.loc["ddpo", "reward\nqueries"]
    assert (0, "reward\nqueries") in table.best
    assert cells.loc["rwr", "reward\nqueries"] == "not reached"
    assert "base" not in cells.index


def test_a_seed_that_never_got_there_is_infinitely_dear(run, meta):
    curves, _, trials = run
    late = (curves["variant"] == "alignprop") & (curves["seed"] == 1) & (curves["metric"] == "reward")
    curves.loc[late, "value"] = 0.5
    cells = costs.efficiency(curves, trials, meta, costs.targets(curves, meta)[1]).cells.set_index("method")
    cost, ratio = cells.loc["alignprop", "reward\nqueries"].split("\n")
    assert cost.endswith("–∞)")
    assert "× (0–" in ratio


def test_the_column_that_ranks_is_in_the_order_of_the_places(run, meta):
    """With the mean there and the median in the ranking, the second place could show a higher area than the first."""
    curves, _, trials = run
    lucky = (curves["variant"] == "ddpo") & (curves["seed"] == 2) & (curves["metric"] == "reward")
    curves.loc[lucky, "value"] += 5.0
    cells = rewards.ranking(curves, trials, meta).cells
    heights = [float(cell.split()[0]) for cell in cells["area under\nthe reward"]]
    assert heights == sorted(heights, reverse=True)


def test_the_cost_table_says_the_trained_rows_a_query(run, meta):
    curves, _, trials = run
    curves = curves.assign(nfe_backward=curves["reward_queries"] * curves["variant"].map({"ddpo": 3.0, "rwr": 4.0}))
    table = costs.efficiency(curves, trials, meta, Target("the target", 1.0))
    cells = table.cells.set_index("method")["denoiser rows\ntrained a query"]
    assert cells["ddpo"].startswith("3")
    assert cells["rwr"].startswith("4")
    assert cells["alignprop"] == "–", "its run did not count them"


def test_seconds_that_cannot_be_compared_are_shown_and_not_ranked(run, meta):
    curves, _, trials = run
    meta = dataclasses.replace(meta, seconds_comparable=False)
    table = costs.efficiency(curves, trials, meta, Target("the target", 1.0))
    seconds = next(column for column in table.cells if "time" in column)
    assert table.cells[seconds].iloc[0] != "–"
    assert not any(column == seconds for _, column in table.best)
    assert "Seconds are not ranked" in table.note
    assert "training time" not in headline(curves, trials, meta)


def test_without_a_target_the_baselines_final_reward_stands_alone(run, meta):
    curves = run[0]
    found = costs.targets(curves, dataclasses.replace(meta, target=None))
    assert [target.of for target in found] == ["ddpo"]


def test_a_baseline_that_ended_below_its_start_is_no_target(run, meta):
    curves, _, trials = run
    fallen = (curves["variant"] == "ddpo") & (curves["point"] == 16)
    curves.loc[fallen, "value"] = 0.1
    assert costs.targets(curves, dataclasses.replace(meta, target=None)) == []
    text = headline(curves, trials, dataclasses.replace(meta, target=None))
    assert "alignprop ranks first" in text
    assert text.endswith("ddpo did not clearly beat the base model, so nothing is measured against it.")
    assert "×" not in text


def test_the_trials_say_how_much_of_their_time_evaluation_took(run, meta):
    curves = run[0].assign(wall_seconds=200.0, eval_seconds=50.0)
    assert "Evaluation took 25% of the trials’ time." in costs.trials_table(curves, run[2], meta).note
    unknown = run[0].drop(columns="eval_seconds", errors="ignore")
    assert "Evaluation took" not in costs.trials_table(unknown, run[2], meta).note


def test_trials_put_the_broken_first_with_their_cause(run, meta):
    curves, _, trials = run
    trials = with_status(trials, "rwr-s2-0123abcd", "failed", "out of memory; lower the batch")
    trials = with_status(trials, "ddpo-s0-0123abcd", "running")
    cells = costs.trials_table(applied(curves, trials), trials, meta).cells
    assert list(cells["status"][:3]) == ["failed", "running", "done"]
    assert cells["cause"].iloc[0] == "out of memory; lower the batch"
    assert len(cells) == 12


def test_rewards_put_base_first_and_name_other_rewards(run, meta):
    curves, _, trials = run
    cells = rewards.rewards(curves, trials, meta).cells
    assert cells["method"].iloc[0] == "base"
    assert "emoji-alignment\ntraining prompts" in cells
    assert cells.columns[1] == "reward\ntraining prompts"


def test_five_seeds_bring_an_interval(make_run, meta):
    curves, _, trials = make_run(seeds=(0, 1, 2, 3, 4))
    table = rewards.ranking(curves, trials, meta)
    assert "±" in table.cells["reward\ntraining prompts"].iloc[0]
    assert "Student-t" in table.note


def test_paired_needs_base_and_values(run, meta):
    curves, evaluation, trials = run
    table = rewards.paired(curves, evaluation, trials, meta)
    assert list(table.printed["method"][:5]) == ["alignprop", "", "", "", "ddpo"]
    assert rewards.paired(curves, evaluation.head(0), trials, meta) is None
    assert rewards.paired(curves[curves["variant"] != "base"], evaluation, trials, meta) is None


def test_headline_says_who_for_how_much_and_at_what_price(run, meta):
    curves, _, trials = run
    text = headline(curves, trials, meta)
    assert "alignprop reached ddpo’s median final reward" in text
    assert "× fewer than ddpo (median of 3 seeds" in text
    assert "gold fell from 0.500 to 0.200 after a peak at" in text
    assert "diversity fell" in text


def test_headline_names_no_peak_where_gold_only_fell(run, meta):
    curves, _, trials = run
    gold = curves["metric"] == "gold"
    falling = curves.assign(value=curves["value"].where(~gold, 0.9 - 0.1 * curves["point"]))
    text = headline(falling, trials, meta)
    assert "gold fell" in text
    assert "peak" not in text


def test_headline_without_gold_without_base_with_one_seed(make_run, meta):
    curves, evaluation, trials = make_run(seeds=(0,))
    keep = ~curves["metric"].isin(["gold", "diversity"]) & (curves["variant"] != "base")
    curves, trials = curves[keep], trials[trials["variant"] != "base"]
    text = headline(curves, trials, meta, evaluation[evaluation["variant"] != "base"])
    assert "than ddpo (one seed)" in text, "clear over prompts, against its own first point"
    assert "gold" not in text
    blind = headline(curves, trials, meta)
    assert blind.startswith("No method clearly beat the untrained model. alignprop ended at")
    assert "over one seed" in blind
    assert "×" not in blind


def test_headline_before_anything_is_done(run, meta):
    curves, _, trials = run
    trials = trials.assign(status="running")
    assert "no answer" in headline(applied(curves, trials), trials, meta)
    partly = with_status(run[2], "rwr-s2-0123abcd", "running")
    assert headline(applied(curves, partly), partly, meta).startswith("So far, ")


def test_a_trial_that_has_just_begun_takes_no_answer_away(run, meta):
    curves, _, trials = run
    partly = with_status(trials, "rwr-s2-0123abcd", "running")
    begun = applied(curves, partly)
    begun = begun[(begun["status"] != "running") | (begun["point"] == 0)]
    text = headline(begun, partly, meta)
    assert text.startswith("So far, higher reward, worse pictures: gold is highest at")
    assert "alignprop reached" in text
    assert list(rewards.ranking(begun, partly, meta).cells["#"])[:2] == ["1", "2"]


def test_headline_tells_drift_and_where_base_failed_begins_at_the_methods_own_start(run, meta):
    curves, _, trials = run
    assert "drift rose from" in headline(curves, trials, meta)
    trials = trials.assign(status=trials["status"].mask(trials["variant"] == "base", "failed"))
    text = headline(applied(curves, trials), trials, meta)
    assert f"Its {meta.reward} rose from" in text


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([2.0, 3.0, 6.0], ", 2 to 6×"),
        ([0.5, 2.0, 6.0], ", 0.500 to 6×"),
        ([0.0, 0.5, 0.8], ", 1.25 to ∞×"),
        ([2.0], ""),
    ],
)
def test_a_ratio_hides_no_seed(values, words):
    assert _spread(summarise(values)) == words


def test_notices_for_a_run_still_going_and_for_mixed_machines(run, meta):
    curves, evaluation, trials = without_other_measures(run)
    assert notices(curves, evaluation, trials, meta) == []
    trials = with_status(trials, "rwr-s2-0123abcd", "running")
    trials.at[0, "provenance"] = trials.at[0, "provenance"] | {"precision": "bf16", "dirty": True}
    texts = [notice.text for notice in notices(curves, evaluation, trials, meta)]
    assert texts[0].startswith("This run is still going: 11 of 12")
    assert any("differ in precision: bf16 (base); fp32 (base, alignprop, ddpo and rwr)" in text for text in texts)
    assert any("uncommitted" in text for text in texts)


def test_a_trial_that_is_done_without_its_files_is_told(run, meta):
    curves, evaluation, trials = run
    lost = "ddpo-s1-0123abcd"
    assert lost in set(trials["trial"])
    texts = [n.text for n in notices(curves[curves["trial"] != lost], evaluation, trials, meta)]
    assert "1 trial done without a curve: ddpo (seed 1)." in texts
    texts = [n.text for n in notices(curves, evaluation[evaluation["trial"] != lost], trials, meta)]
    assert "1 trial done without an evaluation by prompt: ddpo (seed 1)." in texts


@pytest.mark.parametrize("seeds", [(0,), (3, 9)])
def test_any_seeds(make_run, meta, seeds):
    curves, _, trials = make_run(seeds=seeds)
    assert len(rewards.ranking(curves, trials, meta).cells) == 4


def test_the_seeds_that_survived_do_not_make_a_method_the_cheapest(run, meta):
    curves, _, trials = run
    lost = trials["variant"].eq("alignprop") & trials["seed"].gt(0)
    trials.loc[lost, "status"] = "diverged"
    curves.loc[curves["trial"].isin(trials.loc[lost, "trial"]), "status"] = "diverged"
    table = costs.efficiency(curves, trials, meta, costs.Target("a target", 0.6))
    place = list(table.cells["method"]).index("alignprop")
    assert table.cells.loc[place, "seeds that\nreached it"] == "1 of 3"
    assert not [column for row, column in table.best if row == place]
    assert table.best


def test_a_budget_of_seconds_is_ranked_on_what_it_counts(run, meta, tmp_path):
    curves, evaluation, trials = run
    slow = curves["variant"] == "alignprop"
    curves.loc[slow, "reward_seconds"] = 50 * curves.loc[slow, "train_seconds"]
    timed = dataclasses.replace(meta, budget_axis="seconds", budget_limit=600.0, seconds_comparable=False)
    built = build_report(curves, evaluation, trials, timed)
    cells = built.ranking.cells.set_index("method")
    spent = next(column for column in cells if column.endswith("spent (min)"))
    assert spent.startswith("training and reward time")
    of_training = [curves.loc[curves["trial"] == f"alignprop-s{n}-0123abcd", "train_seconds"].max() for n in range(3)]
    told = float(cells.loc["alignprop", spent].split(" ")[0])
    assert told == pytest.approx(51 * sorted(of_training)[1] / 60, rel=0.01)
    assert any("measures what else the machine did, too" in notice.text for notice in built.notices)
    write_document(built, tmp_path, ("html",))
    assert "a budget of 10 min of training and reward time each" in (tmp_path / "report.html").read_text()


def test_a_run_that_was_stopped_is_not_still_going(run, meta):
    curves, evaluation, trials = run
    trials.loc[trials["seed"] == 2, "status"] = "planned"
    assert notices(curves, evaluation, trials, meta)[0].text.startswith("This run is not finished: 8 of 12")
