"""The reward under the training sampler, beside that of evaluation."""

import dataclasses

import pandas as pd

from reports.build import build_report
from reports.tables import samplers


def with_own(curves):
    """The curves, with the reward under their own samplers at both ends of ddpo and rwr: 0.5, then 0.9."""
    trained = curves["variant"].isin(["ddpo", "rwr"]) & (curves["metric"] == "reward") & (curves["split"] == "train")
    own = curves[trained]
    last = own.groupby("trial")["point"].transform("max")
    ends = own[(own["point"] == 0) | (own["point"] == last)]
    ends = ends.assign(metric="training_sampler_reward", value=0.5 + 0.4 * (ends["point"] > 0))
    return pd.concat([curves, ends], ignore_index=True)


def test_both_ends_and_their_difference_under_both_samplers(run, meta):
    curves, _, trials = run
    table = samplers.table(with_own(curves), trials, meta)
    cells = table.cells.set_index("method")
    assert list(cells.index) == ["ddpo", "rwr"], (
        "the rows that train with a sampler of their own, in the ranking's order"
    )
    row = cells.loc["ddpo"]
    assert row["training sampler\nbase model"].startswith("0.5")
    assert row["training sampler\ntrained"].startswith("0.9")
    assert row["training sampler\nchange"].startswith("+0.4")
    ddpo = curves[(curves["variant"] == "ddpo") & (curves["metric"] == "reward") & (curves["split"] == "train")]
    last = ddpo[ddpo["point"] == ddpo["point"].max()]["value"].mean()
    number = table.numbers[0, "evaluation\ntrained"]["value"]
    assert abs(number - last) < 1e-12


def test_a_run_without_the_metric_has_no_table(run, meta):
    curves, _, trials = run
    assert samplers.table(curves, trials, meta) is None


def test_the_report_shows_it_and_draws_no_curve_of_two_points(run, meta):
    curves, evaluation, trials = run
    document = build_report(with_own(curves), evaluation, trials, dataclasses.replace(meta, name="two samplers"))
    assert "Rewards under the training sampler" in [table.title for table in document.all_tables]
    assert not any("training_sampler" in panel or "training sampler" in panel for panel in document.panels)
    assert "training_sampler" not in document.curves_json
