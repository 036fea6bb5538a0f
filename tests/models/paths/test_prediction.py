import pytest
import torch

from models.paths.ddim import DDIM
from models.paths.prediction import Prediction, mean_square
from tests.models.paths.test_ddim import scheduler

TIMES = torch.tensor([1, 500, 999])


def drawn(count: int) -> list[torch.Tensor]:
    return list(torch.randn(count, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0)))


def test_the_mean_square_is_over_a_rows_dimensions():
    assert mean_square(torch.stack([torch.ones(4, 3, 3), torch.full((4, 3, 3), 2.0)])).tolist() == [1, 4]


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_error_is_the_models_own_or_that_of_the_noise(kind):
    path, (clean, noise, output) = DDIM(scheduler(prediction_type=kind)), drawn(3)
    alpha = path.alphas_cumprod[TIMES].float()
    roots = alpha.sqrt()[:, None, None, None], (1 - alpha).sqrt()[:, None, None, None]
    state = roots[0] * clean + roots[1] * noise
    target = noise if kind == "epsilon" else roots[0] * noise - roots[1] * clean
    prediction = path.prediction(output, state, TIMES)
    expected = ((output - target) ** 2).mean((1, 2, 3))
    torch.testing.assert_close(prediction.error(clean, noise), expected)
    # An error of v is, in ε, √ᾱ times as large.
    factor = alpha if kind == "v_prediction" else 1
    torch.testing.assert_close(prediction.error(clean, noise, "epsilon"), factor * expected, rtol=1e-4, atol=1e-6)


def test_the_distance_is_that_of_the_predicted_noise():
    path, (state, output, other) = DDIM(scheduler(prediction_type="v_prediction")), drawn(3)
    one, two = path.prediction(output, state, TIMES), path.prediction(other, state, TIMES)
    expected = path.alphas_cumprod[TIMES].float() * ((output - other) ** 2).mean((1, 2, 3))
    torch.testing.assert_close(one.distance(two), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rows", [slice(1, 3), torch.tensor([2, 0]), torch.tensor([True, False, True])])
def test_rows_of_a_prediction_are_the_prediction_for_these_rows(rows):
    path, (state, output) = DDIM(scheduler(prediction_type="v_prediction")), drawn(2)
    whole = path.prediction(output, state, TIMES)
    part = whole[rows]
    assert isinstance(part, Prediction)
    assert len(part) == 2
    assert torch.equal(part.clean, whole.clean[rows])
    for name in ("state", "times", "output", "epsilon"):
        assert torch.equal(getattr(part, name), getattr(whole, name)[rows])
