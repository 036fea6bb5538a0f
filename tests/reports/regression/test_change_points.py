"""Steps in a history: found where they are, and seldom where they are not."""

import numpy as np
import pandas as pd
import pytest

from reports.regression.change_points import LEAST_RESULTS, change_points
from reports.regression.history import find_steps, steps_table


def energy_by_hand(values, n):
    """Q of the docstring, as it is written."""
    x, y = values[:n], values[n:]
    m = len(y)
    cross = sum(abs(a - b) for a in x for b in y)
    within = [sum(abs(a - b) for i, a in enumerate(part) for b in part[i + 1 :]) for part in (x, y)]
    return n * m / (n + m) * (2 * cross / (n * m) - within[0] / (n * (n - 1) / 2) - within[1] / (m * (m - 1) / 2))


def test_the_statistic_is_the_papers():
    from reports.regression.change_points import _energy

    values = np.random.default_rng(0).normal(size=9)
    expected = [energy_by_hand(list(values), n) for n in range(2, 8)]
    assert _energy(values) == pytest.approx(expected)


def test_a_step_and_a_step_back_are_found_where_they_are():
    generator = np.random.default_rng(1)
    values = np.concatenate([generator.normal(level, 0.1, 12) for level in (5.0, 4.5, 5.0)])
    found = change_points(values)
    assert [abs(point.index - place) <= 1 for point, place in zip(found, (12, 24), strict=True)] == [True, True]
    assert change_points(values) == found, "the same every time"


def test_a_drift_too_slow_for_neighbours_is_found():
    values = 5.0 - 0.02 * np.arange(30) + np.random.default_rng(2).normal(0, 0.05, 30)
    assert np.abs(np.diff(values)).max() < 3 * 0.05 * np.sqrt(2), "no neighbour tells"
    assert change_points(values)


def test_exact_repeats_and_a_step_between_them():
    assert change_points([1.0] * 20) == []
    assert [point.index for point in change_points([1.0] * 6 + [0.9] * 6)] == [6]


def test_false_steps_are_as_rare_as_the_significance_says():
    generator = np.random.default_rng(3)
    found = sum(bool(change_points(generator.normal(size=15), 0.05, 99, seed=k)) for k in range(200))
    assert found <= 200 * 0.05 + 2.5 * np.sqrt(200 * 0.05 * 0.95)


def results(values, statistic="final"):
    rows = [
        {
            "result": f"r{k}",
            "time": f"2026-01-{k + 1:02d}",
            "commit": f"c{k}",
            "variant": "m",
            "statistic": statistic,
            "value": v,
        }
        for k, v in enumerate(values)
    ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


@pytest.mark.parametrize(("statistic", "verdict"), [("final", "worse"), ("cost_to_target", "better")])
def test_a_step_has_a_direction_and_names_the_result_it_began_with(statistic, verdict):
    history = find_steps(results([5.0] * 6 + [4.0] * 6, statistic))
    (step,) = history.steps
    assert (step.result, step.previous, step.commit, step.verdict) == ("r6", "r5", "c6", verdict)
    assert (step.before, step.after) == (5.0, 4.0)
    assert steps_table(history, "reward_queries").cells.iloc[0]["change"] == "−20 %"
    below = find_steps(results([-1.63] * 6 + [-2.0] * 6, "final"))
    assert steps_table(below, "reward_queries").cells.iloc[0]["change"] == "−23 %", "worse, and lower"


def test_small_steps_and_short_histories_are_left_out():
    assert find_steps(results([5.0] * 6 + [4.99] * 6)).steps == ()
    short = find_steps(results([5.0] * 3 + [4.0] * (LEAST_RESULTS - 4)))
    assert (short.steps, short.too_short) == ((), 1)
