"""True bytes against Pillow, and the estimate against them and against an independent cosine transform."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.fft import dctn
from scipy.stats import spearmanr

from rewards import jpeg
from rewards.emoji.augment import blur, colour_blobs, noise, smudge
from rewards.registry import build


@pytest.fixture(scope="module")
def pictures():
    """Shapes of flat colours, clean, blurred, smudged and noisy: `[160, 3, 64, 64]`."""
    torch.manual_seed(0)
    blobs = colour_blobs(40)
    return torch.cat([blobs, blur(blobs, 2.0), smudge(blobs, 0.2), noise(blobs, 0.2)]).clamp(0, 1)


def prompts(images):
    return ["a cat"] * len(images)


def test_true_bytes_are_pillows(pictures):
    image = Image.fromarray((pictures[0] * 255).round().byte().permute(1, 2, 0).numpy())
    file = io.BytesIO()
    image.save(file, "JPEG", quality=95)
    assert float(jpeg.jpeg_kilobytes(pictures[:1])) == pytest.approx(len(file.getvalue()) / 1000)
    assert torch.equal(build("compressibility")(pictures, prompts(pictures)), -jpeg.jpeg_kilobytes(pictures))
    assert torch.equal(build("incompressibility")(pictures, prompts(pictures)), jpeg.jpeg_kilobytes(pictures))


def test_bytes_and_floats_weigh_the_same(pictures):
    stored = (pictures * 255).round().byte()
    reward = build("compressibility")
    assert torch.equal(reward(stored, prompts(stored)), reward(stored.float() / 255, prompts(stored)))


def test_the_tables_are_those_that_pillow_writes():
    file = io.BytesIO()
    Image.new("RGB", (16, 16)).save(file, "JPEG", quality=95)
    written = Image.open(file).quantization
    assert list(written[0]) == [entry for row in jpeg.scaled(jpeg.LUMINANCE) for entry in row]
    assert list(written[1]) == [entry for row in jpeg.scaled(jpeg.CHROMINANCE) for entry in row]


def test_code_length_against_scipys_transform(pictures):
    red, green, blue = 255 * pictures[50].double().numpy()
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    halves = [(part - luma).reshape(32, 2, 32, 2).mean((1, 3)) for part in (blue, red)]
    total = 0.0
    for plane, table in (
        (luma - 128, jpeg.LUMINANCE),
        (0.5 / (1 - 0.114) * halves[0], jpeg.CHROMINANCE),
        (0.5 / (1 - 0.299) * halves[1], jpeg.CHROMINANCE),
    ):
        last = 0.0
        for row in range(0, plane.shape[0], 8):
            for column in range(0, plane.shape[1], 8):
                levels = dctn(plane[row : row + 8, column : column + 8], norm="ortho") / np.array(jpeg.scaled(table))
                constant = levels[0, 0]
                levels[0, 0] -= last
                last = constant
                total += np.log2(1 + np.abs(levels)).sum()
    assert float(jpeg.code_length(pictures[50:51])) == pytest.approx(total, rel=1e-3)


def test_the_estimate_ranks_as_the_bytes_do(pictures):
    estimated, true = jpeg.estimated_kilobytes(pictures), jpeg.jpeg_kilobytes(pictures)
    assert spearmanr(estimated, true).statistic > 0.99
    assert (estimated - true).abs().mean() / true.mean() < 0.08


@pytest.mark.parametrize("shape", [(8, 8), (17, 33), (96, 64)])
def test_any_size(shape):
    images = torch.rand(2, 3, *shape)
    scores = build("compressibility-proxy")(images, ["a", "b"])
    assert scores.isfinite().all()
    alone = build("compressibility-proxy")(images[1:], ["b"])
    torch.testing.assert_close(scores[1:], alone)


def test_the_estimate_has_the_gradient_of_what_it_computes():
    generator = torch.Generator().manual_seed(0)
    images = (0.3 + 0.4 * torch.rand(1, 3, 16, 16, generator=generator).double()).requires_grad_()
    reward = build("incompressibility-proxy")
    (gradient,) = torch.autograd.grad(reward(images, ["a"]).sum(), images)
    direction = torch.randn(images.shape, generator=generator).double()
    step = 1e-7
    with torch.no_grad():
        there, back = (reward(images + sign * step * direction, ["a"]) for sign in (1, -1))
    assert float((gradient * direction).sum()) == pytest.approx(float(there - back) / (2 * step), rel=1e-4)


def test_flat_pictures_are_cheapest_and_have_a_finite_gradient():
    flat = torch.full((1, 3, 32, 32), 0.5, requires_grad=True)
    reward = build("compressibility-proxy")
    score = reward(flat, ["a"])
    assert float(score.detach()) > float(reward(torch.rand(1, 3, 32, 32), ["a"]))
    score.sum().backward()
    assert flat.grad.isfinite().all()
