"""Machines told apart, and seconds that are never put in one column with those of another machine."""

import pytest

from reports import machines
from reports.headline import headline
from reports.notices import notices
from reports.tables import costs
from reports.tables.costs import Target


@pytest.fixture
def mixed(run):
    """The synthetic run with ddpo on a GPU."""
    curves, evaluation, trials = run
    gpu = {"cpu": "another CPU", "gpu": "a GPU", "cores": 16}
    own = trials["variant"] == "ddpo"
    trials.loc[own, "provenance"] = trials.loc[own, "provenance"].map(lambda record: {**record, "hardware": gpu})
    return curves, evaluation, trials


def test_alike_machines_are_not_told_apart(run):
    assert machines.speed_classes(run[2]) == {}
    numbers, words = machines.origins(run[2])
    assert set(numbers.values()) == {"1"}
    assert words == {"1": "a CPU, 2 cores, fp32, 1 thread, torch 2.13.0; commit 0123abc; torch 2.13.0"}


def test_seconds_and_memory_of_two_machines_stand_apart(mixed, meta):
    curves, evaluation, trials = mixed
    table = costs.efficiency(curves, trials, meta, Target("a target", 0.8))
    cells = table.cells.set_index("method")
    assert cells.loc["ddpo", "training\ntime (s)\non A"] == "–"
    assert cells.loc["alignprop", "training\ntime (s)\non B"] == "–"
    assert "×" not in cells.loc["alignprop", "training\ntime (s)\non A"], "the baseline ran elsewhere"
    assert "×" in cells.loc["alignprop", "reward\nqueries"]
    assert "peak\nmemory (MiB)" not in cells
    assert "B: a GPU, another CPU, 16 cores, fp32, 1 thread, torch 2.13.0." in table.note
    assert any("columns of their own" in notice.text for notice in notices(curves, evaluation, trials, meta))
    assert "training time" not in headline(curves, trials, meta)


def test_on_one_machine_there_is_one_column_of_seconds(run, meta):
    cells = costs.efficiency(run[0], run[2], meta, Target("a target", 0.8)).cells.set_index("method")
    assert "×" in cells.loc["alignprop", "training\ntime (s)"]
    assert "×" in cells.loc["alignprop", "device\ntime (s)"]


def test_what_differs_is_named_with_who_has_it(mixed):
    found = machines.differences(mixed[2], ("hardware", "versions"))
    assert found["hardware cpu"] == {"a CPU": ["base", "alignprop", "rwr"], "another CPU": ["ddpo"]}
    assert set(found) == {"hardware cpu", "hardware cores"}, "one GPU beside none is not two values"


def test_every_trial_has_its_provenance_and_its_command(mixed, meta):
    trials = mixed[2]
    trials.at[0, "provenance"] = None
    cells = costs.trials_table(mixed[0], trials, meta).cells.set_index("trial")
    assert cells.loc["ddpo-s0-0123abcd", "ran on"] != cells.loc["rwr-s0-0123abcd", "ran on"]
    assert set(cells["to run it again"]) == {"bench run sweeps/aesthetic.yaml"}


def test_a_few_bytes_of_memory_make_no_other_kind_of_machine(run):
    trials = run[2]
    sizes = [{**record, "hardware": {**record["hardware"], "memory_bytes": 2**34 + n}}
             for n, record in enumerate(trials["provenance"])]  # fmt: skip
    assert machines.speed_classes(trials.assign(provenance=sizes)) == {}
