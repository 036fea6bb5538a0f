import torch

from methods.common.preferences import ranked_pairs


def test_two_and_two_as_they_were_drawn_within_each_group():
    rewards = torch.tensor([1.0, 4.0, 3.0, 2.0, 9.0, 6.0, 7.0, 8.0])
    assert ranked_pairs(rewards, 4).tolist() == [[1, 0], [2, 3], [4, 5], [7, 6]]
    assert ranked_pairs(rewards[[0, 2, 1, 3, 4, 7, 5, 6]], 4).tolist() == [[1, 0], [2, 3], [4, 5], [7, 6]]


def test_the_last_one_of_an_odd_group_and_ties_are_left_out():
    assert ranked_pairs(torch.tensor([1.0, 2.0, 3.0, 5.0, 5.0, 6.0]), 3).tolist() == [[1, 0]]
    assert ranked_pairs(torch.ones(4), 2).shape == (0, 2)
