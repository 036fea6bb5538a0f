import pytest
import torch
from diffusers import DDIMScheduler

from models.loading import load_components
from models.noise import SeedStream
from models.paths.ddim import DDIM
from models.sampler import SamplerSettings


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
    path, sampler = DDIM(reference), SamplerSettings(7, eta=eta)
    x, output, noise = torch.randn(3, 2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    for step, timestep in enumerate(path.timesteps(SamplerSettings(7))):
        expected = reference.step(output, timestep, x, eta=eta, variance_noise=noise)
        prediction = path.prediction(output, x, torch.full((2,), timestep))
        drawn = path.transition(prediction, step, sampler).draw(noise)
        torch.testing.assert_close(drawn, expected.prev_sample, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(prediction.clean, expected.pred_original_sample, rtol=1e-4, atol=1e-4)


def test_rows_may_have_steps_of_their_own():
    path, sampler = DDIM(scheduler()), SamplerSettings(3, eta=1.0)
    x, epsilon = torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    prediction = path.prediction(epsilon, x, path.times(SamplerSettings(3))[:-1])
    together = path.transition(prediction, torch.arange(3), sampler)
    for row in range(3):
        alone = path.transition(prediction[row : row + 1], row, sampler)
        torch.testing.assert_close(together.mean[row : row + 1], alone.mean)
        torch.testing.assert_close(together.std[row : row + 1], alone.std)


@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_step_for_each_row_is_bitwise_one_step_for_all(step):
    path, sampler = DDIM(scheduler(prediction_type="v_prediction")), SamplerSettings(3, eta=0.7)
    x, output = torch.randn(2, 5, 4, 2, 2, generator=torch.Generator().manual_seed(1))
    prediction = path.prediction(output, x, path.times(SamplerSettings(3))[step].expand(5))
    one, each = (path.transition(prediction, number, sampler) for number in (step, torch.full((5,), step)))
    assert torch.equal(one.mean, each.mean)
    assert torch.equal(one.std, each.std)


def test_a_run_with_a_step_without_variance_has_no_log_probability():
    """diffusers' default leaves the last step with σ = 0, which would make log-probabilities NaN."""
    x, sampler = torch.zeros(1, 4, 2, 2), SamplerSettings(5, eta=1.0)
    path = DDIM(scheduler(set_alpha_to_one=True))
    for step, time in enumerate(path.timesteps(SamplerSettings(5))):
        transition = path.transition(path.prediction(x, x, torch.tensor([time])), step, sampler)
        assert (float(transition.std) == 0) == (step == 4)
        with pytest.raises(ValueError, match="zero variance"):
            transition.log_prob(x)


def test_epsilon_and_v_are_the_same_prediction():
    by_epsilon, by_v = DDIM(scheduler()), DDIM(scheduler(prediction_type="v_prediction"))
    clean, noise = torch.randn(2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(3))
    timesteps = torch.tensor([1, 500, 999])
    noisy = by_v.corrupt(clean, noise, timesteps)
    torch.testing.assert_close(noisy, scheduler().add_noise(clean, noise, timesteps))
    torch.testing.assert_close(by_v.target(clean, noise, timesteps), scheduler().get_velocity(clean, noise, timesteps))
    recovered = by_v.prediction(by_v.target(clean, noise, timesteps), noisy, timesteps)
    torch.testing.assert_close(recovered.epsilon, noise, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(recovered.clean, clean, rtol=1e-3, atol=1e-3)
    assert by_epsilon.target(clean, noise, timesteps) is noise


def test_other_prediction_types_are_refused():
    with pytest.raises(ValueError, match="prediction_type 'sample'"):
        DDIM(scheduler(prediction_type="sample"))


def test_random_times_are_keyed_by_sample_and_reach_every_training_timestep():
    path, seeds = DDIM(scheduler(num_train_timesteps=7)), SeedStream(3)
    drawn = path.draw_times(seeds, "test", 2, range(200))
    assert set(drawn.tolist()) == set(range(7))
    assert torch.equal(path.draw_times(seeds, "test", 2, [11, 11, 4]), drawn[[11, 11, 4]])
    assert not torch.equal(path.draw_times(seeds, "test", 3, range(200)), drawn)


def test_the_tiny_model_has_stable_diffusions_scheduler(tiny_model):
    path = DDIM(load_components(str(tiny_model)).scheduler)
    assert path.timesteps(SamplerSettings(5)) == [801, 601, 401, 201, 1]
    assert path.final_alpha == pytest.approx(1 - 0.00085)
