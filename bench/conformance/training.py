"""Checks of a training step: its metrics, the weights it changes, and the edge cases it survives."""

import math

import torch
from torch import Tensor

from bench.conformance.check import CheckResult, check, failed, passed
from bench.conformance.compare import same
from bench.conformance.subject import Constant, Rig, Subject
from bench.errors import cause_of

CONSTANTS = (1.0, 87.3, 60.1)
"""Constant rewards. The mean of equal ones is exact for 1; for the others and most group sizes it is off by a unit in
the last place, and a method must not divide by a standard deviation made of that.
"""
GROUP = 3
"""Repeats of the one prompt in a step on a constant reward; the mean of only two equal numbers would be exact."""

TOLERANCE = 1e-4
"""Relative difference allowed between the reward that a step reports and the mean of the scores it was given."""


@check("metrics", "steps")
def metrics(subject: Subject) -> CheckResult:
    """A step reports finite numbers, the mean of the scores it was given, and the updates it made."""
    rig = subject.two_steps.rig
    bad = not_finite(rig)
    if bad:
        return failed(bad)
    for record in rig.records:
        reported, scores = record.reported, record.scores
        true = sum(scores) / len(scores) if scores else math.nan
        if not math.isclose(reported.reward, true, rel_tol=TOLERANCE):
            return failed(f"it reports a reward of {reported.reward:.6g}; the mean of the scores is {true:.6g}")
        if not subject.cls.own_trainer and record.updates not in (None, reported.updates):
            return failed(f"it reports {reported.updates} updates and did {record.updates}")
    return passed("loss, reward and gradient norm are finite, the reward is the mean of the scores")


@check("adapter", "trains")
def adapter(subject: Subject) -> CheckResult:
    """The gradient reaches every weight of the adapter; the weights of model and reward do not change."""
    # Two steps: at the first update a LoRA's down-projections have no gradient, because its up-projections are zero.
    begun, rig = subject.two_steps.begun, subject.two_steps.rig
    weights = rig.weights()
    moved = {name for name, value in weights.items() if name in begun and not torch.equal(begun[name], value)}
    # A method may keep a second adapter.
    frozen = {name: value for name, value in weights.items() if "lora_" not in name}
    if moved & frozen.keys():
        return failed(f"it changes frozen weights: {_few(sorted(moved & frozen.keys()))}")
    touched = [name for name, value in frozen.items() if value.requires_grad or value.grad is not None]
    if touched:
        return failed(f"it leaves gradients on frozen weights: {_few(touched)}")
    if not moved:
        return failed("two steps leave the adapter as it was")
    if not subject.cls.own_trainer and rig.optimiser:
        unreached = _without_gradient(rig)
        if unreached:
            return failed(f"no gradient reaches {_few(unreached)}")
    count = sum(parameter.numel() for parameter in rig.policy.trainable_parameters())
    return passed(f"all {count:,} weights of the adapter learn; model and reward stay as they were")


def _without_gradient(rig: Rig) -> list[str]:
    """Names of the adapter's weights whose gradient was 0 at every update."""
    assert rig.optimiser is not None
    trained = {id(parameter): name for name, parameter in rig.policy.parts["denoiser"].named_parameters()}
    reached = [torch.zeros(()) for _ in rig.policy.trainable_parameters()]
    for update in rig.optimiser.recorded:
        reached = [total + gradient.abs().sum() for total, gradient in zip(reached, update.gradient, strict=True)]
    parameters = rig.policy.trainable_parameters()
    return [trained[id(p)] for p, total in zip(parameters, reached, strict=True) if not float(total) > 0]


@check("edge-cases", "trains")
def edge_cases(subject: Subject) -> CheckResult:
    """A constant reward and a batch of one prompt, apart and together, leave every number finite.

    The value of a constant reward must not matter, as it teaches nothing. The adapter may change even so, by imitating
    samples or by a term of the loss without the reward. A method whose change depends on the constant has no baseline,
    or has divided by a standard deviation that was rounding.
    """
    cases = {
        "a constant reward": (Constant(), None),
        "a single prompt": (None, 1),
        "a constant reward on a single prompt": (Constant(), 1),
    }
    for case, (reward, count) in cases.items():
        rig = subject.build(reward=reward)
        try:
            rig.step(rig.prompts[:count])
            rig.step(rig.prompts[:count])
        except Exception as error:
            return failed(f"{case} ends it: {cause_of(error)}")
        bad = not_finite(rig)
        if bad:
            return failed(f"with {case} {bad}")
    if subject.cls.own_trainer:
        return passed("a constant reward and a single prompt leave every number finite")
    ends = {value: _adapter_after(subject, value) for value in CONSTANTS}
    apart = next((value for value, end in ends.items() if not same(ends[CONSTANTS[0]], end)), None)
    if apart is not None:
        return failed(
            f"a reward of {apart:g} for every image changes the adapter otherwise than one of {CONSTANTS[0]:g}: "
            "it learns where there is nothing to learn"
        )
    return passed(
        "a constant reward and a single prompt leave every number finite; the constant's value does not matter"
    )


def _adapter_after(subject: Subject, value: float) -> dict[str, Tensor]:
    """LoRA's up-projections after two steps on a constant reward; a fresh adapter's are 0."""
    rig = subject.build(reward=Constant(value))
    for _ in range(2):
        rig.step(rig.prompts[:1] * GROUP)
    return {name: weight for name, weight in rig.policy.state_dict().items() if "lora_B" in name}


@check("empty-updates", "trains", "exact")
def empty_updates(subject: Subject) -> CheckResult:
    """Every update has a gradient: without one AdamW would decay the weights and move them by its momentum."""
    single = subject.build()
    for _ in range(2):
        single.step(single.prompts[:1])
    total = 0
    for case, rig in {"on a whole step": subject.two_steps.rig, "on a single prompt": single}.items():
        assert rig.optimiser is not None
        updates = rig.optimiser.recorded
        total += len(updates)
        empty = sum(update.backwards == 0 for update in updates)
        if empty:
            return failed(f"{case} {empty} of {len(updates)} updates had no gradient behind them")
    return passed(f"each of {total} updates had a gradient behind it")


def not_finite(rig: Rig) -> str | None:
    """Names the first metric of a step that is NaN or infinite, or else the adapter; None if all is finite."""
    for step in (record.reported for record in rig.records):
        numbers = {"loss": step.loss, "reward": step.reward, "gradient norm": step.gradient_norm}
        for name, value in {**numbers, **step.extra, **step.latest}.items():
            if not math.isfinite(value):
                return f"its {name} is {value}"
    weights: dict[str, Tensor] = rig.policy.state_dict()
    if not all(bool(value.isfinite().all()) for value in weights.values()):
        return "the adapter is no longer finite"
    return None


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(names[:2]) + more
