import pytest
import torch

from tests.linear import LinearFamily
from tests.methods.build import PROMPTS, build

SMALL = {"prompts_per_rollout": 4, "images_per_prompt": 2, "updates_per_rollout": 1, "timesteps_per_image": 1}


def test_old_starts_equal_and_follows_with_a_decay_that_rises():
    method = build("nft", LinearFamily(), old_rate=0.2, old_decay=0.3, **SMALL)
    first = method.policy.state_dict()
    assert all(torch.equal(value, first[name]) for name, value in method.old.weights.items())
    for decay in (0.2, 0.3):
        before = method.old.weights
        method.step(PROMPTS)
        now = method.policy.state_dict()
        for name, value in method.old.weights.items():
            torch.testing.assert_close(value, decay * before[name] + (1 - decay) * now[name])


def test_a_method_of_its_own_weights_moves_towards_the_better_image():
    """β 1, on policy: the gradient on x̂_0 is (2q − 1) times that of the denoising error."""
    method = build("nft", LinearFamily(), **SMALL)
    clean = torch.zeros(2, *method.policy.state_shape)
    predicted = torch.ones_like(clean, requires_grad=True)
    loss = method.contrast(predicted, predicted.detach(), clean, torch.tensor([1.0, 0.25]))
    loss.sum().backward()
    dimensions = clean[0].numel()
    assert predicted.grad[0].flatten().tolist() == pytest.approx([5 * 2 / dimensions] * dimensions)
    assert predicted.grad[1].flatten().tolist() == pytest.approx([-0.5 * 5 * 2 / dimensions] * dimensions)
