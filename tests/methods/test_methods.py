"""Every method against the conformance kit, and what the kit cannot know: counts by hand, and that it learns."""

import pytest
import torch

from bench.conformance.expectations import expectations_of
from bench.conformance.suite import CHECKS, build_subject, run_check
from methods import registry
from methods.base import SamplingMethod
from models.noise import SeedStream
from models.sampler import SamplerSettings
from tests.methods.build import PROMPTS, brightness, build

NATIVE = [name for name in registry.names() if registry.load(name).trains and not registry.load(name).own_trainer]
SAMPLING = [name for name in registry.names() if not registry.load(name).trains]


@pytest.fixture(scope="module")
def subjects(tiny_model):
    """Each method as the kit tests it."""
    return {name: build_subject(registry.load(name), {}, tiny_model) for name in NATIVE + SAMPLING}


def checks_of(name):
    """The kit's; the curve of a loss that jumps takes longest, and is told and not asked."""
    told = "curve" if not expectations_of(registry.load(name)).continuous else None
    found = [check for check in CHECKS if check != "sampling"]
    return [pytest.param(name, check, marks=[pytest.mark.slow] if check == told else []) for check in found]


@pytest.mark.parametrize(("name", "check"), [pair for name in NATIVE for pair in checks_of(name)])
def test_every_native_method_that_trains_passes_every_check(name, check, subjects):
    finding = run_check(subjects[name], check)
    assert finding.outcome == "pass", finding


VARIANTS = {
    "alignprop uniform": ("alignprop", {"truncation": "uniform"}),
    "alignprop per-step": ("alignprop", {"truncation": "per-step"}),
    "alignprop gaussian": ("alignprop", {"truncation": "gaussian"}),
    "alignprop block": ("alignprop", {"checkpointing": "block"}),
    "alignprop with drift": ("alignprop", {"drift_weight": 0.1}),
    "ddpo score-function": ("ddpo", {"estimator": "score-function"}),
    "ddpo per-prompt": ("ddpo", {"min_count": 2}),
    "ddpo random timesteps": ("ddpo", {"timestep_fraction": 0.7}),
    "ddpo early shared noise": (
        "ddpo",
        {
            "statistics": "group",
            "timestep_fraction": 0.7,
            "timestep_choice": "earliest",
            "initial_noise": "per-prompt",
        },
    ),
    "ddpo with drift": ("ddpo", {"drift_weight": 0.1}),
    "rwr guided with drift": ("rwr", {"loss_guidance": 2.0, "drift_weight": 0.1}),
}


@pytest.mark.slow
@pytest.mark.parametrize("check", ["costs", "metrics", "edge-cases", "resume", "micro-batch"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_so_do_the_settings_that_change_what_it_computes(variant, check, tiny_model):
    name, settings = VARIANTS[variant]
    finding = run_check(build_subject(registry.load(name), settings, tiny_model), check)
    assert finding.outcome == "pass", finding


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("name", SAMPLING)
def test_a_method_that_trains_nothing_says_what_does_not_apply(name, check, subjects):
    finding = run_check(subjects[name], check)
    assert finding.outcome == ("pass" if check in APPLIES[name] else "does not apply"), finding
    assert finding.reason


APPLIES = {
    "base": {"contract", "sampling"},
    "best-of-n": {"contract", "costs", "metrics", "resume", "seeds", "random-state", "sampling"},
}


def test_counts_by_hand(tiny_model):
    """3 steps, guidance on (two rows a prediction)."""
    sampler = SamplerSettings(3, 2.0, 1.0)
    books = {}
    for name in ("alignprop", "ddpo", "rwr"):
        method = build(name, tiny_model, sampler, **expectations_of(registry.load(name)).small)
        method.step(PROMPTS)
        books[name] = method.policy.meter.ledger
    # 4 images × 3 steps × 2 rows, all differentiated.
    assert (books["alignprop"].nfe_forward, books["alignprop"].nfe_backward) == (24, 24)
    # Rollout 8 × 3 × 2 = 48, and every (sample, step) once more in training, differentiated.
    assert (books["ddpo"].nfe_forward, books["ddpo"].nfe_backward) == (96, 48)
    # Rollout 48, then 2 updates of 6 samples, with guidance as in the rollout.
    assert (books["rwr"].nfe_forward, books["rwr"].nfe_backward) == (72, 24)


@pytest.mark.parametrize("name", ["alignprop", "ddpo"])
def test_it_learns(name, tiny_v_model):
    """Twenty steps make a random model's images brighter, on the same prompts and noise, by three standard errors."""
    settings = {
        "alignprop": {"batch_size": 8, "learning_rate": 1e-2},
        "ddpo": {"learning_rate": 1e-2, "clip_range": 1.0, "prompts_per_rollout": 4, "images_per_prompt": 16,
            "statistics": "group", "timestep_fraction": 0.6, "timestep_choice": "earliest",
            "initial_noise": "per-prompt"},
    }[name]  # fmt: skip
    method = build(name, tiny_v_model, SamplerSettings(3, 1.0, 1.0), **settings)
    policy = method.policy

    @torch.no_grad()
    def evaluate():
        def noise(timestep):
            return SeedStream(99).noise("test", 0, timestep, range(32), policy.state_shape)

        start = policy.start(noise(-1))
        return brightness(policy.decode(policy.sample(start, policy.encode(PROMPTS * 8), noise)), PROMPTS * 8)

    before = evaluate()
    for _ in range(20):
        method.step((PROMPTS * 4)[: method.prompts_per_step(method.settings)])
    gain = evaluate() - before
    assert gain.mean() > 3 * gain.std() / len(gain) ** 0.5


def test_base_only_samples(tiny_model):
    method = build("base", tiny_model)
    assert isinstance(method, SamplingMethod)
    with pytest.raises(TypeError, match="trains nothing"):
        method.step(PROMPTS)
    with pytest.raises(TypeError, match="selects nothing"):
        method.select(None)
