"""The table of what a choice among n samples gives, by n."""

import pandas as pd
import pytest

from reports.tables import selection

RUN = {"base": (1, 0, 0, 0.0, 0.0, 0.0), "best-of-n": (6, 40, 10, 0.9, 0.1, 0.01)}
ROUNDS = (0, 1, 4, 7, 16, 51)


@pytest.fixture
def chosen(make_run):
    """The numbers of rounds at the six points of a choice, with its family."""
    curves, _, _ = make_run(RUN)
    own = curves["method"] == "best-of-n"
    curves.loc[own, "family"] = "selection"
    curves.loc[own, "steps"] = curves.loc[own, "point"].map(dict(enumerate(ROUNDS)))
    curves.loc[own, "reward_queries"] = 40 * curves.loc[own, "steps"]
    return curves


def test_it_shows_the_powers_of_four_and_the_end(chosen, meta):
    (table,) = selection.tables(chosen, meta)
    assert table.title == "best-of-n by n"
    assert list(table.cells["n"]) == ["1", "4", "16", "51"]
    spent = [table.numbers[row, "reward\nqueries"]["value"] for row in range(4)]
    assert spent == [40, 160, 640, 2040]
    reward = chosen[(chosen["method"] == "best-of-n") & (chosen["metric"] == "reward") & (chosen["split"] == "train")]
    means = reward.groupby("steps")["value"].mean()
    shown = [table.numbers[row, "reward\ntraining prompts"]["value"] for row in range(4)]
    assert shown == pytest.approx([means[rounds] for rounds in (1, 4, 16, 51)])


def test_only_rounds_that_every_trial_shows(chosen, meta):
    lost = (chosen["seed"] == 1) & (chosen["steps"] == 16)
    (table,) = selection.tables(chosen[~lost], meta)
    assert list(table.cells["n"]) == ["1", "4", "51"]


def test_a_run_without_a_choice_has_none(chosen, meta):
    assert selection.tables(chosen[chosen["method"] == "base"], meta) == []
    assert selection.tables(pd.DataFrame(), meta) == []
    assert selection.tables(chosen.assign(status="failed"), meta) == []
    assert selection.tables(chosen.assign(steps=float("nan")), meta) == []
