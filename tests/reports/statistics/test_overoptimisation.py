"""When a report says that gold fell while the reward rose, and when it must not."""

import pandas as pd
import pytest

from reports.notices import notices
from reports.statistics.overoptimisation import courses, warning

QUERIES = [0, 100, 200, 300]


@pytest.fixture
def with_gold(run):
    """The synthetic run with another reward and gold in place of alignprop's, seed by seed."""
    curves = run[0]

    def replace(rewards, golds):
        kept = curves[curves["variant"].isin(["base", "alignprop"]) & curves["metric"].isin(["reward", "gold"])]
        kept = kept[(kept["point"] < 4) & (kept["split"] == "train")].copy()
        for seed, (reward, gold) in enumerate(zip(rewards, golds, strict=True)):
            for metric, values in (("reward", reward), ("gold", gold)):
                rows = (kept["variant"] == "alignprop") & (kept["seed"] == seed) & (kept["metric"] == metric)
                kept.loc[rows, "value"] = values
                kept.loc[rows, "reward_queries"] = QUERIES
        return kept

    return replace


RISING, FALLING = [0.5, 0.6, 0.7, 0.8], [0.5, 0.4, 0.3, 0.2]


def test_gold_below_its_start_while_the_reward_rose(with_gold, meta):
    frame = with_gold([RISING] * 3, [FALLING, FALLING, RISING])
    course = courses(frame, "reward_queries")["alignprop"]
    assert (course.seeds, course.fell, course.turned) == (3, 2, 0)
    assert warning(frame, meta) == ("Gold fell while the reward rose: alignprop (from 0.500 to 0.400, 2 of 3 seeds).")


def test_gold_above_its_start_and_below_its_peak(with_gold, meta):
    frame = with_gold([RISING] * 3, [[0.5, 0.9, 0.8, 0.6]] * 3)
    told = "Gold rose and fell again: alignprop (in 3 of 3 seeds, from a peak at a median of 100 reward queries)."
    assert warning(frame, meta) == told


@pytest.mark.parametrize(
    ("reward", "gold"),
    [
        (RISING, RISING),
        (FALLING, FALLING),  # a method that fails at both hacks nothing
        (RISING, [0.5, 0.49, 0.48, 0.48]),  # within the noise
        ([-2.0, -1.5, -1.2, -1.0], [-2.0, -1.9, -1.8, -1.7]),  # a negative gold that rose
    ],
)
def test_nothing_to_warn_of(with_gold, meta, reward, gold):
    assert warning(with_gold([reward] * 3, [gold] * 3), meta) is None


def test_one_seed_in_three_is_no_finding(with_gold, meta):
    assert warning(with_gold([RISING] * 3, [FALLING, RISING, RISING]), meta) is None


def test_a_negative_gold_that_fell(with_gold, meta):
    assert "from −2.00 to −2.50" in warning(with_gold([RISING] * 3, [[-2.0, -2.2, -2.4, -2.5]] * 3), meta)


def test_another_measure_that_fell_where_gold_did_not(with_gold, meta):
    frame = with_gold([RISING] * 3, [RISING] * 3)
    animal = frame[frame["metric"] == "gold"].assign(metric="reward/emoji-animal")
    animal.loc[animal["variant"] == "alignprop", "value"] = FALLING * 3
    told = "emoji-animal fell while the reward rose: alignprop (from 0.500 to 0.200, 3 of 3 seeds)."
    assert warning(pd.concat([frame, animal]), meta) == told
    fallen = with_gold([RISING] * 3, [FALLING] * 3)
    assert "emoji-animal" not in warning(pd.concat([fallen, animal]), meta), "gold says it already"


def test_it_stands_among_the_notices(run, meta):
    curves, evaluation, trials = run
    assert [notice.text for notice in notices(curves, evaluation, trials, meta)] == [warning(curves, meta)]


def test_without_another_measure_there_is_nothing_to_say(run, meta):
    curves = run[0]
    assert warning(curves[curves["metric"].isin(["reward", "diversity", "drift"])], meta) is None
    assert warning(pd.DataFrame(columns=curves.columns), meta) is None


def test_a_reward_that_falls_on_prompts_that_were_not_trained_on(run, meta):
    curves = run[0]
    rows = (curves["variant"] == "alignprop") & (curves["metric"] == "reward") & (curves["split"] == "heldout")
    start = curves.loc[rows & (curves["point"] == 0), "value"].mean()
    falling = curves.assign(value=curves["value"].where(~rows, start - 0.05 * curves["point"]))
    assert "The reward rose on training prompts and fell on held-out ones: alignprop (from" in warning(falling, meta)
    hardly = curves.assign(value=curves["value"].where(~rows, start - 1e-3 * curves["point"]))
    assert "held-out" not in warning(hardly, meta)
