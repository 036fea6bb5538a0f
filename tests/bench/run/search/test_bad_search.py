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
}


@pytest.mark.parametrize("override", REFUSED)
def test_refused_in_a_line_that_says_why(cli, searched_file, tmp_path, override):
    answer = cli("run", searched_file, "--set", override, "--executor", "inline", "--out", tmp_path / "run")
    assert answer.code == 2, answer.out + answer.err
    assert REFUSED[override] in answer.err
    assert len(answer.err.strip().splitlines()) <= 3
    assert not (tmp_path / "run" / "tuning" / "trials").exists(), "nothing ran"


def test_stopping_running_trials_needs_ray_and_one_process_a_trial(cli, searched_file, tmp_path):
    chosen = ("--set", "search.algorithm=asha", "--set", "search.samples=4")
    answer = cli("run", searched_file, *chosen, "--executor", "inline", "--out", tmp_path / "run")
    assert answer.code == 2
    assert "only Ray can" in answer.err
    answer = cli("run", searched_file, *chosen, "--set", "resources.workers=2", "--out", tmp_path / "run")
    assert answer.code == 2
    assert "one process a trial" in answer.err
