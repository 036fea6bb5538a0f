"""Bytes that are alive, counted against what is known by hand."""

import pytest
import torch
from torch import nn

from models.checkpointing import stored_bytes
from models.flops import backward_flops
from models.memory import LiveTensors, held_bytes, weight_bytes


def test_the_most_that_was_alive_by_hand():
    weight = torch.randn(8, 4)
    with LiveTensors() as live:
        first = weight.exp()  # 128 bytes
        second = first.t() + 1  # a view is nothing new; the sum is 128 more
        assert live.now == 256
        del first
        assert live.now == 128
        third = torch.zeros(4)
        assert (live.now, live.peak) == (144, 256)
        del second, third
        assert live.now == 0


def test_weights_that_were_there_count_nothing():
    weight = torch.randn(16, 16, requires_grad=True)
    batch = torch.randn(2, 16)
    with LiveTensors() as live:
        loss = (batch @ weight.t()).square().sum()
        stored = live.now
        loss.backward()
    assert stored == 4 * (2 * 16 + 1), "the product, which the square needs, and the sum"
    assert live.peak >= 4 * (2 * 16 + 2 * 16 + 1), "for a moment the square too"
    assert live.now == weight.grad.nbytes + 4


def test_measurements_by_saved_tensors_leave_nothing_behind():
    """An operation that stores its own output must not keep itself alive through a hook."""
    weight = torch.randn(8, 8, requires_grad=True)
    with LiveTensors() as live:
        stored_bytes(lambda: (weight * 2).exp(), [weight])
        assert live.now == 0
    tracked = LiveTensors()
    with tracked:
        backward_flops(lambda: (weight * 2).exp(), [weight])
    assert tracked.now == 0


def test_numbers_are_the_same_under_the_measurement():
    torch.manual_seed(0)
    network, batch = nn.Sequential(nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8), nn.SiLU()), torch.randn(2, 3, 8, 8)

    def gradient():
        network.zero_grad()
        network(batch).square().sum().backward()
        return [parameter.grad.clone() for parameter in network.parameters()]

    plain = gradient()
    with LiveTensors():
        measured = gradient()
    assert all(map(torch.equal, plain, measured))


def test_a_storage_counts_once():
    whole = torch.zeros(10)
    assert held_bytes([whole, whole[:5], whole.view(2, 5)]) == 40
    layer = nn.Linear(3, 2)
    assert weight_bytes([layer, layer]) == 4 * (6 + 2)
    assert weight_bytes([nn.BatchNorm1d(2)]) == pytest.approx(4 * 4 * 2 + 8), "buffers are held too"
