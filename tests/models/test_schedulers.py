import inspect
import itertools

import diffusers
import pytest
import torch
from diffusers import StableDiffusionPipeline

from models.families.stable_diffusion import StableDiffusion
from models.loading import load_components
from models.meter import Meter
from models.noise import SeedStream
from models.paths.ddim import DDIM
from models.policy import Policy
from models.sampler import SamplerSettings
from models.schedulers import ADAPTED, PLAIN, ddim
from tests.models.changed import rescheduled

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
OURS = {"steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False}
FIRST = pytest.approx(1 - 0.00085)


def saved(name: str, **values) -> dict:
    """What `save_pretrained` writes for a scheduler of that class: its defaults too."""
    cls = getattr(diffusers, name)
    known = inspect.signature(cls.__init__).parameters
    scheduler = cls(**{key: value for key, value in {**BETAS, **values}.items() if key in known})
    return {**{key: value for key, value in scheduler.config.items() if not key.startswith("_")}, "_class_name": name}


def rows(*timesteps: int) -> torch.Tensor:
    return torch.tensor(timesteps)


def clean_and_noise(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.randn(2, count, 4, 2, 2, generator=torch.Generator().manual_seed(0)).double())


@pytest.mark.parametrize(
    "name",
    [
        "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler",
        "PNDMScheduler",
        "DPMSolverMultistepScheduler",
        "DPMSolverSinglestepScheduler",
        "DDPMScheduler",
        "LCMScheduler",
        "TCDScheduler",
        "UniPCMultistepScheduler",
        "HeunDiscreteScheduler",
    ],
)
def test_ddim_takes_the_place_of_another_scheduler_and_says_so(name):
    found = ddim(saved(name))
    assert len(found.notes) == 1
    assert name in found.notes[0]
    assert "DDIM takes its place" in found.notes[0]
    assert found.version == ADAPTED
    assert found.path.timesteps(SamplerSettings(4)) == [751, 501, 251, 1]
    assert found.path.final_alpha == FIRST
    assert found.path.noiseless_step(SamplerSettings(4)) is None, "policy gradients need noise in every step"
    alphas = diffusers.DDIMScheduler(**BETAS).alphas_cumprod.double()
    torch.testing.assert_close(found.path.alphas_cumprod, alphas, rtol=1e-6, atol=0)


def test_stable_diffusions_own_file_is_read_as_it_always_was():
    """Stable Diffusion 1.5's scheduler_config.json: PNDM, without timestep_spacing."""
    found = ddim({**BETAS, **OURS, "_class_name": "PNDMScheduler", "num_train_timesteps": 1000, "skip_prk_steps": True})
    assert found.version == PLAIN, "its finished trials stay finished"
    assert found.path.timesteps(SamplerSettings(5)) == [801, 601, 401, 201, 1]
    assert found.path.final_alpha == FIRST


def test_ddims_own_file_has_nothing_to_say():
    found = ddim({**BETAS, **OURS, "_class_name": "DDIMScheduler"})
    assert (found.notes, found.version) == ((), PLAIN)
    assert ddim({**BETAS, **OURS, "_class_name": "DDIMScheduler", "timestep_spacing": "trailing"}).version == ADAPTED


def test_betas_that_ddim_has_no_name_for_are_taken_from_the_original():
    found = ddim(saved("DDPMScheduler", beta_schedule="sigmoid"))
    alphas = diffusers.DDPMScheduler(**{**BETAS, "beta_schedule": "sigmoid"}).alphas_cumprod.double()
    torch.testing.assert_close(found.path.alphas_cumprod, alphas, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 3.0},
            "FlowMatchEulerDiscreteScheduler is set for flow",
        ),
        (
            {"_class_name": "UniPCMultistepScheduler", "use_flow_sigmas": True},
            "UniPCMultistepScheduler is set for flow",
        ),
        (
            {"_class_name": "DPMSolverMultistepScheduler", "prediction_type": "flow_prediction"},
            "DPMSolverMultistepScheduler is set for flow",
        ),
        ({"_class_name": "EDMEulerScheduler"}, "EDMEulerScheduler has no ᾱ"),
        ({"_class_name": "VQDiffusionScheduler", "num_vec_classes": 16}, "VQDiffusionScheduler has no ᾱ"),
        ({"_class_name": "CogVideoXDDIMScheduler"}, "CogVideoXDDIMScheduler has another ᾱ"),
        ({"_class_name": "MyScheduler"}, "MyScheduler is unknown to diffusers"),
        ({"_class_name": "AutoencoderKL"}, "AutoencoderKL is unknown to diffusers"),
        ({"_class_name": "DDIMScheduler", "beta_schedule": "sigmoid"}, "cannot be made from its configuration"),
        ({"_class_name": "DDIMScheduler", "prediction_type": "sample"}, "prediction_type 'sample'"),
        ({"_class_name": "DDPMScheduler", "prediction_type": "sample"}, "prediction_type 'sample'"),
        ({"_class_name": "DDIMScheduler", "rescale_betas_zero_snr": True}, "rescale_betas_zero_snr leaves no signal"),
        ({"_class_name": "EulerDiscreteScheduler", "rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
    ],
)
def test_what_ddim_cannot_stand_for_is_refused_by_name(config, words):
    with pytest.raises(ValueError, match=words) as caught:
        ddim(config)
    assert "\n" not in str(caught.value)


# -- where a step leads ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [3, 4, 7, 50])
@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_a_step_leads_to_the_timestep_where_the_next_prediction_is_made(spacing, steps, prediction_type):
    """With the true noise predicted, DDIM without noise of its own goes along √ᾱ x_0 + √(1−ᾱ) ε."""
    path = ddim({**BETAS, **OURS, "timestep_spacing": spacing, "prediction_type": prediction_type}).path
    clean, noise = clean_and_noise(1)
    for step, (timestep, following) in enumerate(itertools.pairwise(path.timesteps(SamplerSettings(steps)))):
        noisy = path.corrupt(clean, noise, rows(timestep))
        output = path.target(clean, noise, rows(timestep))
        prediction = path.prediction(output, noisy, rows(timestep))
        transition = path.transition(prediction, step, SamplerSettings(steps))
        expected = path.corrupt(clean, noise, rows(following))
        torch.testing.assert_close(transition.mean, expected, rtol=1e-9, atol=1e-9)
        assert float(transition.std) == 0


def test_linspace_has_a_stride_of_its_own():
    path = ddim({**BETAS, **OURS, "timestep_spacing": "linspace"}).path
    assert path.timesteps(SamplerSettings(4)) == [999, 666, 333, 0]
    assert path.times(SamplerSettings(4)).tolist() == [999, 666, 333, 0, -1]
    assert path.noiseless_step(SamplerSettings(4)) == 0, "behind t = 0 stands the first ᾱ, which is that of t = 0"


def test_a_last_step_to_one_adds_no_noise():
    path = ddim({**BETAS, **OURS, "set_alpha_to_one": True}).path
    assert path.noiseless_step(SamplerSettings(5)) == 1


@pytest.mark.parametrize(("steps", "spacing"), [(1001, "trailing"), (1000, "leading")])
def test_more_steps_than_the_model_has_timesteps_are_refused(steps, spacing):
    with pytest.raises(ValueError, match=f"{steps} steps"):
        ddim({**BETAS, **OURS, "timestep_spacing": spacing}).path.timesteps(SamplerSettings(steps))


# -- no signal at the last timestep ----------------------------------------------------------------------------

FADING = [
    {"rescale_betas_zero_snr": True},
    {"rescale_betas_zero_snr": True, "_class_name": "EulerDiscreteScheduler"},
    {"beta_schedule": "squaredcos_cap_v2"},
]


@pytest.mark.parametrize("values", FADING)
def test_v_gives_the_clean_latents_where_no_signal_is_left(values):
    path = ddim({**BETAS, **OURS, **values, "prediction_type": "v_prediction"}).path
    assert float(path.alphas_cumprod[-1]) < 1e-8
    timesteps = rows(999, 998, 990, 900, 500, 1)
    clean, noise = (each.float() for each in clean_and_noise(6))
    noisy = path.corrupt(clean, noise, timesteps)
    output = path.target(clean, noise, timesteps).requires_grad_()
    predicted = path.prediction(output, noisy, timesteps).clean
    torch.testing.assert_close(predicted, clean, rtol=1e-4, atol=1e-4)
    (gradient,) = torch.autograd.grad(predicted.sum(), output)
    beta = (1 - path.alphas_cumprod[timesteps]).sqrt().float().reshape(-1, 1, 1, 1)
    torch.testing.assert_close(gradient, -beta.expand_as(gradient), rtol=1e-4, atol=1e-4)  # ∂x̂_0 / ∂v = −√(1 − ᾱ)


def test_clean_latents_are_bitwise_what_they_were_where_signal_is_left():
    """Through ε, as the curves of the embedded model were made."""
    path = ddim({**BETAS, **OURS, "prediction_type": "v_prediction"}).path
    output, noisy = (each.float() for each in clean_and_noise(3))
    timesteps = rows(999, 500, 1)
    alpha = path.alpha(timesteps, noisy)
    epsilon = alpha.sqrt() * output + (1 - alpha).sqrt() * noisy
    expected = (noisy - (1 - alpha).sqrt() * epsilon) / alpha.sqrt()
    assert torch.equal(path.prediction(output, noisy, timesteps).clean, expected)


# -- beside diffusers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predicts", "values"),
    [
        ("v_prediction", {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}),
        ("v_prediction", {"timestep_spacing": "trailing"}),
        ("epsilon", {"steps_offset": 0, "clip_sample": True}),
        ("epsilon", {"steps_offset": None, "clip_sample": None, "set_alpha_to_one": None}),
    ],
)
def test_sampling_agrees_with_the_pipeline(predicts, values, tiny_model, tmp_path):
    """StableDiffusionPipeline corrects offset and clipping when it is made, and so do we."""
    folder = rescheduled(tiny_model, tmp_path / "model", prediction_type=predicts, **values)
    policy = Policy(StableDiffusion.load(str(folder)), SamplerSettings(4), Meter())
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    noise = SeedStream(0).noise("test", 0, -1, range(2), policy.state_shape)
    prompts = ["a cat", "two dogs"]
    expected = pipeline(
        prompts, latents=noise.clone(), num_inference_steps=4, guidance_scale=1.0, output_type="pt"
    ).images
    images = policy.decode(policy.sample(policy.start(noise), policy.encode(prompts), lambda t: noise))
    torch.testing.assert_close(images, torch.as_tensor(expected), rtol=1e-4, atol=1e-4)


def test_the_components_have_the_replacement(tiny_model, tmp_path):
    folder = rescheduled(
        tiny_model, tmp_path / "model", _class_name="EulerDiscreteScheduler", timestep_spacing="linspace"
    )
    path = DDIM(load_components(str(folder)).scheduler)
    assert path.timesteps(SamplerSettings(4)) == [751, 501, 251, 1]
    still = path.prediction(torch.ones(1, 1), torch.ones(1, 1), rows(1))
    assert float(path.transition(still, 3, SamplerSettings(4, eta=1.0)).std) > 0


# -- a spacing of the sampler's own ----------------------------------------------------------------------------


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("own", ["leading", "trailing"])
def test_a_sampler_may_space_the_timesteps_otherwise_than_the_checkpoint(own, spacing):
    offset = int(spacing == "leading")
    wanted = diffusers.DDIMScheduler(**BETAS, timestep_spacing=spacing, steps_offset=offset)
    wanted.set_timesteps(7)
    path = ddim({**BETAS, **OURS, "timestep_spacing": own}).path
    assert path.timesteps(SamplerSettings(7, spacing=spacing)) == wanted.timesteps.tolist()
    assert path.timesteps(SamplerSettings(7)) == path.timesteps(SamplerSettings(7, spacing=own))


def test_transitions_follow_the_spacing():
    path = ddim({**BETAS, **OURS}).path
    state, noise = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1)
    for spacing, (time, following) in {"leading": (501, 1), "trailing": (999, 499)}.items():
        sampler = SamplerSettings(2, spacing=spacing)
        assert path.times(sampler)[:2].tolist() == [time, following]
        prediction = path.prediction(noise, state, path.times(sampler)[:1])
        expected = (path.alphas_cumprod[following] / path.alphas_cumprod[time]).sqrt()
        torch.testing.assert_close(path.transition(prediction, 0, sampler).mode.double().flatten(), expected[None])


def test_linspace_has_no_log_probabilities():
    path = ddim({**BETAS, **OURS}).path
    assert "write spacing: leading" in path.unfit(SamplerSettings(5, spacing="linspace"), random=True)
    assert path.unfit(SamplerSettings(5, spacing="linspace")) is None
    assert path.unfit(SamplerSettings(5, spacing="trailing"), random=True) is None
