import pytest
import torch

from models.checkpointing import memory_bytes, stored_bytes
from models.meter import Ledger
from models.policy import Policy
from tests.models.test_policy import PROMPTS, noise_of, perturb, policy, start


def differentiate(model: Policy, checkpointing) -> list[torch.Tensor]:
    """The adapter's gradient, the last two of three steps kept."""
    out = model.sample(
        start(model), model.encode(PROMPTS), noise_of(model), keep=[False, True, True], checkpointing=checkpointing
    )
    out.square().sum().backward()
    return [parameter.grad for parameter in model.trainable_parameters()]


def spent(tiny_model, checkpointing) -> tuple[list[torch.Tensor], Ledger, Policy]:
    model = policy(tiny_model, steps=3, guidance=2.0)
    perturb(model)
    return differentiate(model, checkpointing), model.meter.ledger, model


@pytest.mark.parametrize("checkpointing", ["block", "step"])
def test_the_gradient_is_the_same_and_recomputation_is_counted_apart(checkpointing, tiny_model):
    plain, plain_ledger, _ = spent(tiny_model, "none")
    again, ledger, _ = spent(tiny_model, checkpointing)
    for ours, theirs in zip(again, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)
    # 3 images, 3 steps, guidance counts two rows; two steps are differentiated.
    assert (plain_ledger.nfe_forward, plain_ledger.nfe_backward, plain_ledger.nfe_recompute) == (18, 12, 0)
    assert (ledger.nfe_forward, ledger.nfe_backward, ledger.nfe_recompute) == (18, 12, 12)
    assert ledger.flops == plain_ledger.flops + ledger.flops_recompute


def test_blocks_are_most_of_a_call_but_not_all_of_it(tiny_model):
    block, step = (spent(tiny_model, checkpointing)[1].flops_recompute for checkpointing in ("block", "step"))
    assert 0.5 * step < block < step


def test_the_denoiser_is_left_as_it_was(tiny_model):
    _, _, model = spent(tiny_model, "block")
    assert not model.parts["denoiser"].is_gradient_checkpointing
    model.parts["denoiser"].enable_gradient_checkpointing()
    blocks = [m for m in model.parts["denoiser"].modules() if hasattr(m, "gradient_checkpointing")]
    its_own = {m: m._gradient_checkpointing_func for m in blocks}
    differentiate(model, "block")
    assert all(m.gradient_checkpointing and m._gradient_checkpointing_func is its_own[m] for m in its_own)


def test_what_is_stored_by_hand():
    weight = torch.randn(8, 4, requires_grad=True)
    x = torch.randn(3, 8, requires_grad=True)
    # The product stores x and the weight; the square its own input, 3 × 4 numbers of four bytes.
    assert stored_bytes(lambda: (x @ weight).square(), [weight]) == 4 * (3 * 8 + 3 * 4)


def test_each_level_stores_less_and_measuring_changes_nothing(tiny_model):
    model = policy(tiny_model)
    conditioning = model.encode(PROMPTS[:1])
    ledger, random = Ledger(**vars(model.meter.ledger)), torch.get_rng_state()
    none, block, step = (model.stored_bytes(conditioning, level) for level in ("none", "block", "step"))
    assert none > block > step > 0
    assert model.meter.ledger == ledger
    assert torch.equal(torch.get_rng_state(), random)
    assert all(parameter.grad is None for parameter in model.trainable_parameters())
    model.parts["denoiser"].forward = None  # a second measurement would fail
    assert model.stored_bytes(conditioning, "none") == none


def test_memory_is_this_process_share_of_the_machines(monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    monkeypatch.setattr("torch.get_num_threads", lambda: 2)
    monkeypatch.setattr("psutil.virtual_memory", lambda: type("Memory", (), {"total": 1 << 20})())
    assert memory_bytes(torch.device("cpu")) == 1 << 19
