"""The tuning's table: a row for each choice, what was not counted, and values on the edge of what was tried."""

import dataclasses

from reports.tables import tuning

COST = {"reward_queries": 64, "nfe": 640.0, "flops": 1e12, "device_seconds": 60.0}
SEARCH = {"algorithm": "random", "samples": 3, "seeds": [100], "metric": "reward"}


def tried(rate, score, **more):
    return {"values": {"learning_rate": rate}, "score": score, "statuses": ["done"], "trials": ["t"], **more}


def method(variant, configurations, **more):
    best = max(configurations, key=lambda row: row["score"])
    found = {"variant": variant, "chosen": best["values"], "score": best["score"], "configurations": configurations}
    return {**found, "statuses": {"done": 3}, "cost": COST, **more}


def table(meta, methods, search=SEARCH, **more):
    return tuning.table(dataclasses.replace(meta, tuning={"search": search, "methods": methods, **more}))


def test_a_record_of_an_earlier_version_has_a_row_a_method(meta):
    found = table(meta, [method("ddpo", [tried(1e-3, 1.0), tried(1e-2, 3.0)])])
    (row,) = found.cells.to_dict("records")
    assert (row["method"], row["configurations"], row["chosen"]) == ("ddpo", "2", "learning_rate 0.01")
    assert row["score (all)"] == "3.00 (1.00–3.00)"
    assert tuning.EDGE not in found.cells
    assert "3 configurations of each method on the comparison's training prompts, seed 100" in found.note
    assert not any(word in found.note for word in ("gold", "edge", "finals"))


def test_golds_choice_is_a_row_with_its_gold_and_no_cost_of_its_own(meta):
    rows = [tried(1e-3, 1.0, gold=4.3), tried(1e-2, 3.0, gold=0.2)]
    gold = {"variant": "ddpo-gold", "chosen": {"learning_rate": 1e-3}, "gold": 4.3, "cause": None}
    edges = {"learning_rate": "largest"}
    tuned = method("ddpo", rows, edges=edges, by_gold={**gold, "edges": {"learning_rate": "smallest"}})
    found = table(meta, [tuned], {**SEARCH, "criteria": ["reward", "gold"]})
    own, by_gold = found.cells.to_dict("records")
    assert by_gold["method"] == "ddpo-gold"
    assert by_gold["chosen"] == "learning_rate 0.001"
    assert by_gold["score (all)"] == "4.30 (0.200–4.30)"
    assert (own[tuning.EDGE], by_gold[tuning.EDGE]) == ("learning_rate: largest", "learning_rate: smallest")
    assert (own["reward\nqueries"], by_gold["reward\nqueries"]) == ("64", "–")
    assert "A row named -gold is chosen from the same trials by the last gold" in found.note
    assert "the smallest or the largest that was tried" in found.note


def test_a_row_without_a_choice_says_why(meta):
    why = "no configuration of ddpo raised gold in the tuning: 3.900 at best, the base model's is 4.000"
    gold = {"variant": "ddpo-gold", "chosen": None, "gold": 3.9, "cause": why, "edges": {}}
    tuned = method("ddpo", [tried(1e-3, 1.0, gold=3.9)], by_gold=gold)
    assert table(meta, [tuned]).cells["chosen"].iloc[1] == why
    nowhere = method("ddpo", [tried(1e-3, 1.0, gold=None)], by_gold={**gold, "gold": None})
    assert table(meta, [nowhere]).cells["score (all)"].iloc[1] == "–"


def test_the_finals_are_what_scores_are_ranges_of(meta):
    final = {"score": 2.0, "gold": None, "statuses": ["done"], "trials": ["f"]}
    rows = [tried(1e-3, 1.0), tried(1e-2, 9.0, final=final), tried(3e-2, 8.0, final={**final, "score": 1.5})]
    search = {**SEARCH, "budget": {"reward_queries": 512}, "finals": {"best": 2, "seeds": [101, 102]}}
    found = table(meta, [{**method("ddpo", rows), "score": 2.0}], search)
    assert found.cells["score (all)"].iloc[0] == "2.00 (1.50–2.00)"
    assert "3 configurations of each method at 512 reward queries on" in found.note
    assert "The best 2 of each method then ran at the comparison's budget, seeds 101 and 102" in found.note
    assert "the range is that of all in these finals" in found.note


def test_copies_are_left_out_of_the_count_and_named(meta):
    rows = [tried(1e-3, 1.0), tried(1e-2, 1.0, same_as=0), tried(3e-2, 2.0)]
    sentence = "2 of 3 configurations of ddpo count (learning_rate changed nothing, 1 as 0)"
    found = table(meta, [method("ddpo", rows, counted=2)], copies=[sentence])
    assert found.cells["configurations"].iloc[0] == "2 of 3"
    assert f"{sentence}." in found.note
