"""Every native method on the linear-Gaussian model, whose samples and gradients are known in closed form.

Where the noise of a step is given, its gradient is compared tightly. Where a theorem speaks of expectations, the mean
of independent steps is compared with them, within its own error.
"""

import math
from itertools import pairwise
from statistics import NormalDist

import pytest
import torch
from torch import Tensor, nn

from bench.conformance.compare import relative_error
from methods import registry
from methods.base import EvaluatedRows, Method
from methods.common.denoising import NoisyRows, add_noise
from methods.common.rollouts import draw_in_proportion
from models.sampler import SamplerSettings
from tests.linear import (
    DIMENSIONS,
    TARGET,
    BlockSeeds,
    LinearFamily,
    closeness,
    denoised,
    expected_closeness,
    gradient,
    influence,
    linear,
    means,
    moments,
    scales,
    spread_of_closeness,
    states_of,
    steps_of,
)
from tests.methods.build import PROMPTS
from tests.methods.shaken import shaken

STEPS, IMAGES, REPEATS = 4, 1024, 16
DETERMINISTIC, STOCHASTIC, GUIDED = (SamplerSettings(STEPS, w, eta) for w, eta in ((1.0, 0.0), (1.0, 1.0), (2.0, 1.0)))
SAMPLERS = [
    pytest.param(DETERMINISTIC, id="deterministic"),
    pytest.param(STOCHASTIC, id="stochastic"),
    pytest.param(GUIDED, id="guided"),
]
ONE = PROMPTS[:1]
PAIRED = [prompt for prompt in PROMPTS for _ in range(2)]
SMALL = {"prompts_per_rollout": 4, "images_per_prompt": 2, "updates_per_rollout": 1}
ROUND = {"prompts_per_rollout": 4, "images_per_prompt": 2, "rows_per_image": 1.0, "batch_size": 8}
KINDS = ("epsilon", "v_prediction")


class Recorder:
    """An optimiser that keeps the gradient of each update and updates nothing."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.gradients: list[list[Tensor]] = []

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def step(self) -> float:
        self.gradients.append([parameter.grad.clone() for parameter in self.parameters])
        for parameter in self.parameters:
            parameter.grad = None
        return 0.0


def subject(
    name: str, sampler: SamplerSettings, reward=closeness, scale: float = 0.4, family=None, **settings
) -> Method:
    """A method whose policy has left the base model by `scale`, with an optimiser that records."""
    family = family or LinearFamily()
    method = shaken(name, family, sampler, scale=scale, reward=reward, **settings)
    method.seeds = BlockSeeds(1)
    method.optimiser = Recorder(method.policy.trainable_parameters())
    return method


def steps(method: Method):
    return steps_of(method.policy.path, method.policy.sampler)


def mean_of(method: Method, prompts: list[str], base: bool = False) -> Tensor:
    return means(method.policy, prompts, method.policy.sampler.guidance, base)


def states(method: Method, prompts: list[str], shared: int = 1) -> list[Tensor]:
    """The chain that the method's next rollout draws; `shared` consecutive images begin at the same x_T."""
    noise = method.rollout_noise(range(len(prompts)))
    start = method.rollout_noise([index // shared * shared for index in range(len(prompts))])(-1)
    drawn = [noise(key) for key in method.policy.noise_keys()]
    return states_of(steps(method), mean_of(method, prompts).detach(), start, drawn)


def score(method: Method, final: Tensor, prompts: list[str]) -> Tensor:
    return method.reward(method.policy.family.decode(final), prompts)


def assert_gradient(method: Method, prompts: list[str], loss: Tensor, tolerance: float = 1e-5) -> None:
    """A step's only update has the gradient of `loss`, and reports its value."""
    expected = gradient(loss, method.policy)
    metrics = method.step(prompts)
    (ours,) = method.optimiser.gradients
    assert relative_error(ours, expected) < tolerance
    assert metrics.loss == pytest.approx(float(loss.detach()), rel=1e-4, abs=1e-6)


def assert_expected_gradient(method: Method, prompts: list[str], expected: list[Tensor], size: float = 0.0) -> float:
    """The mean gradient of independent steps is within its error of `expected`, whose norm is far above the error.

    `size` is the norm that the error is compared with where zero is expected. Returns the relative error.
    """
    for _ in range(REPEATS):
        method.step(prompts)
    drawn = torch.stack([torch.cat([g.flatten() for g in gradients]) for gradients in method.optimiser.gradients])
    truth, error = torch.cat([g.flatten() for g in expected]), drawn.std(0) / REPEATS**0.5
    relative = float(error.norm()) / float(size or truth.norm())
    assert relative < 1 / 8, "the noise would hide a wrong factor"
    assert ((drawn.mean(0) - truth).abs() < 4 * error).all()
    return relative


def norm(gradients: list[Tensor]) -> float:
    return float(torch.cat([g.flatten() for g in gradients]).norm())


# -- no training ------------------------------------------------------------------------------------------------


def evaluated(method: Method, prompts: list[str]) -> EvaluatedRows:
    def noise_of(key, samples):
        return BlockSeeds(7).noise("test", 0, key, samples, method.policy.state_shape)

    return EvaluatedRows("train", prompts, range(len(prompts)), noise_of)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_base_draws_the_gaussian(sampler, kind):
    method = subject("base", sampler, scale=0.0, family=LinearFamily(prediction_type=kind))
    rows = evaluated(method, ONE * IMAGES)
    final, mean = method.sample(rows), mean_of(method, ONE).detach()
    drawn = [rows.noise(key) for key in method.policy.noise_keys()]
    torch.testing.assert_close(final, states_of(steps(method), mean, rows.noise(-1), drawn)[-1], rtol=1e-4, atol=1e-5)
    share, variance = moments(steps(method))
    error = (variance / IMAGES) ** 0.5
    assert ((final.mean(0) - share * mean[0]).abs() < 4 * error).all()
    assert ((final.var(0) / variance - 1).abs() < 4 * (2 / IMAGES) ** 0.5).all()


def test_the_best_of_two_is_higher_by_a_deviation_over_the_root_of_pi():
    method = subject("best-of-n", STOCHASTIC, reward=linear, scale=0.0)
    rows = evaluated(method, ONE * IMAGES)
    for _ in range(2):
        method.select(rows)
    best = linear(method.policy.decode(method.sample(rows)), rows.prompts)
    share, variance = moments(steps(method))
    deviation = variance**0.5 * float(TARGET.norm())
    expected = share * float(mean_of(method, ONE).detach().flatten() @ TARGET) + deviation / math.pi**0.5
    assert float(best.mean()) == pytest.approx(expected, abs=4 * float(best.std()) / IMAGES**0.5)


# -- backpropagation --------------------------------------------------------------------------------------------


def moved(final: Tensor, mean: Tensor, factor: float) -> Tensor:
    """`final` with the derivative `factor` with respect to μ."""
    return final + factor * (mean - mean.detach())


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize(
    ("name", "settings", "keep"),
    [
        ("alignprop", {"truncation": "full"}, [True] * 4),
        ("alignprop", {"truncation": "fixed", "keep_steps": 1}, [False] * 3 + [True]),
        ("alignprop", {"truncation": "fixed", "keep_steps": 2}, [False] * 2 + [True] * 2),
        ("draft", {"keep_steps": 2}, [False] * 2 + [True] * 2),
    ],
)
def test_backpropagation_through_the_kept_steps(name, settings, keep, sampler):
    method = subject(name, sampler, checkpointing="none", **settings)
    mean, final = mean_of(method, PROMPTS), states(method, PROMPTS)[-1]
    final = moved(final, mean, influence(steps(method), keep))
    assert_gradient(method, PROMPTS, -score(method, final, PROMPTS).mean())


def test_a_step_between_two_kept_ones_passes_the_gradient_of_its_state():
    """`truncation: per-step` detaches the ε of such a step, as the authors' code does."""
    method = subject("alignprop", STOCHASTIC, checkpointing="none", truncation="per-step")
    while method.gradient_mask() != [True, False, True, True]:
        method.iteration += 1
    mean, final = mean_of(method, PROMPTS), states(method, PROMPTS)[-1]
    final = moved(final, mean, influence(steps(method), method.gradient_mask()))
    assert_gradient(method, PROMPTS, -score(method, final, PROMPTS).mean())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_draft_lv_adds_the_last_step_under_fresh_noise(sampler):
    method = subject("draft-lv", sampler, checkpointing="none", repeats=2)
    policy, mean, sampled = method.policy, mean_of(method, PROMPTS), states(method, PROMPTS)[-1]
    last = steps(method)[-1]
    losses = [-score(method, moved(sampled, mean, last.offset), PROMPTS)]
    key, alpha = policy.noise_keys()[-1], torch.tensor(last.signal**2)
    for repeat in range(2):
        fresh = method.seeds.noise(f"draft-lv/{repeat}", 0, key, range(4), policy.state_shape)
        noisy = alpha.sqrt() * sampled + (1 - alpha).sqrt() * fresh
        losses.append(-score(method, denoised(noisy, alpha, mean)[0], PROMPTS))
    assert_gradient(method, PROMPTS, torch.stack(losses).mean())


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_refl_differentiates_one_prediction(sampler):
    method = subject("refl", sampler, checkpointing="none", stop_from=0.5, stop_to=0.75)
    alpha = torch.tensor(steps(method)[2].signal ** 2)
    clean, _ = denoised(states(method, PROMPTS)[2], alpha, mean_of(method, PROMPTS))
    assert_gradient(method, PROMPTS, -score(method, clean, PROMPTS).mean())


def test_the_pull_towards_the_base_model_is_the_drift_at_the_kept_steps():
    """Two kept steps of four images: ‖ε_θ − ε_base‖² = a g² ‖μ_c − μ_base‖², whatever the state."""
    keep = [False, False, True, True]
    method = subject("draft", GUIDED, checkpointing="none", keep_steps=2, drift_weight=20.0)
    mean, final = mean_of(method, PROMPTS), states(method, PROMPTS)[-1]
    alphas = torch.tensor([step.signal**2 for step in steps(method)[2:]])
    apart = mean_of(method, PROMPTS) - mean_of(method, PROMPTS, base=True)
    drift = (alphas * scales(alphas)[1] ** 2).mean() * apart.square().mean()
    loss = -score(method, moved(final, mean, influence(steps(method), keep)), PROMPTS).mean()
    pull, pushed = gradient(drift, method.policy), gradient(loss, method.policy)
    expected = [a + 20 * b for a, b in zip(pushed, pull, strict=True)]
    metrics = method.step(PROMPTS)
    assert metrics.extra["drift"] == pytest.approx(float(drift.detach()), rel=1e-4)
    assert relative_error(method.optimiser.gradients[0], expected) < 1e-5
    assert relative_error(pushed, expected) > 0.1


def test_alignprop_reaches_the_optimum():
    """The mean of all samples can be the best state, and their variance cannot be helped: E[r]* = −½ D V."""
    method = shaken("alignprop", LinearFamily(), STOCHASTIC, scale=0.0, reward=closeness,
        truncation="full", checkpointing="none", learning_rate=0.1, weight_decay=0.0, max_grad_norm=1e9)  # fmt: skip
    method.seeds = BlockSeeds(1)
    prompts = PROMPTS[:2]
    optimum = -0.5 * DIMENSIONS * moments(steps(method))[1]

    def gap() -> float:
        return optimum - float(expected_closeness(mean_of(method, prompts), steps(method)).detach())

    before = gap()
    for _ in range(60):
        method.step(prompts * 32)
    assert before > 1
    assert 0 < gap() < 0.01 * before


# -- policy gradients -------------------------------------------------------------------------------------------

WHOLE = {"images_per_prompt": 1, "updates_per_rollout": 1, "timestep_fraction": 1.0, "initial_noise": "independent"}


def ascent(method: Method, factor: float) -> list[Tensor]:
    """The gradient of −E[r] times `factor`."""
    return gradient(-factor * expected_closeness(mean_of(method, ONE), steps(method)), method.policy)


def assert_ascent(name: str) -> float:
    """The expected gradient of a method, or of an estimator of DDPO, is that of E[r]; returns the relative error.

    DDPO and DPOK average log p over dimensions and over trained steps, where the theorem sums them. DDPO's advantages
    are divided by the deviation of the rewards; DPOK's are multiplied by α.
    """
    large = {"micro_batch": IMAGES * STEPS}
    if name == "alignprop":
        method, factor = subject(name, STOCHASTIC, truncation="full", checkpointing="none", **large), 1.0
    elif name == "dpok":
        settings = {"reward_weight": 10.0, "drift_weight": 0.0, "value_updates": 0}
        method = subject(name, STOCHASTIC, **settings, **WHOLE, **large)
        factor = 10 / (STEPS * DIMENSIONS)
    else:
        settings = {"estimator": name, "statistics": "batch", "advantage_clip": 1e9}
        method = subject("ddpo", STOCHASTIC, **settings, **WHOLE, **large)
        factor = 1 / spread_of_closeness(mean_of(method, ONE), steps(method)) / (STEPS * DIMENSIONS)
    return assert_expected_gradient(method, ONE * IMAGES, ascent(method, factor))


def test_backpropagation_has_the_closed_form_as_expectation_and_half_the_error_of_a_policy_gradient():
    """The lower error is why it needs fewer queries."""
    assert assert_ascent("alignprop") < 0.5 * assert_ascent("score-function")


@pytest.mark.parametrize("name", ["importance-sampling", "dpok"])
def test_so_have_the_other_policy_gradients(name):
    assert_ascent(name)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("estimator", ["importance-sampling", "score-function"])
def test_ddpo_at_the_first_update(estimator, kind):
    """∇ρ is ∇ log p on policy, so that both estimators have −A ∇ log p, a mean over rows."""
    settings = {**WHOLE, "images_per_prompt": 2, "estimator": estimator, "statistics": "batch"}
    method = subject("ddpo", GUIDED, family=LinearFamily(prediction_type=kind), **settings)
    chain, mean = states(method, PAIRED), mean_of(method, PAIRED)
    rewards = score(method, chain[-1], PAIRED)
    advantages = (rewards - rewards.mean()) / rewards.std(correction=0)
    log_p = torch.stack([step.log_prob(chain[i + 1], chain[i], mean) for i, step in enumerate(steps(method))])
    method.step(PROMPTS)
    expected = gradient(-(advantages * log_p).mean(), method.policy)
    assert relative_error(method.optimiser.gradients[0], expected) < 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_dpok_at_the_first_update(kind):
    """−α (r − V) ∇ log p + β ∇ ‖ε_θ − ε_base‖², where V begins at the mean reward."""
    settings = {**WHOLE, "images_per_prompt": 2, "reward_weight": 10.0, "drift_weight": 3.0, "value_updates": 0}
    method = subject("dpok", GUIDED, family=LinearFamily(prediction_type=kind), **settings)
    chain, mean, base = states(method, PAIRED), mean_of(method, PAIRED), mean_of(method, PAIRED, base=True)
    rewards = score(method, chain[-1], PAIRED)
    rows = []
    for number, step in enumerate(steps(method)):
        alpha = torch.tensor(step.signal**2)
        drift = (alpha.sqrt() * scales(alpha)[1] * (mean - base)).square().flatten(1).mean(1)
        log_p = step.log_prob(chain[number + 1], chain[number], mean)
        rows.append(-10 * (rewards - rewards.mean()) * log_p + 3 * drift)
    method.step(PROMPTS)
    expected = gradient(torch.stack(rows).mean(), method.policy)
    assert relative_error(method.optimiser.gradients[0], expected) < 1e-4


# -- preferences ------------------------------------------------------------------------------------------------


def pairs_of(rewards: Tensor) -> tuple[list[int], list[int]]:
    """Numbers of the better and of the worse image of each two."""
    ranked = [sorted((i, i + 1), key=lambda index: -float(rewards[index])) for i in range(0, len(rewards), 2)]
    better, worse = zip(*ranked, strict=True)
    return list(better), list(worse)


@pytest.mark.parametrize("kind", KINDS)
def test_d3po_prefers_every_step_of_the_better_trajectory(kind):
    """−log σ(β log ρ_w − β log ρ_l), ρ the joint ratio to the power 1 / 16,384; 4 pairs, 4 steps."""
    settings = {**WHOLE, "images_per_prompt": 2, "initial_noise": "per-prompt", "beta": 2e3, "ratio_clip": 0.5}
    method = subject("d3po", GUIDED, family=LinearFamily(prediction_type=kind), **settings)
    chain, mean, base = states(method, PAIRED, shared=2), mean_of(method, PAIRED), mean_of(method, PAIRED, base=True)
    better, worse = pairs_of(score(method, chain[-1], PAIRED))
    losses = []
    for number, step in enumerate(steps(method)):
        transition = chain[number + 1], chain[number]
        ratio = DIMENSIONS / 16384 * (step.log_prob(*transition, mean) - step.log_prob(*transition, base))
        losses.append(-torch.sigmoid(2e3 * (ratio[better] - ratio[worse])).log())
    assert float(torch.stack(losses).detach().std()) > 0.01, "β matters"
    assert_gradient(method, PROMPTS, torch.stack(losses).mean(), tolerance=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_dpo_prefers_the_smaller_error_of_the_better_image(kind):
    """Equation 14 with errors of ε, sums over dimensions and β = 5,000 / 16,384."""
    settings = {**SMALL, "beta": 5000.0, "batch_size": 4}
    sampler = SamplerSettings(STEPS, 2.0, 0.0)
    method = subject("dpo", sampler, family=LinearFamily(prediction_type=kind), **settings)
    clean = states(method, PAIRED)[-1]
    better, worse = pairs_of(score(method, clean, PAIRED))
    noisy = [add_noise(method, clean[side], PROMPTS, "pairs/0", range(4)) for side in (better, worse)]
    mean, base = (means(method.policy, PROMPTS, base=which) for which in (False, True))
    excess = [error(method, rows, mean, "epsilon") - error(method, rows, base, "epsilon") for rows in noisy]
    loss = -torch.sigmoid(-5000 / 16384 / 2 * DIMENSIONS * (excess[0] - excess[1])).log().mean()
    assert abs(float(loss.detach()) - math.log(2)) > 1e-3
    assert_gradient(method, PROMPTS, loss, tolerance=1e-4)


@pytest.mark.parametrize(("name", "sampler"), [("d3po", STOCHASTIC), ("dpo", DETERMINISTIC)])
def test_a_preference_is_undecided_at_the_base_model(name, sampler):
    method = subject(name, sampler, scale=0.0, **SMALL)
    metrics = method.step(PROMPTS)
    assert metrics.loss == pytest.approx(math.log(2), rel=1e-6)
    assert metrics.extra["pairs"] == 4
    assert norm(method.optimiser.gradients[0]) > 0


# -- denoising --------------------------------------------------------------------------------------------------


def alphas_of(method: Method, noisy: NoisyRows) -> Tensor:
    return method.policy.path.alphas_cumprod[noisy.times].float().reshape(-1, 1, 1, 1)


def error(method: Method, noisy: NoisyRows, mean: Tensor, kind: str) -> Tensor:
    """The squared error `[B]` of the ε or v that the model with mean μ predicts, a mean over dimensions."""
    alpha = alphas_of(method, noisy)
    state = alpha.sqrt() * noisy.clean + (1 - alpha).sqrt() * noisy.noise
    clean, epsilon = denoised(state, alpha, mean)
    off = epsilon - noisy.noise
    if kind == "v_prediction":
        off = alpha.sqrt() * off - (1 - alpha).sqrt() * (clean - noisy.clean)
    return off.square().flatten(1).mean(1)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["rwr", "rwr-sparse", "raft"])
def test_a_regression_has_the_models_own_loss_on_weighted_samples(name, kind):
    settings = {"rwr": {"temperature": 0.5}, "rwr-sparse": {"keep_share": 0.5}, "raft": {}}[name]
    family = LinearFamily(prediction_type=kind)
    method = subject(name, GUIDED, family=family, **ROUND, **settings)
    clean = states(method, PAIRED)[-1]
    rewards = score(method, clean, PAIRED).reshape(4, 2)
    centred = (rewards - rewards.mean(1, keepdim=True)).flatten()
    best = pairs_of(rewards.flatten())[0]
    if name == "rwr":
        weights = 2 * torch.softmax((centred / centred.std(correction=0) / 0.5).reshape(4, 2), 1).flatten()
        chosen = draw_in_proportion(method, "rows", weights, 8)
    elif name == "rwr-sparse":
        weights = torch.tensor([float(row in best) for row in range(8)])
        chosen = draw_in_proportion(method, "rows", weights, 8)
    else:
        chosen = [best[row] for row in draw_in_proportion(method, "rows", torch.ones(4), 8)]
    captions = [PAIRED[index] for index in chosen]
    noisy = add_noise(method, clean[chosen], captions, "denoising", range(8))
    loss = error(method, noisy, mean_of(method, captions), kind).mean()
    assert_gradient(method, PROMPTS, loss, tolerance=1e-4)


def regression(name: str, **settings) -> Method:
    """A regression on many samples of one prompt, whose mean is exactly that of the denoiser."""
    family = LinearFamily(prediction_type="v_prediction", zero_snr=True)
    size = {"images_per_prompt": 2 if name == "raft" else 1, "rows_per_image": 1.0}
    batch = {"batch_size": IMAGES, "micro_batch": IMAGES}
    return subject(name, DETERMINISTIC, reward=linear, family=family, **size, **batch, **settings)


def towards(method: Method, shift: float) -> list[Tensor]:
    """The expected gradient if the weights move the mean of the samples by `shift` deviations along `TARGET`.

    The error of v at t has the expectation κ² (μ − m)² in each dimension, for samples with mean m, plus a constant.
    """
    alphas = method.policy.path.alphas_cumprod
    h, g = scales(alphas)
    kappa = alphas * g + (1 - alphas).sqrt() * (1 - alphas.sqrt() * h)
    share, variance = moments(steps(method))
    assert share == pytest.approx(1, abs=1e-6)
    mean = means(method.policy, ONE).double()
    weighted = mean.detach().flatten() + shift * variance**0.5 * TARGET / TARGET.norm()
    return gradient((kappa**2).mean() * (mean.flatten() - weighted).square().mean(), method.policy)


NORMAL = NormalDist()


@pytest.mark.parametrize(
    ("name", "settings", "shift"),
    [
        ("rwr", {"temperature": 1.0, "statistics": "batch"}, 1.0),  # softmax weights tilt a Gaussian by 1 / β
        (
            "rwr-sparse",  # the mean of a Gaussian above its quantile
            {"keep_share": 0.25},
            NORMAL.pdf(NORMAL.inv_cdf(0.75)) / 0.25,
        ),
        ("raft", {}, math.pi**-0.5),  # the better of two
    ],
)
def test_a_regression_moves_towards_the_mean_of_the_weighted_samples(name, settings, shift):
    method = regression(name, **settings)
    prompts = ONE * (IMAGES if name != "raft" else IMAGES // 2)
    assert_expected_gradient(method, prompts, towards(method, shift))


def test_a_regression_on_own_samples_of_equal_weight_has_no_expected_gradient():
    method = regression("rwr", temperature=1e9, statistics="batch")
    tilted = towards(method, 1.0)
    assert_expected_gradient(method, ONE * IMAGES, [torch.zeros_like(g) for g in tilted], size=norm(tilted))


@pytest.mark.parametrize("kind", KINDS)
def test_nft_contrasts_the_good_and_the_bad_direction(kind):
    """Equation 5 with the x̂_0 of both directions; the images are those that `old` draws."""
    settings = {**SMALL, "timesteps_per_image": 1, "beta": 0.7, "drift_weight": 0.5}
    method = subject("nft", STOCHASTIC, family=LinearFamily(prediction_type=kind), **settings)
    method.old.weights = {name: 0.5 * value for name, value in method.old.weights.items()}
    with method.policy.using(method.old.weights):
        old, clean = mean_of(method, PAIRED), states(method, PAIRED)[-1]
    mean, base = mean_of(method, PAIRED), mean_of(method, PAIRED, base=True)
    rewards = score(method, clean, PAIRED).reshape(4, 2)
    centred = (rewards - rewards.mean(1, keepdim=True)).flatten()
    good = (0.5 + centred / centred.std(correction=0) / 10).clamp(0, 1)
    noisy = add_noise(method, clean, PAIRED, "denoising", range(8))
    alpha = alphas_of(method, noisy)
    predicted, before = (denoised(noisy.state, alpha, mu)[0] for mu in (mean, old))
    losses = []
    for sign in (1, -1):
        off = (before + sign * 0.7 * (predicted - before) - clean).flatten(1)
        losses.append(off.square().mean(1) / off.detach().abs().mean(1))
    contrast = 5 / 0.7 * (good * losses[0] + (1 - good) * losses[1])
    drift = (alpha.sqrt() * scales(alpha)[1] * (mean - base)).square().flatten(1).mean(1)
    assert_gradient(method, PROMPTS, (contrast + 0.5 * drift).mean(), tolerance=1e-4)


@pytest.mark.parametrize(("reward", "none"), [(lambda images, prompts: torch.ones(len(images)), True), (linear, False)])
def test_nft_stays_where_no_image_is_better(reward, none):
    """With q = ½ for all images, the two directions of a policy that is `old` cancel."""
    method = subject("nft", DETERMINISTIC, reward=reward, drift_weight=0.0, **SMALL)
    method.old.weights = method.policy.snapshot()
    method.step(PROMPTS)
    assert (norm(method.optimiser.gradients[0]) < 1e-5) == none


# -- learning ---------------------------------------------------------------------------------------------------

LEARNING = [name for name in registry.names() if registry.load(name).trains and not registry.load(name).own_trainer]


@pytest.mark.parametrize("name", LEARNING)
def test_every_method_raises_the_expected_reward(name):
    """E[r] in closed form needs no evaluation, and has no noise."""
    method = shaken(name, LinearFamily(), STOCHASTIC, scale=0.1, reward=closeness, learning_rate=1e-2)
    method.seeds = BlockSeeds(1)

    def reached() -> float:
        return float(expected_closeness(mean_of(method, PROMPTS), steps(method)).detach())

    curve = [reached()]
    for _ in range(4):
        method.step((PROMPTS * 4)[: method.prompts_per_step(method.settings)])
        curve.append(reached())
    assert all(before < after for before, after in pairwise(curve)), curve
