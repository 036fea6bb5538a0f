import time

import pytest
import torch
from torch import nn

from models.flops import backward_flops, forward_flops
from models.meter import Meter


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(8, 8, bias=False)

    def forward(self, x):
        return (self.layer(x),)


def test_flops_of_a_linear_layer_by_hand():
    layer, x = nn.Linear(16, 32), torch.randn(4, 16, requires_grad=True)
    product = 2 * 4 * 16 * 32
    assert forward_flops(lambda: layer(x)) == product
    # A backward pass is two products: one for the weights, one for the input.
    assert backward_flops(lambda: layer(x), [x, layer.weight]) == 2 * product
    assert backward_flops(lambda: layer(x), [x]) == product


def test_fused_attention_on_the_cpu_is_counted():
    """torch's counter knows CUDA's kernels only; a hand count is 4·B·H·L·S·D forward."""
    q, k, v = torch.randn(3, 2, 4, 6, 8)
    attention = nn.functional.scaled_dot_product_attention
    assert forward_flops(lambda: attention(q, k, v)) == 4 * 2 * 4 * 6 * 6 * 8
    q.requires_grad_()
    assert backward_flops(lambda: attention(q, k, v), [q]) > 4 * 2 * 4 * 6 * 6 * 8


def test_counting_touches_no_gradient():
    layer, x = nn.Linear(4, 4), torch.randn(1, 4)
    backward_flops(lambda: layer(x), [layer.weight])
    assert layer.weight.grad is None


def test_rows_are_counted_and_a_detached_output_has_no_backward():
    meter, denoiser = Meter(), Denoiser()
    meter.watch(denoiser, "denoiser")
    x = torch.randn(5, 8)
    denoiser(x)[0].sum().backward()
    denoiser(x)[0].detach()
    with torch.no_grad():
        denoiser(x[:2])
    book = meter.ledger
    assert (book.nfe_forward, book.nfe_backward, book.nfe_recompute) == (12, 5, 0)
    assert book.nfe == 17
    # Twelve rows forward; five backward, where the input needs no gradient, so one product each.
    assert book.flops == (12 + 5) * 2 * 8 * 8


def test_evaluation_is_billed_apart():
    meter, denoiser = Meter(), Denoiser()
    meter.watch(denoiser, "denoiser")
    with meter.phase("eval"), torch.no_grad():
        denoiser(torch.randn(3, 8))
        meter.count_reward(torch.zeros(3, 3, 2, 2), lambda images: images.mean((1, 2, 3)), "r")
        meter.count_images(3)
    book = meter.ledger
    assert (book.eval_nfe, book.eval_queries) == (3, 3)
    assert (book.nfe, book.reward_queries, book.images, book.flops) == (0, 0, 0, 0)


def test_rewards_count_queries_and_gradients_apart():
    meter = Meter()
    images = torch.rand(4, 3, 2, 2, requires_grad=True)
    calls = []

    def score(batch):
        calls.append(len(batch))
        return batch.mean((1, 2, 3))

    with torch.no_grad():
        meter.count_reward(images, score, "r")
    assert calls == [4], "a value-only query calls the reward exactly once"
    meter.count_reward(images, score, "r").sum().backward()
    assert (meter.ledger.reward_queries, meter.ledger.reward_gradients) == (8, 4)


def test_seconds_are_billed_to_the_innermost_phase():
    meter = Meter()
    with meter.phase("train"):
        time.sleep(0.02)
        with meter.phase("reward"):
            time.sleep(0.05)
    book = meter.ledger
    assert book.train_seconds == pytest.approx(0.02, abs=0.015)
    assert book.reward_seconds == pytest.approx(0.05, abs=0.015)
    assert book.wall_seconds == pytest.approx(book.train_seconds + book.reward_seconds)


def test_the_ledger_survives_a_checkpoint():
    meter = Meter()
    meter.ledger.updates, meter.ledger.train_seconds = 3, 1.5
    other = Meter()
    other.load_state_dict(meter.state_dict())
    assert other.ledger == meter.ledger
    assert set(other.ledger.as_axes()) >= {"nfe", "wall_seconds", "device_seconds", "flops", "eval_nfe"}


def test_peak_memory_sees_an_allocation():
    meter = Meter()
    before = meter.read_peak_memory()
    block = torch.ones(60_000_000)  # 240 MB
    del block
    assert meter.read_peak_memory() - before > 150e6
