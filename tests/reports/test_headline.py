"""What the answer claims, and what it must not."""

import dataclasses

import pandas as pd
import pytest

from reports.build import build_report, write_document
from reports.frame import validate_curves, validate_trials
from reports.headline import headline
from reports.meta import Meta
from reports.tables import costs, rewards
from reports.writers import exports
from tests.reports.conftest import FACTS
from tests.reports.statistics.test_comparison import curve, paired_rows
from tests.reports.statistics.test_gains import NOISE, PROMPTS, STEADY

META = Meta(name="t", budget_axis="reward_queries", budget_limit=100, reward="score", methods=FACTS)


def frames(methods, base=1.0, **others):
    """Curves, evaluation and trials of methods, name -> queries and gains of each seed, over a base of 1.

    A gain is a number at each point after the start; at the end it is what each prompt gains on average, with NOISE
    around it where it is small. `others` are further metrics: name -> method -> values at each point.
    """
    rows, evaluation = [], []
    first = {(prompt, 0): 1.0 + 0.1 * int(prompt) for prompt in PROMPTS}
    start = sum(first.values()) / len(first)
    if base is not None:
        rows += curve("base", 0, [0], [start])
        evaluation += paired_rows("base", 0, first, point=0)
    for name, (queries, of_seed) in methods.items():
        for seed, gains in enumerate(of_seed):
            own = curve(name, seed, queries, [start, *(start + gain for gain in gains)])
            rows += own
            for metric, values in others.items():
                metric = metric.replace("reward_", "reward/")
                rows += [{**row, "metric": metric, "value": v} for row, v in zip(own, values[name], strict=True)]
            spread = NOISE if abs(gains[-1]) < 0.1 else [0.1 * (gain - 0.5) for gain in STEADY]
            last = {key: v + gains[-1] + s for (key, v), s in zip(first.items(), spread, strict=True)}
            evaluation += [*paired_rows(name, seed, first, point=0),
                           *paired_rows(name, seed, last, point=len(queries) - 1)]  # fmt: skip
    curves = validate_curves(pd.DataFrame(rows), "reward_queries")
    trials = curves.drop_duplicates("trial")[["trial", "method", "variant", "seed", "status"]].reset_index(drop=True)
    return curves, pd.DataFrame(evaluation), validate_trials(trials, curves)


def told(methods, meta=META, **more):
    curves, evaluation, trials = frames(methods, **more)
    return headline(curves, trials, meta, evaluation)


LEARNED = ([0, 50, 100], [[0.2, 0.5]])
NOTHING = ([0, 64, 128], [[0.0002, 0.0003]])
FAST = ([0, 10, 20], [[0.3, 0.9]])


def test_there_is_no_ratio_to_a_baseline_that_learned_nothing():
    """The issue's own: ddpo at +0.0003, clear in 0 of 1 seeds, and "228× fewer" than it."""
    text = told({"ddpo": NOTHING, "alignprop": FAST})
    assert text.endswith("ddpo did not clearly beat the base model, so nothing is measured against it.")
    assert "×" not in text
    assert "0.0003" not in text


@pytest.mark.parametrize("wanted", [None, "ddpo"])
def test_nor_in_a_table_even_where_the_baseline_was_asked_for(wanted):
    curves, evaluation, trials = frames({"ddpo": NOTHING, "alignprop": FAST})
    built = build_report(curves, evaluation, trials, dataclasses.replace(META, baseline=wanted, target=1.5))
    assert [table.title for table in built.efficiency] == ["Cost to the target, 1.50"]
    assert "×" not in built.efficiency[0].cells.to_string()
    assert "ddpo did not clearly beat the base model, so nothing is divided by its costs." in built.efficiency[0].note
    assert "×" not in built.answer


def test_a_baseline_that_learned_is_measured_against():
    text = told({"ddpo": LEARNED, "alignprop": FAST})
    assert "alignprop reached ddpo’s median final reward (1.75) after 13 reward queries: 7.50× fewer than ddpo" in text


def test_without_base_a_method_is_held_against_its_own_first_point():
    text = told({"ddpo": NOTHING, "alignprop": FAST}, base=None)
    assert text.endswith("ddpo did not clearly beat the untrained model, so nothing is measured against it.")
    assert "7.50× fewer than ddpo" in told({"ddpo": LEARNED, "alignprop": FAST}, base=None)


def test_before_the_first_evaluation_a_cost_is_a_bound():
    text = told({"ddpo": LEARNED, "alignprop": ([0, 10, 20], [[0.7, 0.9]])})
    goal = "reached ddpo’s median final reward (1.75) before the first evaluation, after at most 10 reward queries"
    assert f"{goal}: at least 10× fewer than ddpo (one seed)" in text


def test_of_two_bounds_there_is_no_ratio():
    meta = dataclasses.replace(META, target=1.3)
    curves, _, trials = frames({"ddpo": ([0, 50, 100], [[0.5, 0.1]]), "alignprop": FAST})
    assert "×" not in costs.efficiency(curves, trials, meta, costs.targets(curves, meta)[0]).cells.to_string()


def test_a_bound_is_one_in_every_format(tmp_path):
    curves, evaluation, trials = frames({"ddpo": LEARNED, "alignprop": ([0, 10, 20], [[0.7, 0.9]])})
    built = build_report(curves, evaluation, trials, dataclasses.replace(META, target=1.5))
    cell = built.ranking.records()[0]["reward queries to 1.50"]
    assert cell == {"text": "≤ 10", "value": 10.0, "low": 10.0, "high": 10.0, "at most": True, "low, at most": True,
                    "high, at most": True}  # fmt: skip
    csv = pd.read_csv(write(exports.to_csv(built.ranking), tmp_path / "ranking.csv"))
    assert csv["reward queries to 1.50"].iloc[0] == 10.0
    assert csv["reward queries to 1.50, at most"].fillna(False).tolist() == [True, False, False]
    assert csv["#, place_high"].iloc[0] == 3
    assert r"$\leq$ 10" in exports.to_latex(built.ranking)
    write_document(built, tmp_path)
    assert "≤ 10" in (tmp_path / "report.html").read_text()
    assert "| ≤ 10 |" in (tmp_path / "report.md").read_text()


def write(text, path):
    path.write_text(text)
    return path


def test_a_target_that_the_untrained_model_meets_is_reached_at_the_start():
    meta = dataclasses.replace(META, target=1.0)
    curves, _, trials = frames({"ddpo": LEARNED, "alignprop": FAST})
    cells = rewards.ranking(curves, trials, meta).cells.set_index("method")["reward queries\nto 1.00"]
    assert cells.to_dict() == {"alignprop": "at the start", "ddpo": "at the start", "base": "–"}
    table = costs.efficiency(curves, trials, meta, costs.targets(curves, meta)[0])
    assert "×" not in table.cells.to_string()
    alone = told({"alignprop": FAST}, meta)
    assert "alignprop reached the target (1.00) before any training (one seed)." in alone


def test_where_base_is_first_no_method_beat_it():
    text = told({"ddpo": ([0, 50, 100], [[-0.2, -0.5]]), "alignprop": ([0, 10, 20], [[-0.3, -0.4]])})
    assert text.startswith("No method beat the base model. ddpo ended at a score of 0.750 over one seed (−0.500")
    assert "first" not in text


def test_a_rise_at_the_very_end_is_told_beside_it():
    text = told({"ddpo": ([0, 50, 100], [[-0.9, 0.5]])})
    assert text.startswith("No method beat the base model over the whole budget, though ddpo ended clearly above it.")


def test_a_first_place_that_is_not_clear_is_not_claimed():
    text = told({"ddpo": NOTHING})
    ended = "ddpo ended at a score of 1.25 over one seed (+0.000300, clear in 0 of 1 seeds)."
    assert text == f"No method clearly beat the base model. {ended}"


def test_who_shares_the_first_place_is_named():
    seeds = [[0.3, 0.9], [0.31, 0.91], [0.29, 0.9]]
    text = told({"alignprop": ([0, 10, 20], seeds), "refl": ([0, 10, 20], seeds[::-1]), "rwr": NOTHING})
    assert (
        "alignprop stands first, with a final score of 2.15 over 3 seeds; its seeds do not tell it apart from refl."
        in text
    )


SINK, RISE, FLAT, HUMP = [4.0, 2.0, 1.0], [4.0, 5.0, 6.0], [4.0, 4.0, 4.0], [4.0, 9.0, 6.0]
LOST, POORER = [0.24, 0.1, 0.03], [0.24, 0.1, 0.08]
AT_TEN = "gold is highest at 10 % of the budget and falls after."


@pytest.mark.parametrize(
    ("others", "opens"),
    [
        ({"gold": SINK}, ", worse pictures: gold is highest before training and falls after."),
        ({"gold": [4.0, 5.0, 1.0]}, f", worse pictures: {AT_TEN}"),
        ({"gold": RISE}, " and better pictures by gold."),
        ({"gold": HUMP}, f" and better pictures by gold: {AT_TEN}"),
        ({"gold": FLAT}, " with pictures that gold does not call clearly better."),
        ({"gold": RISE, "reward_animal": SINK}, " and gold, but animal fell from 4.00 to 1.00."),
        (
            {"gold": RISE, "diversity": LOST},
            " and gold, but less diverse pictures: diversity fell from 0.240 to 0.0300.",
        ),
        ({"diversity": LOST}, ", less diverse pictures: diversity fell from 0.240 to 0.0300."),
        ({"diversity": POORER}, "; nothing that was measured says whether the pictures are better."),
        ({"drift": [0.0, 0.1, 1.68]}, ", pictures far from the untrained model’s: drift is 1.68."),
        ({"reward_animal": SINK}, ", but animal fell from 4.00 to 1.00."),
    ],
)
def test_the_answer_opens_with_what_the_pictures_show(others, opens):
    of_method = {metric: {"alignprop": values} for metric, values in others.items()}
    seeds = [[0.3, 0.9], [0.31, 0.91], [0.29, 0.9]]
    assert told({"alignprop": ([0, 10, 20], seeds)}, **of_method).startswith(f"Higher reward{opens}")


def test_where_gold_is_highest_spans_the_seeds():
    curves, evaluation, trials = frames({"alignprop": ([0, 25, 100], [[0.3, 0.9]] * 2)}, gold={"alignprop": SINK})
    later = (curves["metric"] == "gold") & (curves["seed"] == 1) & (curves["point"] == 1)
    text = headline(curves.assign(value=curves["value"].mask(later, 5.0)), trials, META, evaluation)
    assert text.startswith("Higher reward, worse pictures: gold is highest at 0 to 25 % of the budget and falls after.")


def test_one_seed_of_gold_within_its_noise_is_no_better_picture():
    curves, evaluation, trials = frames({"alignprop": FAST}, gold={"alignprop": [1.0, 1.1, 1.2]})
    gold = evaluation.assign(metric="gold")
    noise = gold["prompt"].astype(int) * gold["point"].gt(0) * 0.5
    loose = gold.assign(value=gold["value"].where(gold["point"] == 0, 1.0 + noise - 1.05))
    text = headline(curves, trials, META, pd.concat([evaluation, loose]))
    assert text.startswith("Higher reward with pictures that gold does not call clearly better.")


def test_diversity_names_its_features():
    meta = dataclasses.replace(META, diversity="features of emoji-aesthetic")
    curves, evaluation, trials = frames({"alignprop": FAST}, diversity={"alignprop": [0.24, 0.1, 0.03]})
    built = build_report(curves, evaluation, trials, meta)
    assert "diversity\n(features of\nemoji-aesthetic)\ntraining prompts" in built.rewards.cells
    assert "diversity (features of emoji-aesthetic) fell from 0.240 to 0.0300" in built.answer
    assert "Diversity (features of emoji-aesthetic) collapsed: alignprop" in built.notices[0].text
    assert any("features of emoji-aesthetic" in panel for panel in built.panels)
    bare = build_report(curves, evaluation, trials, META)
    assert "diversity\ntraining prompts" in bare.rewards.cells, "a run of before does not say"
