import pytest
import torch
from scipy import stats
from torch.distributions import Normal, kl_divergence

from models.paths.transition import GaussianTransition

STD = torch.tensor([[0.5], [2.0]])


def gaussian(seed: int, std: torch.Tensor = STD) -> GaussianTransition:
    mean = torch.randn(2, 3, generator=torch.Generator().manual_seed(seed))
    return GaussianTransition(mean, std, stochastic=True)


def test_log_prob_is_the_normal_density_averaged_over_dimensions():
    action, transition = torch.randn(2, 3, generator=torch.Generator().manual_seed(2)), gaussian(3)
    expected = stats.norm.logpdf(action.numpy(), transition.mean.numpy(), STD.numpy()).mean(1)
    torch.testing.assert_close(transition.log_prob(action), torch.tensor(expected, dtype=torch.float32))


def test_a_step_without_noise_has_no_log_prob():
    transition = GaussianTransition(torch.zeros(2, 3), torch.zeros(2, 1), stochastic=False)
    with pytest.raises(ValueError, match="zero variance"):
        transition.log_prob(torch.zeros(2, 3))


def test_kl_is_torchs_averaged_over_dimensions():
    one, other = gaussian(4), gaussian(5)
    expected = kl_divergence(Normal(one.mean, STD), Normal(other.mean, STD)).mean(1)
    torch.testing.assert_close(one.kl(other), expected)
    assert float(expected.min()) > 0
    assert one.kl(one).tolist() == [0, 0]


def test_a_draw_has_the_mean_and_the_standard_deviation():
    transition, noise = gaussian(6), torch.randn(2, 3, generator=torch.Generator().manual_seed(7))
    drawn = transition.draw(noise)
    torch.testing.assert_close((drawn - transition.mean) / STD, noise)
    assert torch.equal(transition.draw(torch.zeros(2, 3)), transition.mean)
