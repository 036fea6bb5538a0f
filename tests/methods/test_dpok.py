import pytest
import torch

from methods.common.value_function import ValueFunction, ValueNetwork
from methods.dpok import DPOK
from models.noise import SeedStream
from tests.linear import LinearFamily
from tests.methods.build import PROMPTS, build

SMALL = {"prompts_per_rollout": 4, "images_per_prompt": 2, "updates_per_rollout": 1, "timestep_fraction": 1.0}


def test_the_ratio_is_clipped_on_both_sides(tiny_model):
    method = build("dpok", tiny_model, clip_range=1e-4, reward_weight=100.0, **SMALL)
    e = method.clip_range
    assert e * 64 == pytest.approx(1e-4 * 16384)
    log_ratio = torch.tensor([0.0, 2 * e, 2 * e, -2 * e, -2 * e])
    advantage = torch.tensor([1.0, 1.0, -1.0, 1.0, -1.0])
    expected = -100 * advantage * torch.tensor([1.0, 1 + e, 1 + e, 1 - e, 1 - e])
    torch.testing.assert_close(method.surrogate(log_ratio, advantage), expected)


def network(seed=0):
    return ValueNetwork(inputs=16 + 3, steps=2, seeds=SeedStream(seed))


def test_the_network_by_hand_and_without_the_global_random_state():
    before = torch.random.get_rng_state()
    net = network()
    assert torch.equal(before, torch.random.get_rng_state())
    with torch.no_grad():
        net.scales[:, 1] = 0.5
        net.layers[-1].weight.fill_(0.1)
    states, pooled = torch.randn(2, 4, 2, 2), torch.randn(2, 3)
    hidden = torch.cat([states.reshape(2, 16), pooled], 1)
    for layer in net.layers[:-1]:
        hidden = torch.relu(torch.tensor([[1.0], [0.5]]) * (hidden @ layer.weight.T + layer.bias))
    expected = hidden @ net.layers[-1].weight[0] + net.layers[-1].bias
    torch.testing.assert_close(net(states, pooled, torch.tensor([0, 1])), expected)


def test_the_value_function_learns_rewards_and_remembers_so_many_rows():
    states = torch.randn(64, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    rewards = 7 + states.mean((1, 2, 3))
    value = ValueFunction(network(), learning_rate=1e-2, memory=48)
    value.remember(states, torch.zeros(64, 3), torch.zeros(64, dtype=torch.int64), rewards)
    assert {len(rows) for rows in value.rows.values()} == {48}
    losses = [value.learn(list(range(48))) for _ in range(60)]
    assert losses[-1] < 0.05 * losses[0]
    assert float(value(states, torch.zeros(64, 3), torch.zeros(64, dtype=torch.int64)).mean()) == pytest.approx(
        7, abs=0.2
    )


def test_the_value_function_learns_before_the_advantages_are_taken(monkeypatch):
    found = []
    surrogate = DPOK.surrogate

    def recorded(method, log_ratio, advantages):
        found.append((method.value.rows["rewards"], advantages))
        return surrogate(method, log_ratio, advantages)

    monkeypatch.setattr(DPOK, "surrogate", recorded)
    for updates in (0, 200):
        method = build("dpok", LinearFamily(), value_updates=updates, **SMALL | {"updates_per_rollout": 1})
        metrics = method.step(PROMPTS)
        assert (metrics.extra["value_loss"] > 0) == bool(updates)
        assert len(method.value.rows["rewards"]) == 24
    (rewards, before), (same, after) = found
    assert torch.equal(rewards, same)
    torch.testing.assert_close(before, rewards - rewards.mean())
    assert float(after.square().mean()) < 0.1 * float(before.square().mean()), "V knows these rewards already"
