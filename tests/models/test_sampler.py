import pytest
import torch
from diffusers import DDIMScheduler
from scipy import stats

from models.loading import load_components
from models.noise import SeedStream
from models.sampler import Prediction, Schedule, log_probability


def scheduler(**changes) -> DDIMScheduler:
    options = {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "clip_sample": False,
        "set_alpha_to_one": False,
        "steps_offset": 1,
        "timestep_spacing": "leading",
        "prediction_type": "epsilon",
    }
    return DDIMScheduler(**(options | changes))


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_step_agrees_with_diffusers(prediction_type, eta):
    reference = scheduler(prediction_type=prediction_type)
    schedule = Schedule(reference)
    x, output, noise = torch.randn(3, 2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    for timestep in schedule.timesteps(7):
        expected = reference.step(output, timestep, x, eta=eta, variance_noise=noise)
        rows = torch.full((2,), timestep)
        mean, sigma = schedule.step(schedule.prediction(output, x, rows), x, rows, 7, eta)
        torch.testing.assert_close(mean + sigma * noise, expected.prev_sample, rtol=1e-4, atol=1e-5)
        clean = schedule.predicted_clean(schedule.prediction(output, x, rows), x, rows)
        torch.testing.assert_close(clean, expected.pred_original_sample, rtol=1e-4, atol=1e-4)


def test_rows_may_have_timesteps_of_their_own():
    schedule = Schedule(scheduler())
    x, epsilon = torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    timesteps = torch.tensor(schedule.timesteps(3))
    mean, sigma = schedule.step(Prediction(epsilon, epsilon), x, timesteps, 3, 1.0)
    for row in range(3):
        one = Prediction(epsilon[row : row + 1], epsilon[row : row + 1])
        alone = schedule.step(one, x[row : row + 1], timesteps[row : row + 1], 3, 1.0)
        torch.testing.assert_close(mean[row : row + 1], alone[0])
        torch.testing.assert_close(sigma[row : row + 1], alone[1])


def test_log_probability_is_the_normal_density_averaged_over_dimensions():
    sample, mean = torch.randn(2, 2, 3, generator=torch.Generator().manual_seed(2))
    sigma = torch.tensor([[0.5], [2.0]])
    expected = stats.norm.logpdf(sample.numpy(), mean.numpy(), sigma.numpy()).mean(1)
    torch.testing.assert_close(log_probability(sample, mean, sigma), torch.tensor(expected, dtype=torch.float32))


def test_a_step_without_variance_has_no_log_probability():
    """diffusers' default leaves the last step with σ = 0, which would make log-probabilities NaN."""
    schedule = Schedule(scheduler(set_alpha_to_one=True))
    x = torch.zeros(1, 4, 2, 2)
    last = torch.tensor(schedule.timesteps(5)[-1:])
    mean, sigma = schedule.step(Prediction(x, x), x, last, 5, 1.0)
    with pytest.raises(ValueError, match="zero variance"):
        log_probability(x, mean, sigma)


def test_epsilon_and_v_are_the_same_prediction():
    by_epsilon, by_v = Schedule(scheduler()), Schedule(scheduler(prediction_type="v_prediction"))
    clean, noise = torch.randn(2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(3))
    timesteps = torch.tensor([1, 500, 999])
    noisy = by_v.add_noise(clean, noise, timesteps)
    torch.testing.assert_close(noisy, scheduler().add_noise(clean, noise, timesteps))
    torch.testing.assert_close(by_v.target(clean, noise, timesteps), scheduler().get_velocity(clean, noise, timesteps))
    recovered = by_v.epsilon(by_v.target(clean, noise, timesteps), noisy, timesteps)
    torch.testing.assert_close(recovered, noise, rtol=1e-4, atol=1e-4)
    assert by_epsilon.target(clean, noise, timesteps) is noise


def test_other_prediction_types_are_refused():
    with pytest.raises(ValueError, match="prediction_type 'sample'"):
        Schedule(scheduler(prediction_type="sample"))


def test_noise_is_keyed_by_purpose_and_sample_never_by_position():
    stream = SeedStream(7)
    together = stream.noise("rollout", 3, 801, [0, 1, 2], (4, 2))
    torch.testing.assert_close(stream.noise("rollout", 3, 801, [2], (4, 2))[0], together[2], rtol=0, atol=0)
    for other in (
        SeedStream(8).noise("rollout", 3, 801, [2], (4, 2)),
        stream.noise("evaluation", 3, 801, [2], (4, 2)),
        stream.noise("rollout", 4, 801, [2], (4, 2)),
        stream.noise("rollout", 3, 601, [2], (4, 2)),
        stream.noise("rollout", 3, 801, [1], (4, 2)),
    ):
        assert not torch.equal(other[0], together[2])


def test_keyed_noise_is_standard_normal():
    draws = SeedStream(0).noise("test", 0, 0, range(2000), (4,)).flatten()
    assert stats.kstest(draws.numpy(), "norm").pvalue > 0.001


def test_the_tiny_model_has_stable_diffusions_scheduler(tiny_model):
    schedule = Schedule(load_components(str(tiny_model)).scheduler)
    assert schedule.timesteps(5) == [801, 601, 401, 201, 1]
    assert schedule.final_alpha == pytest.approx(1 - 0.00085)
