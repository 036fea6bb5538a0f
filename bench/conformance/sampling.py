"""The check of a method that trains nothing: it samples images, and choosing never lowers an image's score."""

import torch

from bench.conformance.check import CheckResult, check, failed, passed
from bench.conformance.compare import same
from bench.conformance.subject import Rig, Subject
from methods.base import SamplingMethod


@check("sampling", "samples")
def sampling(subject: Subject) -> CheckResult:
    """`sample` gives x_0 of the right shape, finite and the same at every call, and leaves the policy unchanged."""
    rig = subject.build()
    before = rig.state()["policy"]
    latents = _sample(rig)
    shape = (len(rig.rows()), *rig.policy.state_shape)
    if tuple(latents.shape) != shape:
        return failed(f"sample gives {tuple(latents.shape)} for {shape[0]} images; expected {shape}")
    if not bool(latents.isfinite().all()):
        return failed("sample gives latents that are not finite")
    if not same(latents, _sample(rig)):
        return failed("sample gives something else when it is called again")
    if subject.steps:
        problem = _chosen(rig, latents)
        if problem:
            return failed(problem)
    if not same(before, rig.state()["policy"]):
        return failed("it changes the policy, although it declares trains = False")
    rounds = "; a round of choosing never makes them worse" if subject.steps else ""
    return passed(f"sample repeats and leaves the policy as it was{rounds}")


def _sample(rig: Rig) -> torch.Tensor:
    assert isinstance(rig.method, SamplingMethod)
    with rig.meter.phase("eval"):
        return rig.method.sample(rig.rows())


def _chosen(rig: Rig, before: torch.Tensor) -> str | None:
    """Why two rounds of choosing are wrong; None if no image scores less after a round than before it."""

    def scores(latents: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return rig.reward(rig.policy.decode(latents))

    floor = scores(before)
    for _ in range(2):
        rig.step()
        reached = scores(_sample(rig))
        if bool((reached < floor - 1e-6).any()):
            return "an image that it chose scores less than the one before"
        floor = reached
    return None
