"""Checks that interruption, global generators and micro-batch size change no result, and that the seed does."""

import io
import math

import torch

from bench.conformance.check import CheckResult, check, failed, passed
from bench.conformance.compare import default_dtype, global_generators, global_state, relative_error, same
from bench.conformance.subject import Rig, Subject
from bench.errors import cause_of

MICRO_BATCHES = (1, 4, 8)
CUT_IMAGES = 10
"""Images of a step in `micro_batch`: more than the largest micro-batch, so that each size cuts it differently."""
GRADIENT_TOLERANCE = 1e-5
DOUBLE_TOLERANCE = 1e-9
CURVE_TOLERANCE = 1e-3
CURVE_UPDATES = 5
CURVE_IMAGES = 8
CURVE_MICRO_BATCHES = (3, 8)
"""Micro-batches in `curve`: uneven pieces of a step's images, and all of them at once.

How the first gradient depends on further sizes is the check `micro-batch`'s question.
"""


@check("resume", "steps", "exact")
def resume(subject: Subject) -> CheckResult:
    """A method that is interrupted after a step and resumed from its state ends bitwise as without interruption."""
    interrupted = subject.build()
    interrupted.step()
    buffer = io.BytesIO()
    torch.save(interrupted.state(), buffer)
    buffer.seek(0)
    try:
        saved = torch.load(buffer, weights_only=True)
    except Exception as error:
        return failed(f"its state is not plain values and tensors: {cause_of(error)}")
    resumed = subject.build()
    resumed.load(saved)
    resumed.step()
    straight = subject.two_steps.rig
    if not same(straight.records[-1].reported.__dict__, resumed.records[-1].reported.__dict__):
        return failed("the step after a resume reports other numbers than without it")
    for part, value in straight.state().items():
        if not same(value, resumed.state()[part]):
            return failed(f"after a resume and a step the {part} differs from an uninterrupted one")
    return passed("interrupted and continued it is bitwise the same; its state loads with weights_only")


@check("seeds", "steps", "exact")
def seeds(subject: Subject) -> CheckResult:
    """The same seed repeats bitwise; another seed gives another result."""

    def run(seed: int) -> Rig:
        rig = subject.build(seed)
        for _ in range(2):
            rig.step()
        return rig

    first, again, other = subject.two_steps.rig, run(0), run(1)
    if not same(first.state(), again.state()):
        return failed("the same seed twice gives different weights or state")
    if same(first.state(), other.state()):
        return failed("two seeds give the same: nothing is drawn from the seed stream")
    return passed("one seed repeats bitwise, another differs")


@check("random-state", "steps", "exact")
def random_state(subject: Subject) -> CheckResult:
    """The method neither uses nor advances the global generators of torch, NumPy and Python."""
    ends = []
    for seed in (1, 2):
        with global_generators(seed):
            before = global_state()
            rig = subject.build()
            if not same(before, global_state()):
                return failed("building it moves a global random generator")
            rig.bare_step()
            if not same(before, global_state()):
                return failed("a step draws from a global random generator; draw from self.seeds")
            ends.append(rig)
    if not same(ends[0].state(), ends[1].state()):
        return failed("a step depends on the global random generators; draw from self.seeds")
    return passed("the global random generators are neither used nor moved")


@check("micro-batch", "trains", "exact")
def micro_batch(subject: Subject) -> CheckResult:
    """The first update's gradient depends on the micro-batch size by no more than rounding.

    A loss may amplify rounding: a log-probability does so by its step's mean over its σ. Gradients that differ in fp32
    are therefore compared again in fp64, where a difference that is not rounding remains.
    """
    pieces, (apart, size) = _cuts(subject)
    if not pieces:
        return failed("a step made no update, so there is no gradient to compare")
    words = f"micro-batches of {size} and {MICRO_BATCHES[-1]} give gradients {apart:.1e} apart"
    cut = f"cut into {', '.join(map(str, pieces[:-1]))} and {pieces[-1]} pieces"
    if apart < GRADIENT_TOLERANCE:
        return passed(f"{words} ({cut}), which is rounding")
    _, (exactly, size) = _cuts(subject, double=True)
    if exactly < DOUBLE_TOLERANCE:
        return passed(f"{words} ({cut}); it is rounding that the loss amplifies, as {exactly:.1e} in fp64 shows")
    return failed(f"{words}, in fp64 {exactly:.1e}; {GRADIENT_TOLERANCE:g} and {DOUBLE_TOLERANCE:g} would be rounding")


def _cuts(subject: Subject, double: bool = False) -> tuple[list[int], tuple[float, int]]:
    """`backward` calls of the first update for each micro-batch size; its gradient's largest error, and the size."""
    updates = {}
    for size in MICRO_BATCHES:
        with default_dtype(torch.float64 if double else torch.float32):
            rig = subject.build(micro_batch=size)
            rig.perturb_adapter()
            if double:
                rig.to_double()
            rig.step(subject.prompts(images=CUT_IMAGES))
        assert rig.optimiser is not None
        if not rig.optimiser.recorded:
            return [], (math.inf, size)
        updates[size] = rig.optimiser.recorded[0]
    whole = updates[MICRO_BATCHES[-1]].gradient
    apart = [(relative_error(updates[size].gradient, whole), size) for size in MICRO_BATCHES[:-1]]
    return [update.backwards for update in updates.values()], _worst(apart)


def _worst(apart: list[tuple[float, int]]) -> tuple[float, int]:
    """The largest error; a NaN, which `max` may pass over, before any other."""
    return max(apart, key=lambda entry: math.inf if math.isnan(entry[0]) else entry[0])


@check("curve", "trains", "exact")
def curve(subject: Subject) -> CheckResult:
    """Five updates on, the curve does not depend on the micro-batch size; a discontinuous loss always passes."""
    (pieces, went), (whole, moved) = (_curve(subject, size) for size in CURVE_MICRO_BATCHES)
    apart = max(abs(one - other) / abs(other) for one, other in zip(pieces, whole, strict=True))
    adapter = relative_error(went, moved)
    words = f"after {CURVE_UPDATES} updates rewards are {apart:.1e} apart, adapters {adapter:.1e} of the way they went"
    if not subject.expectations.continuous:
        return passed(f"{words}; its loss is not continuous, so no bound applies")
    if not max(apart, adapter) < CURVE_TOLERANCE:
        return failed(f"{words}; {CURVE_TOLERANCE:g} is allowed, unless its expectations say continuous=False")
    return passed(words)


def _curve(subject: Subject, size: int) -> tuple[list[float], list[torch.Tensor]]:
    """The reward of each step until five updates are done and scored, and the adapter's change since the first."""
    rig = subject.build(micro_batch=size)
    prompts = subject.prompts(images=CURVE_IMAGES)
    begun = [value.clone() for value in rig.policy.state_dict().values()]
    for _ in range(2 * CURVE_UPDATES):
        if sum(record.reported.updates for record in rig.records) >= CURVE_UPDATES:
            break
        rig.step(prompts)
    rig.step(prompts)  # scores what the updates made
    moved = [end - start for start, end in zip(begun, rig.policy.state_dict().values(), strict=True)]
    return [record.reported.reward for record in rig.records], moved
