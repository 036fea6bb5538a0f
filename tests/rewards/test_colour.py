"""Colourfulness and the preference rule against their formulas."""

import numpy as np
import pytest
import torch

from rewards import registry
from rewards.colour import colourfulness
from rewards.emoji.rule import centredness, contrast, preference


def test_colourfulness_is_hasler_and_suesstrunks() -> None:
    image = np.random.default_rng(0).random((16, 16, 3))
    red, green, blue = image[..., 0], image[..., 1], image[..., 2]
    first, second = red - green, 0.5 * (red + green) - blue
    expected = np.hypot(first.std(), second.std()) + 0.3 * np.hypot(first.mean(), second.mean())
    found = colourfulness(torch.from_numpy(image).permute(2, 0, 1)[None])
    assert found.item() == pytest.approx(expected, abs=1e-6)


def test_grey_images_have_none_and_a_finite_gradient() -> None:
    images = torch.full((1, 3, 8, 8), 0.5, requires_grad=True)
    score = registry.build("colourfulness")(images, ["a cat"])
    score.sum().backward()
    assert score.item() < 1e-3
    assert images.grad is not None
    assert images.grad.isfinite().all()


def test_the_rule_is_bounded_and_differentiable() -> None:
    flat = torch.rand(8, 3, 1, 1).expand(-1, -1, 32, 32)
    images = torch.cat([torch.rand(8, 3, 32, 32).round(), flat, torch.zeros(1, 3, 32, 32)]).requires_grad_()
    scores = preference(images)
    scores.sum().backward()
    assert ((scores >= 1) & (scores <= 10)).all()
    assert images.grad is not None
    assert images.grad.isfinite().all()


def disc(x: float, y: float, radius: float, subject: tuple[float, ...], ground: tuple[float, ...]) -> torch.Tensor:
    axis = torch.linspace(0, 1, 64)
    inside = (axis[None] - x).square() + (axis[:, None] - y).square() < radius**2
    return torch.where(inside, torch.tensor(subject)[:, None, None], torch.tensor(ground)[:, None, None])[None]


def test_the_rule_prefers_what_it_says() -> None:
    plain = disc(0.5, 0.5, 0.25, (0.6, 0.5, 0.5), (0.5, 0.5, 0.5))
    vivid = disc(0.5, 0.5, 0.25, (1.0, 0.6, 0.0), (0.1, 0.3, 0.9))
    corner = disc(0.15, 0.15, 0.25, (1.0, 0.6, 0.0), (0.1, 0.3, 0.9))
    assert preference(vivid) > preference(plain) + 2
    assert centredness(vivid) > centredness(corner) + 0.2
    assert preference(vivid) > preference(corner)
    assert contrast(disc(0.5, 0.5, 0.3, (1.0,) * 3, (0.0,) * 3)) > contrast(plain) + 0.5
