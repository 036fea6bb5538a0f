"""Our AlignProp and DDPO compute what TRL 0.23.1's do, on identical weights, prompts, guidance and noise.

What has to be made equal, because the two differ there on purpose:
- Noise. Ours is keyed by what it is for and TRL's comes from the global state: TRL is given ours.
- Truncation. Ours draws one K an update (the paper); TRL draws at every step (the v1 code), from (0, 50) whatever the
  number of steps. `truncation: per-step` is TRL's rule scaled to T steps; TRL is given our draws.
- What a dropped step drops. Ours detaches the predicted noise ε, in which the papers state it; TRL the model's output,
  which on a checkpoint that predicts v leaves a part of ε attached to x_t. It matters only where a dropped step follows
  a kept one, so only for per-step draws: ours is then given TRL's rule, which shows that nothing else differs.
- The loss. TRL's AlignProp minimises 10 − r, ours −r: a constant apart.
- Order. A DDPO update of TRL's takes whole trajectories, ours shuffles (sample, timestep) rows: the gradient is
  compared for one update over the whole rollout, and the loss row by row.
- The clip range. TRL's stands on the mean log-probability as it is, ours is rescaled by the latent's dimensions: TRL is
  given the rescaled one.
- Statistics. TRL's batch statistics add 1e-8 to σ where its per-prompt ones, and ours, add 1e-6: below the tolerance.

What needed nothing: TRL's DDIM step knows v-prediction, so the embedded checkpoint is compared as it is; its scheduler
is made from the checkpoint's configuration; it clamps the last step's predecessor to timestep 0, which is what
`set_alpha_to_one: false` means; and it hands images to the reward in [0, 1], as we do.
"""

from itertools import pairwise

import pytest
import torch

from bench.conformance.compare import relative_error
from methods.common.trajectories import roll_out
from models.sampler import SamplerSettings
from tests.methods.build import PROMPTS, gradient_of_step
from tests.methods.peers.build import MODELS, build_trained, model_folder, needs_trl, noise_of, peers_gradient
from tests.methods.shaken import shake

pytestmark = needs_trl
TOLERANCE = 1e-4
GROUP = {"prompts_per_rollout": 4, "images_per_prompt": 2, "updates_per_rollout": 1, "statistics": "batch"}
AS_PUBLISHED = {
    "clip_range": 6e-4,
    "timestep_fraction": 1.0,
    "timestep_choice": "random",
    "initial_noise": "independent",
}
"""Every step, and an x_T for each image, as TRL has it."""


def per_step_with_a_gap(method):
    """Sets the iteration to one whose kept steps are not simply the last ones; TRL's draws for the same steps."""
    steps = method.policy.sampler.steps
    for method.iteration in range(1000):
        keep = method.gradient_mask()
        if any(early and not late for early, late in pairwise(keep)):
            return method.seeds.integers("truncation", method.iteration, range(steps), 0, steps + 1).tolist()
    raise AssertionError("no such draw")


def drop_the_output(policy):
    """A dropped step detaches the model's output, v, as TRL does, instead of the noise predicted from it."""

    own = policy.predict

    def predict(state, times, *arguments, **options):
        output = own(state, times, *arguments, **options).output
        with torch.enable_grad():
            return policy.path.prediction(output, state, times)

    policy.predict = predict


ALIGNPROPS = [
    pytest.param(
        *(model, truncation, guidance, eta),
        # The embedded model takes seconds a case: with each truncation once, and once with guidance, is the fast part.
        marks=[pytest.mark.integration, *([pytest.mark.slow] if (truncation == "full") != (guidance > 1) else [])]
        if model == "embedded"
        else [],
    )
    for model in ("tiny_model", "tiny_v_model", "embedded")
    for truncation in ("full", "fixed", "per-step")
    for guidance, eta in ((1.0, 1.0), (3.0, 0.0))
]


@pytest.mark.parametrize(("model", "truncation", "guidance", "eta"), ALIGNPROPS)
def test_alignprops_gradient_is_trls(model, truncation, guidance, eta, request):
    folder, sampler = model_folder(model, request), SamplerSettings(4, guidance, eta)
    settings = {"batch_size": 4, "truncation": truncation} | ({"keep_steps": 2} if truncation == "fixed" else {})
    ours = build_trained("alignprop", folder, sampler, **settings)
    theirs = build_trained("trl-alignprop", folder, sampler, **settings)
    draws = per_step_with_a_gap(ours) if truncation == "per-step" else None
    if draws and ours.policy.path.prediction_type != "epsilon":
        drop_the_output(ours.policy)
    with noise_of(ours, len(PROMPTS)):
        expected = peers_gradient(theirs, PROMPTS, draws)
    assert all(gradient.abs().max() > 0 for gradient in expected)
    assert relative_error(gradient_of_step(ours, PROMPTS), expected) < TOLERANCE


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("model", MODELS)
def test_a_rollout_and_its_log_probabilities_are_trls(model, guidance, request):
    folder, sampler = model_folder(model, request), SamplerSettings(4, guidance, 1.0)
    ours = build_trained("ddpo", folder, sampler, **AS_PUBLISHED, **GROUP)
    theirs = build_trained("trl-ddpo", folder, sampler, **GROUP)
    expected = roll_out(ours, PROMPTS)
    embeddings, empty = (ours.policy.encode(prompts).tensors[0] for prompts in (PROMPTS, [""] * len(PROMPTS)))
    with noise_of(ours, len(PROMPTS)):
        output = theirs.trainer.sd_pipeline(
            prompt_embeds=embeddings,
            negative_prompt_embeds=empty,
            num_inference_steps=sampler.steps,
            guidance_scale=guidance,
            eta=sampler.eta,
            output_type="pt",
        )
    for step in range(sampler.steps):
        torch.testing.assert_close(expected.actions[step], output.latents[step + 1], rtol=TOLERANCE, atol=1e-4)
        torch.testing.assert_close(
            expected.log_probabilities[step], output.log_probs[step], rtol=TOLERANCE, atol=TOLERANCE
        )
    torch.testing.assert_close(ours.policy.decode(expected.actions[-1]), output.images, rtol=TOLERANCE, atol=1e-4)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("model", MODELS)
def test_the_clipped_loss_and_its_gradient_are_trls(model, guidance, request):
    """Off the policy that drew the rollout, so that ratios differ from 1 and some are clipped."""
    folder, sampler = model_folder(model, request), SamplerSettings(4, guidance, 1.0)
    ours = build_trained("ddpo", folder, sampler, **AS_PUBLISHED, **GROUP)
    theirs = build_trained("trl-ddpo", folder, sampler, clip_range=ours.clip_range, **GROUP)
    policy, rollout, samples = ours.policy, roll_out(ours, PROMPTS), torch.arange(len(PROMPTS))
    embeddings, empty = (policy.encode(prompts).tensors[0] for prompts in (PROMPTS, [""] * len(PROMPTS)))
    advantages = torch.tensor([2.0, -1.0, 0.5, -1.5])
    # So far from the policy that drew them that about half of the ratios lie outside the clip range.
    scale = {"tiny_model": 0.3, "tiny_v_model": 0.3, "embedded": 0.01}[model]
    shake(ours, seed=2, scale=scale)
    shake(theirs, seed=2, scale=scale)
    theirs.trainer.sd_pipeline.scheduler.set_timesteps(sampler.steps)  # as its rollout would have
    clipped = 0.0
    for step in range(sampler.steps):
        steps = rollout.at(torch.full_like(samples, step), samples)
        log_ratio = steps.log_probability(policy, policy.predict(*steps.inputs, guidance)) - steps.log_probabilities
        our_loss = ours.surrogate(log_ratio, advantages).mean()
        halves = torch.cat([empty, embeddings]) if guidance > 1 else embeddings
        their_loss, _, share = theirs.trainer.calculate_loss(
            steps.states, steps.times, steps.actions, steps.log_probabilities, advantages, halves
        )
        torch.testing.assert_close(our_loss, their_loss, rtol=TOLERANCE, atol=1e-6)
        our_loss.backward()
        their_loss.backward()
        clipped += float(share) / sampler.steps
    assert 0.05 < clipped < 0.95
    gradients = [[p.grad for p in method.policy.trainable_parameters()] for method in (ours, theirs)]
    assert relative_error(*gradients) < TOLERANCE


@pytest.mark.parametrize("guidance", [1.0, 3.0])
@pytest.mark.parametrize("model", MODELS)
def test_an_epoch_of_one_update_has_trls_gradient(model, guidance, request):
    """From the rollout through rewards and advantages to the update."""
    folder, sampler = model_folder(model, request), SamplerSettings(4, guidance, 1.0)
    ours = build_trained("ddpo", folder, sampler, **AS_PUBLISHED, **GROUP)
    theirs = build_trained("trl-ddpo", folder, sampler, clip_range=ours.clip_range, **GROUP)
    with noise_of(ours, 8):
        expected = peers_gradient(theirs, PROMPTS)
    assert relative_error(gradient_of_step(ours, PROMPTS), expected) < TOLERANCE


def test_per_prompt_advantages_are_trls():
    from trl.trainer.utils import PerPromptStatTracker

    from methods.common.advantages import PromptStatistics

    ours, theirs = PromptStatistics(4, 3), PerPromptStatTracker(4, 3)
    rewards = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    for row in rewards:
        prompts = ["a cat", "a cat", "a dog", "a fox", "a fox", "a fox"]
        torch.testing.assert_close(ours.update(row, prompts), torch.tensor(theirs.update(prompts, row.numpy())))
