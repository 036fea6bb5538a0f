import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline

from models.adapter import AdapterSettings
from models.families.stable_diffusion import StableDiffusion
from models.loading import MissingModelError, load_components, model_hash
from models.meter import Meter
from models.noise import SeedStream
from models.policy import Policy
from models.sampler import SamplerSettings
from models.weight_files import UnsupportedModelError

PROMPTS = ["a cat", "a dog", "two dogs"]


def policy(model, steps=4, guidance=1.0, eta=0.0, **adapter) -> Policy:
    settings = AdapterSettings(**{"rank": 2, **adapter})
    return Policy(StableDiffusion.load(str(model)), SamplerSettings(steps, guidance, eta), Meter(), settings)


def start(policy: Policy, rows: int = 3) -> torch.Tensor:
    return policy.start(SeedStream(0).noise("test", 0, -1, range(rows), policy.state_shape))


def noise_of(policy: Policy, rows: int = 3):
    return lambda timestep: SeedStream(0).noise("test", 0, timestep, range(rows), policy.state_shape)


def perturb(policy: Policy, scale: float = 0.1) -> None:
    """Moves the adapter off its start, where B is zero and the adapter is the identity."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in policy.trainable_parameters():
            parameter += scale * torch.randn(parameter.shape, generator=generator)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("model", ["tiny_model", "tiny_v_model"])
def test_sampling_agrees_with_stable_diffusion_pipeline(model, guidance, request):
    folder = request.getfixturevalue(model)
    ours = policy(folder, steps=4, guidance=guidance)
    pipeline = StableDiffusionPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    latents = start(ours)
    expected = pipeline(
        PROMPTS, latents=latents.clone(), num_inference_steps=4, guidance_scale=guidance, eta=0.0, output_type="pt"
    ).images
    images = ours.decode(ours.sample(latents, ours.encode(PROMPTS), noise_of(ours)))
    torch.testing.assert_close(images, torch.as_tensor(expected), rtol=1e-4, atol=1e-4)


def test_the_adapter_starts_as_the_identity_and_the_reference_is_the_base(tiny_model):
    model = policy(tiny_model)
    inputs = start(model), torch.full((3,), 501), model.encode(PROMPTS)
    with torch.no_grad():
        base = model.predict(*inputs).epsilon
    perturb(model)
    with torch.no_grad():
        assert not torch.allclose(model.predict(*inputs).epsilon, base)
        trained = model.predict(*inputs).epsilon
    with model.using("base"):
        torch.testing.assert_close(model.predict(*inputs).epsilon, base, rtol=0, atol=0)
    assert all(parameter.requires_grad for parameter in model.trainable_parameters())
    with torch.no_grad():
        torch.testing.assert_close(model.predict(*inputs).epsilon, trained, rtol=0, atol=0)


def test_only_the_adapter_is_trainable(tiny_model):
    model = policy(tiny_model)
    assert {name.split(".")[-3] for name in model.state_dict()} == {"lora_A", "lora_B"}
    assert not any(p.requires_grad for name in ("decoder", "encoder") for p in model.parts[name].parameters())


def test_gradients_reach_kept_steps_only(tiny_model):
    model = policy(tiny_model, steps=3)
    perturb(model)
    latents, conditioning = start(model), model.encode(PROMPTS)

    def gradient(keep):
        out = model.sample(latents, conditioning, noise_of(model), keep=keep)
        return out, torch.autograd.grad(out.sum(), model.trainable_parameters(), allow_unused=True)

    full, _ = gradient([True] * 3)
    last, _ = gradient([False, False, True])
    torch.testing.assert_close(full, last, rtol=0, atol=0)
    assert not model.sample(latents, conditioning, noise_of(model)).requires_grad
    # A step dropped after a kept one is detached, but the latents still carry the earlier gradient.
    _, first_only = gradient([True, False, False])
    assert any(g is not None and g.abs().sum() > 0 for g in first_only)


def test_a_full_chain_agrees_with_finite_differences(tiny_model):
    model = policy(tiny_model, 3, 2.0, 1.0, rank=1, targets=["to_v"])
    for part in model.parts.values():  # the harness runs fp32; this is a proof
        part.double()
    perturb(model, 0.3)
    parameter = model.trainable_parameters()[0]
    conditioning = model.encode(PROMPTS)

    def value(grad: bool) -> torch.Tensor:
        with torch.set_grad_enabled(grad):
            latents = model.sample(start(model).double(), conditioning, noise_of(model), keep=[True] * 3)
            return latents.square().sum()

    (gradient,) = torch.autograd.grad(value(True), [parameter])
    for index in (0, 1):
        with torch.no_grad():
            flat, h = parameter.view(-1), 1e-5
            flat[index] += h
            above = value(False)
            flat[index] -= 2 * h
            below = value(False)
            flat[index] += h
        torch.testing.assert_close(gradient.view(-1)[index], (above - below) / (2 * h), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_only_a_step_with_variance_has_a_log_probability(eta, tiny_model):
    model = policy(tiny_model, eta=eta)
    state = start(model)
    transition = model.transition(model.predict(state, model.times()[:1].expand(3), model.encode(PROMPTS)), 0)
    if eta:
        assert transition.log_prob(state).isfinite().all()
    else:
        with pytest.raises(ValueError, match="zero variance"):
            transition.log_prob(state)


def test_a_choice_of_kept_steps_has_one_for_each_step(tiny_model):
    model = policy(tiny_model)
    with pytest.raises(ValueError, match="keep has 3 entries for 4 steps"):
        model.sample(start(model), model.encode(PROMPTS), noise_of(model), keep=[True] * 3)


def test_steps_to_an_end_lead_to_the_state_before_the_next(tiny_model):
    model = policy(tiny_model, eta=1.0)
    inputs, states = (start(model), model.encode(PROMPTS), noise_of(model)), []
    final = model.sample(*inputs, observe=lambda step, prediction: states.append((step, prediction.state)))
    assert [step for step, _ in states] == [0, 1, 2, 3]
    for end, expected in enumerate([*(state for _, state in states), final]):
        assert torch.equal(model.sample(*inputs, end=end), expected)


def test_the_saved_adapter_loads_in_diffusers(tiny_model, tmp_path):
    model = policy(tiny_model, steps=3)
    perturb(model)
    model.save_adapter(tmp_path)
    pipeline = StableDiffusionPipeline.from_pretrained(tiny_model, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    pipeline.load_lora_weights(tmp_path)
    latents = start(model)
    expected = pipeline(
        PROMPTS, latents=latents.clone(), num_inference_steps=3, guidance_scale=1.0, output_type="latent"
    ).images
    ours = model.sample(latents, model.encode(PROMPTS), noise_of(model))
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)


def test_state_dict_round_trip(tiny_model):
    model, other = policy(tiny_model), policy(tiny_model, seed=1)
    perturb(model)
    other.load_state_dict(model.state_dict())
    for name, value in model.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=0, atol=0)


def test_the_adapters_start_depends_on_the_seed_alone(tiny_model):
    torch.manual_seed(1)
    first = policy(tiny_model, seed=3).state_dict()
    torch.manual_seed(2)
    second = policy(tiny_model, seed=3).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    other = policy(tiny_model, seed=4).state_dict()
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_prompts_are_encoded_once(tiny_model):
    model = policy(tiny_model)
    model.encode(["a cat"])
    one = model.meter.ledger.flops
    model.encode(["a cat", "a dog", "a cat"])
    model.encode(["a cat", "a dog"])
    assert model.meter.ledger.flops == 2 * one > 0


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("./nowhere", "no such folder"),
        ("nowhere", "bench list models"),
        ("owner/not-a-model-we-have", "bench weights fetch owner/not-a-model-we-have"),
    ],
)
def test_a_missing_model_says_what_to_do(reference, words, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(MissingModelError, match=words) as caught:
        load_components(reference)
    assert "\n" not in str(caught.value)


def test_a_folder_without_a_part_names_the_part(tmp_path):
    (tmp_path / "unet").mkdir()
    with pytest.raises(UnsupportedModelError, match=r"no model_index\.json, vae, text_encoder"):
        load_components(str(tmp_path))


def test_model_hash_follows_the_weights(tiny_model, tiny_v_model):
    assert model_hash(str(tiny_model)) == model_hash(str(tiny_model))
    assert model_hash(str(tiny_model)) != model_hash(str(tiny_v_model))


def test_targets_that_match_nothing_are_refused(tiny_model):
    with pytest.raises(ValueError, match=r"lora\.targets"):
        policy(tiny_model, targets=["no_such_module"])
