"""Rows shared among workers: values, gradients, and rows that do not divide."""

import pytest
import torch
from torch import distributed as dist

from models.workers import Workers
from tests.bench.run.distributed.groups import together

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]


def sharing(folder):
    workers = Workers()
    weight = torch.tensor([[2.0, -1.0], [0.5, 3.0]], requires_grad=True)

    def call(batch):
        return torch.tanh(batch @ weight)

    for rows in (1, 2, 5):
        generator = torch.Generator().manual_seed(rows)
        values = torch.randn(rows, 2, generator=generator)
        alone, shared = (values.clone().requires_grad_() for _ in range(2))
        weight.grad = None
        (expected,) = torch.autograd.grad((call(call(alone)) ** 2).sum(), weight)
        torch.autograd.backward((call(call(alone)) ** 2).sum(), inputs=[alone])
        twice = workers.map(call, workers.map(call, shared))
        assert torch.equal(twice, call(call(values))), "every worker has every row"
        (twice**2).sum().backward()
        own = weight.grad.clone()
        dist.all_reduce(own)
        assert torch.allclose(own, expected, atol=1e-6), "the weights' gradient is the sum over workers"
        assert torch.allclose(shared.grad, alone.grad, atol=1e-6), "the batch's gradient is whole on each"


def words(folder):
    workers = Workers()
    assert workers.size == 2
    assert workers.each(workers.rank) == [0, 1]
    assert workers.agree({"rank": workers.rank}) == {"rank": 0}
    assert workers.share_list("abc") == [["a", "b"], ["c", "c"]][workers.rank]
    assert workers.first == (workers.rank == 0)


def both(folder):
    sharing(folder)
    words(folder)


def test_two_workers(tmp_path):
    together(both, tmp_path)


def test_one_worker_is_nothing_special():
    workers = Workers()
    batch = torch.arange(6.0).view(3, 2)
    assert workers.share(batch) is batch
    assert workers.gather(batch, 3) is batch
    assert workers.map(torch.exp, batch).equal(batch.exp())
    assert (workers.size, workers.first, workers.each(1), workers.agree(2)) == (1, True, [1], 2)
