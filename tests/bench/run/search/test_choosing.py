"""The best configurations by reward and by gold, on planted results."""

import pytest

from bench.run.search.choosing import chosen_by_gold, finalists, record
from bench.store.records import StageResult, TriedConfiguration
from bench.store.run_folder import RunFolder
from bench.sweep.schema import Search

SPACE = {"ddpo": {"rate": [1, 2, 3, 4]}}


def row(rate, score, gold=None, start=4.0, final=None, **more):
    fields = {"gold": gold, "gold_at_start": start, "statuses": ["done"], "trials": [f"ddpo-{rate}"]}
    found = TriedConfiguration(values={"rate": rate}, score=score, **fields, **more)
    if final is not None:
        found.final = StageResult(score=final[0], **{**fields, "gold": final[1], "trials": [f"ddpo-{rate}-final"]})
    return found


def search(**more):
    return Search(space=SPACE, samples=4, **more)


BOTH = {"criteria": ("reward", "gold")}


def test_gold_chooses_its_own_best_of_the_same_configurations():
    """The higher the reward, the less is left of the animals: the two criteria choose the ends."""
    rows = [row(1, 4.72, 3.04), row(2, 4.77, 4.33), row(3, 5.84, 0.26), row(4, 4.63, 4.32)]
    choice = chosen_by_gold("ddpo", rows, rows[2])
    assert (choice.variant, choice.chosen, choice.gold, choice.gold_at_start) == ("ddpo-gold", {"rate": 2}, 4.33, 4.0)
    assert choice.cause is None


def test_one_choice_by_both_is_one_row_and_says_so():
    rows = [row(1, 4.7, 3.0), row(2, 4.8, 4.3)]
    choice = chosen_by_gold("ddpo", rows, rows[1])
    assert choice.chosen == {"rate": 2}
    assert choice.cause == "gold chooses the configuration that reward chooses"


def test_where_none_raised_gold_there_is_no_choice_and_the_reason():
    rows = [row(1, 4.7, 3.0), row(2, 4.8, 3.999), row(3, 4.8, None), row(4, 4.9, 4.0)]
    choice = chosen_by_gold("ddpo", rows, rows[3])
    assert choice.chosen is None
    assert (
        choice.cause == "no configuration of ddpo raised gold in the tuning: 4.000 at best, the base model's is 4.000"
    )
    nowhere = chosen_by_gold("ddpo", [row(1, 4.7, None)], rows[0])
    assert (nowhere.chosen, nowhere.gold) == (None, None)
    assert nowhere.cause == "no configuration of ddpo has a finite gold"


def test_gold_is_compared_with_the_first_point_of_the_same_trials():
    rows = [row(1, 4.7, 4.5, start=4.6), row(2, 4.7, 4.2, start=4.0)]
    assert chosen_by_gold("ddpo", rows, rows[0]).chosen == {"rate": 2}


def test_the_finals_have_the_best_by_each_criterion_without_copies():
    rows = [row(1, 5.0, 1.0), row(2, 5.0, 1.0, same_as=0), row(3, 4.0, 4.5), row(4, None, None), row(5, 4.5, 2.0)]
    finals = {"best": 1, "seeds": (7,)}
    assert finalists(search(finals=finals), rows) == [0]
    assert finalists(search(finals=finals, **BOTH), rows) == [0, 2]
    assert finalists(search(finals={**finals, "best": 2}, **BOTH), rows) == [0, 2, 4]
    assert finalists(search(finals={**finals, "best": 4}, **BOTH), rows) == [0, 2, 4], "what failed is in none"


def test_reward_chooses_among_what_the_plain_name_allows():
    rows = [row(1, 5.0, 1.0, modified=["drift_weight"]), row(2, 4.5, 4.5), row(3, 4.0, 4.6, modified=["drift_weight"])]
    assert finalists(search(finals={"best": 1, "seeds": (7,)}, **BOTH), rows) == [1, 2]


def test_the_finals_decide_and_their_statuses_and_trials_are_billed(tmp_path):
    rows = [row(1, 5.0, 1.0, final=(4.1, 4.2)), row(2, 4.0, 4.5, final=(4.3, 4.4)), row(3, 9.0, 9.0)]
    method = record(RunFolder(tmp_path), search(finals={"best": 1, "seeds": (7,)}, **BOTH), "ddpo", rows)
    assert (method.chosen, method.score) == ({"rate": 2}, 4.3)
    assert (method.by_gold.chosen, method.by_gold.gold) == ({"rate": 2}, 4.4)
    assert method.statuses == {"done": 5}
    first = record(RunFolder(tmp_path), search(**BOTH), "ddpo", [row(1, 5.0, 1.0), row(2, 4.0, 4.5)])
    assert (first.chosen, first.by_gold.chosen) == ({"rate": 1}, {"rate": 2})
    assert (first.edges, first.by_gold.edges) == ({"rate": "smallest"}, {"rate": "largest"})


def test_copies_are_not_counted_and_a_sentence_says_which(tmp_path):
    rows = [row(1, 5.0), row(2, 5.0, same_as=0, inert=["clip_range"]), row(3, 4.0), row(4, 4.0, same_as=2)]
    rows[3].inert = ["clip_range", "epochs"]
    method = record(RunFolder(tmp_path), search(), "ddpo", rows)
    assert (method.counted, len(method.configurations)) == (2, 4)
    assert method.chosen == {"rate": 1}
    assert method.copies == (
        "2 of 4 configurations of ddpo count (clip_range changed nothing, 1 as 0; "
        "clip_range and epochs changed nothing, 3 as 2)"
    )
    assert "by_gold" not in method.stored(), "a search by reward alone is recorded without a word about gold"


def test_a_setting_that_is_inert_at_the_choice_is_on_no_edge(tmp_path):
    space = {"ddpo": {"rate": [1, 2], "clip": [1, 2]}}
    rows = [row(rate, rate) for rate in (1, 1, 2, 2)]
    for each, clip in zip(rows, (1, 2, 1, 2), strict=True):
        each.values = {**each.values, "clip": clip}
    without = record(RunFolder(tmp_path), Search(space=space, samples=4), "ddpo", rows)
    assert without.edges == {"rate": "largest", "clip": "smallest"}
    rows[3].same_as, rows[3].inert = 2, ["clip"]
    assert record(RunFolder(tmp_path), Search(space=space, samples=4), "ddpo", rows).edges == {"rate": "largest"}


@pytest.mark.parametrize("broken", [{"budget": {"reward_queries": 4}}, {"finals": {"seeds": [7]}}, BOTH])
def test_asha_has_stages_of_its_own(broken):
    with pytest.raises(ValueError, match="asha has stages of its own"):
        search(algorithm="asha", **broken)
