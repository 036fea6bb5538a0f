"""Tables that compare variants of one method, and another implementation with ours."""

import pandas as pd
import pytest

from reports.tables import ablation, parity

VARIANTS = {
    "alignprop": (6, 64, 13, 1.2, 0.1, 0.08),
    "alignprop-k1": (6, 64, 7, 0.9, 0.1, 0.05),
    "trl-alignprop": (6, 64, 20, 1.2, 0.1, 0.16),
}


@pytest.fixture
def variants(make_run):
    curves, evaluation, trials = make_run(VARIANTS)
    methods = {"alignprop-k1": "alignprop"}
    settings = {
        "alignprop": {"settings.truncation": "random", "lora.rank": 4, "settings.batch": 8},
        "alignprop-k1": {"settings.truncation": 1, "lora.rank": 4, "settings.batch": 8},
        "trl-alignprop": {"settings.batch": 8},
    }
    curves["method"] = curves["variant"].replace(methods)
    trials["method"] = trials["variant"].replace(methods)
    trials["settings"] = trials["variant"].map(settings)
    return curves, evaluation, trials


def test_an_ablation_shows_the_settings_that_differ_and_no_others(variants, meta):
    (table,) = ablation.tables(variants[0], variants[2], meta)
    assert table.title == "Ablation of alignprop"
    cells = table.cells.set_index("method")
    assert set(cells.index) == {"alignprop", "alignprop-k1"}
    assert list(cells["truncation"]) == ["random", "1"]
    assert not {"rank", "lora\nrank", "batch"} & set(cells.columns)
    assert cells.loc["alignprop-k1", "reward queries\nto 1.00"] != "not reached"


def test_one_variant_a_method_is_no_ablation(run, meta):
    assert ablation.tables(run[0], run[2], meta) == []
    assert ablation.tables(run[0].head(0), run[2], meta) == []


def test_parity_is_taken_seed_by_seed(variants, meta):
    (table,) = parity.tables(variants[0], variants[2], meta)
    assert table.title == "Implementation parity: trl-alignprop beside alignprop"
    told = table.cells.set_index("measure")["peer against ours"]
    by_kind = {kind for (_, column), found in table.numbers.items() if column == "peer against ours" for kind in found}
    assert {"difference", "ratio"} <= by_kind, "one column has both, and its numbers say which"
    assert told["denoiser evaluations a step"] == f"{20 / 13:.2f}×"
    assert told["training time a step (s)"] == "2.00×" or told["training time a step (s)"] == "2×"
    values = variants[0][(variants[0]["metric"] == "reward") & (variants[0]["split"] == "train")]
    ends = values.groupby(["variant", "seed"])["value"].last()
    median = (ends["trl-alignprop"] - ends["alignprop"]).median()
    assert told["reward, training prompts"].split(" ")[0].replace("−", "-") == f"{median:+.3g}".replace("+-", "-")


def test_without_ours_there_is_no_parity(variants, meta):
    curves, _, trials = variants
    alone = curves[curves["variant"] == "trl-alignprop"]
    assert parity.tables(alone, trials[trials["variant"] == "trl-alignprop"], meta) == []
    assert parity.pairs(pd.DataFrame(), meta.methods) == []


def test_seconds_of_different_machines_are_not_divided(variants, meta):
    curves, _, trials = variants
    own = trials["variant"] == "trl-alignprop"
    trials.loc[own, "provenance"] = trials.loc[own, "provenance"].map(lambda record: {**record, "precision": "bf16"})
    (table,) = parity.tables(curves, trials, meta)
    assert not table.cells["measure"].str.contains("time|memory").any()
    assert "different machines" in table.note
