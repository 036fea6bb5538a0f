"""A search that cannot be fair or cannot run is refused before anything does."""

import pytest

REFUSED = {
    "search.seeds=[1, 7]": "seed 1 is compared too",
    "search.space.alignprp={learning_rate: [1e-3]}": "did you mean alignprop?",
    "search.space.base={learning_rate: [1e-3]}": "base trains nothing",
    "search.space={ddpo: {clip_range: [1e-4]}}": "alignprop has no space, and methods are tuned alike",
    "search.space.alignprop={batch_size: [2, 4, 8]}": "is in the method's settings too",
    "search.space.alignprop={learning_rat: [1e-3, 1e-2, 1e-1]}": "did you mean learning_rate?",
    "search.space.alignprop={learning_rate: {loguniform: [1e-2, 1e-3]}}": "is empty; the lower end comes first",
    "search.space.alignprop={learning_rate: {loguniform: [0, 1]}}": "greater than 0",
    "search.space.alignprop={learning_rate: {normal: [0, 1]}}": "unknown key",
    "search.space.alignprop={learning_rate: {}}": "a list of values or one of choice",
    "search.space.alignprop={learning_rate: [1e-3, 1e-2]}": "are asked for and alignprop's space has 2",
    "search.space.alignprop={learning_rate: [-1.0, 1e-2, 1e-3]}": "learning_rate",
    "search.metric=heldout_reward": "search.prompts.heldout",
    "search.prompts={train: [two dogs]}": "'two dogs' is compared too",
    "search.untuned=[ddpo]": "has a space and is in untuned",
    "search.algorithm=grid": "random",
    "search={algorithm: asha, seeds: [100, 101], space: {ddpo: {clip_range: [1e-4]}}}": "give one seed",
    "search.algorithm=pbt": "use random, optuna or asha",
    "search.criteria=[reward, gold]": "search.criteria: gold needs a gold reward to be evaluated; write evaluate.gold",
    "search.criteria=[gold]": "reward chooses each method's own row",
    "search.criteria=[reward, drift]": "'drift' is none of reward, gold",
    "search.criteria=[reward, reward]": "'reward' appears twice",
    "search.finals={seeds: [0, 101]}": "search.finals.seeds: seed 0 is compared too",
    "search.finals={seeds: [100]}": "search.finals.seeds: seed 100 is the first stage's too",
    "search.finals={best: 4, seeds: [101]}": "4 of 3 configurations cannot be in the finals",
    "search.finals={best: 0, seeds: [101]}": "search.finals.best",
    "search.finals={best: 2}": "search.finals.seeds: is missing",
    "search.budget={nfe: 100}": "search.budget.nfe: the sweep's budget is one of reward_queries",
    "search.budget={reward_queries: 8}": "search.budget.reward_queries: 8 is no less than the comparison's 8",
    "search.budget={reward_queries: 4, steps: 1}": "search.budget.steps: the sweep's budget is one of",
    "search.budget={reward_queries: 1}": "search.budget: reward_queries: 1 is less than one step of",
    "search={algorithm: asha, budget: {reward_queries: 4}, space: {ddpo: {clip_range: [1]}}}": "stages of its own",
}


@pytest.mark.parametrize("override", REFUSED)
def test_refused_in_a_line_that_says_why(cli, searched_file, tmp_path, override):
    answer = cli("run", searched_file, "--set", override, "--executor", "inline", "--out", tmp_path / "run")
    assert answer.code == 2, answer.out + answer.err
    assert REFUSED[override] in answer.err
    assert len(answer.err.strip().splitlines()) <= 3
    assert not (tmp_path / "run" / "tuning" / "trials").exists(), "nothing ran"


def test_a_variant_with_the_name_of_golds_choice_is_refused_with_its_line(cli, searched_file, tmp_path):
    text = searched_file.read_text().replace("evaluate:\n", "evaluate:\n  gold: compressibility\n")
    method = "  - name: ddpo\n    settings: {prompts_per_rollout: 2, images_per_prompt: 2}\n"
    searched_file.write_text(text.replace(method, f"{method}  - name: base\n    variant: ddpo-gold\n"))
    line = next(n for n, words in enumerate(searched_file.read_text().splitlines(), 1) if "ddpo-gold" in words)
    criteria = ("--set", "search.criteria=[reward, gold]")
    answer = cli("run", searched_file, *criteria, "--executor", "inline", "--out", tmp_path / "run")
    assert answer.code == 2
    assert (
        f"{searched_file.name}:{line}: methods[3].variant: 'ddpo-gold' is what the comparison calls ddpo" in answer.err
    )
    assert not (tmp_path / "run" / "tuning" / "trials").exists()


def test_stopping_running_trials_needs_ray_and_one_process_a_trial(cli, searched_file, tmp_path):
    chosen = ("--set", "search.algorithm=asha", "--set", "search.samples=4")
    answer = cli("run", searched_file, *chosen, "--executor", "inline", "--out", tmp_path / "run")
    assert answer.code == 2
    assert "only Ray can" in answer.err
    answer = cli("run", searched_file, *chosen, "--set", "resources.workers=2", "--out", tmp_path / "run")
    assert answer.code == 2
    assert "one process a trial" in answer.err
