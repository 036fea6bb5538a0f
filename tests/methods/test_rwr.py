import pytest
import torch

from methods.common.rollouts import draw_batch
from models.families.conditioning import join
from tests.linear import LinearFamily
from tests.methods.build import PROMPTS, build

SMALL = {"prompts_per_rollout": 4, "images_per_prompt": 2, "updates_per_rollout": 1, "batch_size": 4}


def test_weights_are_n_times_the_softmax():
    method = build("rwr", LinearFamily(), temperature=0.5)
    rewards = torch.tensor([0.0, 1.0, -1.0])
    weights = method.weights(rewards)
    expected = torch.exp(rewards / 0.5)
    torch.testing.assert_close(weights, 3 * expected / expected.sum())
    assert float(weights.mean()) == pytest.approx(1)


def test_sparse_keeps_the_best_share():
    method = build("rwr-sparse", LinearFamily(), keep_share=0.25)
    assert method.weights(torch.tensor([1.0, 5.0, 2.0, 3.0])).tolist() == [0, 1, 0, 0]


def test_only_samples_with_a_weight_are_learned_from():
    """One sample of 8 is kept, and fills the batch with noise of its own each time."""
    method = build("rwr-sparse", LinearFamily(), keep_share=0.1, **SMALL)
    seen = []
    original = method.policy.predict

    def spy(*inputs):
        if torch.is_grad_enabled():  # not while collecting
            seen.append(inputs)
        return original(*inputs)

    method.policy.predict = spy
    method.step(PROMPTS)
    states, times, conditionings = ([inputs[index] for inputs in seen] for index in range(3))
    assert len(join(conditionings).tensors[0].unique(dim=0)) == 1
    assert len(torch.cat(states).flatten(1).unique(dim=0)) == SMALL["batch_size"]
    assert len(torch.cat(times).unique()) > 1


def test_the_buffer_keeps_the_last_rounds():
    method = build("rwr", LinearFamily(), buffer_rollouts=2, **SMALL)
    for _ in range(3):
        method.step(PROMPTS)
    assert len(method.buffer) == 2
    assert all(len(entry.prompts) == 8 for entry in method.buffer)


def test_a_batch_larger_than_the_buffer_repeats_it_with_other_numbers():
    method = build("rwr", LinearFamily(), **SMALL)
    drawn = draw_batch(method, "test", 3, 8)
    assert len(set(drawn)) == 8
    assert {number % 3 for number in drawn} == {0, 1, 2}
    assert sorted(draw_batch(method, "test", 3, 3)) == [0, 1, 2]
