"""Gradients against what they ought to be: finite differences, closed forms, and each other."""

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor, nn

from bench.conformance.compare import relative_error
from methods.alignprop import AlignProp, AlignPropSettings
from methods.base import Method
from methods.ddpo import DDPO, DDPOSettings
from models.families.conditioning import Conditioning
from models.meter import Meter
from models.noise import SeedStream
from models.paths.ddim import DDIM
from models.policy import Policy
from models.sampler import SamplerSettings
from models.workers import Workers
from tests.methods.build import PROMPTS, build, gradient_of_step

# -- finite differences -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpointing", ["none", "block", "step"])
def test_full_alignprop_agrees_with_central_differences(checkpointing, tiny_model):
    """Two parameters a, b: the adapter is θ + a·u + b·v with random directions u and v over all of its weights.

    In fp64, through the sampler (guidance, eta 1), the decoder, the reward and the method's own loss and batching.
    """
    method = build(
        "alignprop",
        tiny_model,
        SamplerSettings(3, 2.0, 1.0),
        truncation="full",
        loss="distance-to-target",
        target_reward=1.0,
        micro_batch=3,
        checkpointing=checkpointing,
        learning_rate=1e-300,  # an update that moves nothing, so that steps can be repeated
        weight_decay=0.0,
    )
    policy, parameters = method.policy, method.policy.trainable_parameters()
    for part in policy.parts.values():
        part.double()
    generator = torch.Generator().manual_seed(3)
    start = [p.detach() + 0.2 * torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters]
    directions = [[torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in parameters] for _ in range(2)]

    def place(a: float, b: float) -> None:
        with torch.no_grad():
            for parameter, at, u, v in zip(parameters, start, *directions, strict=True):
                parameter.copy_(at + a * u + b * v)

    def loss(a: float, b: float) -> float:
        place(a, b)
        losses = []
        method.loss = lambda rewards: losses.append(AlignProp.loss(method, rewards)) or losses[-1]
        method.iteration = 0
        method.step(PROMPTS)
        return float(torch.cat(losses).detach().mean())  # StepMetrics would do, but the sum stays in fp64 here

    place(0, 0)
    gradient = gradient_of_step(method, PROMPTS)
    h = 1e-5
    numerical = [(loss(h, 0) - loss(-h, 0)) / (2 * h), (loss(0, h) - loss(0, -h)) / (2 * h)]
    for direction, expected in zip(directions, numerical, strict=True):
        exact = sum(float((g * u).sum()) for g, u in zip(gradient, direction, strict=True))
        assert abs(expected) > 1e-5, "a gradient of zero would prove nothing"
        assert exact == pytest.approx(expected, rel=1e-6)


# -- checkpointing ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpointing", ["block", "step"])
@pytest.mark.parametrize("name", ["alignprop", "draft", "draft-lv", "refl"])
def test_checkpointing_changes_no_gradient_and_is_counted_apart(name, checkpointing, tiny_model):
    settings = {"alignprop": {"truncation": "full"}, "refl": {"stop_from": 0.9}}.get(name, {})
    plain = build(name, tiny_model, checkpointing="none", **settings)
    again = build(name, tiny_model, checkpointing=checkpointing, **settings)
    assert relative_error(gradient_of_step(again, PROMPTS), gradient_of_step(plain, PROMPTS)) < 1e-6
    before, after = plain.policy.meter.ledger, again.policy.meter.ledger
    assert (before.nfe_recompute, before.flops_recompute) == (0, 0)
    assert after.nfe_recompute == after.nfe_backward == before.nfe_backward
    assert after.flops == before.flops + after.flops_recompute
    assert after.nfe_forward == before.nfe_forward
    assert after.nfe == again.cost(again.settings, 4, again.policy.sampler)["nfe"]


# -- policy gradient against backpropagation --------------------------------------------------------------------

STEPS, DIMENSIONS, IMAGES, REPEATS = 4, 2, 512, 48


class LinearPolicy(Policy):
    """ε_θ(x, t) = θ_0 x + θ_1 in two dimensions: with Gaussian steps the whole chain is linear and Gaussian.

    Only the network, the decoder (the identity) and the text are replaced: predictions, chain and log-probabilities are
    the product's own.
    """

    def __init__(self) -> None:
        scheduler = DDIMScheduler(
            beta_schedule="scaled_linear",
            beta_start=0.00085,
            beta_end=0.012,
            steps_offset=1,
            set_alpha_to_one=False,
            clip_sample=False,
        )
        self.sampler = SamplerSettings(STEPS, guidance=1.0, eta=1.0)
        self.meter, self.workers, self.device, self.path = Meter(), Workers(), torch.device("cpu"), DDIM(scheduler)
        self.theta = nn.Parameter(torch.tensor([0.8, 0.1]))

    @property
    def state_shape(self) -> tuple[int, ...]:
        return (DIMENSIONS,)

    def trainable_parameters(self) -> list[nn.Parameter]:
        return [self.theta]

    def encode(self, prompts) -> Conditioning:
        return Conditioning((), torch.zeros(len(prompts), 0))

    def _denoised(self, state: Tensor, times: Tensor, conditioning: Conditioning) -> Tensor:
        return self.theta[0] * state + self.theta[1]

    def decode(self, final: Tensor) -> Tensor:
        return final


def reward(images: Tensor, prompts: list[str]) -> Tensor:
    """r(x) = 1ᵀx − ½‖x‖²: of a Gaussian x its mean is known."""
    return (images - 0.5 * images.square()).flatten(1).sum(1)


def closed_form() -> tuple[float, Tensor]:
    """E[r(x_0)] and ∇_θ E[r(x_0)], by the recursions of the chain's mean and variance (of each dimension alike)."""
    policy = LinearPolicy()
    theta, path = policy.theta.double(), policy.path
    mean, variance = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
    for number, time in enumerate(policy.times()):

        def step(x: Tensor, epsilon: Tensor, number: int = number, time: Tensor = time) -> tuple[Tensor, Tensor]:
            prediction = path.prediction(epsilon.reshape(1, 1), x.reshape(1, 1), time.reshape(1))
            transition = policy.transition(prediction, number)
            return transition.mean.squeeze(), transition.std.squeeze()

        zero, one = torch.zeros((), dtype=torch.float64), torch.ones((), dtype=torch.float64)
        offset, sigma = step(zero, theta[1])  # the step is affine: x ↦ slope·x + offset, plus σ z
        slope = step(one, theta[0] + theta[1])[0] - offset
        mean, variance = slope * mean + offset, slope**2 * variance + sigma**2
    expected = DIMENSIONS * (mean - 0.5 * (variance + mean**2))
    return float(expected.detach()), torch.autograd.grad(expected, policy.theta)[0]


class Recorder:
    """An optimiser that keeps each update's gradient and updates nothing."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.gradients: list[Tensor] = []

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def step(self) -> float:
        (parameter,) = self.parameters
        assert parameter.grad is not None
        self.gradients.append(parameter.grad.clone())
        parameter.grad = None
        return 0.0


def ascent_directions(cls: type[Method], settings, seed: int, prepare=lambda method: None) -> Tensor:
    """What `REPEATS` independent steps give as the gradient of the mean reward, `[REPEATS, 2]`."""
    policy = LinearPolicy()
    recorder = Recorder(policy.trainable_parameters())
    method = cls(settings, policy, reward, recorder, SeedStream(seed))
    prepare(method)
    for _ in range(REPEATS):
        method.step(["a cat"] * IMAGES)
    return -torch.stack(recorder.gradients)


def test_policy_gradient_and_backpropagation_agree_on_a_linear_gaussian_policy():
    """∇ E[r] by DDPO's score function, by AlignProp through the full chain, and in closed form.

    DDPO's loss averages log p over a latent's dimensions and over the trained steps where the theorem sums them, so its
    gradient is multiplied by both numbers. The reward is raw, nothing clipped, less a constant that changes no
    expectation and takes noise out.
    """
    value, truth = closed_form()
    backprop = ascent_directions(
        AlignProp, AlignPropSettings(truncation="full", batch_size=IMAGES, micro_batch=IMAGES, checkpointing="none"), 0
    )
    settings = DDPOSettings(
        estimator="score-function",
        prompts_per_rollout=IMAGES,
        images_per_prompt=1,
        advantage_clip=1e9,
        timestep_fraction=1.0,
        timestep_choice="earliest",
        micro_batch=IMAGES * STEPS,
    )

    def raw(method) -> None:
        method._advantages = lambda rewards, prompts: rewards - value

    policy_gradient = STEPS * DIMENSIONS * ascent_directions(DDPO, settings, 1, raw)

    means, errors = [], []
    for gradients in (backprop, policy_gradient):
        means.append(gradients.mean(0))
        errors.append(gradients.std(0) / REPEATS**0.5)
        assert ((means[-1] - truth).abs() < 3 * errors[-1]).all(), (
            "the estimate of the closed form's gradient is biased"
        )
        assert (truth.abs() > 8 * errors[-1]).all(), "the noise would hide a wrong factor"
    joint = (errors[0] ** 2 + errors[1] ** 2).sqrt()
    assert ((means[0] - means[1]).abs() < 3 * joint).all()
    assert (errors[0] < 0.5 * errors[1]).all()  # why backpropagation needs fewer queries
