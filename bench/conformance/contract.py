"""Checks of what a method declares: its attributes, settings, costs and access to the reward."""

import re
from contextlib import suppress
from typing import Any

from pydantic import BaseModel

from bench.conformance.check import CheckResult, check, failed, passed
from bench.conformance.compare import same
from bench.conformance.subject import GUIDANCE, Rig, Subject, WithoutGradient
from bench.conformance.training import not_finite
from bench.console import plural
from bench.errors import cause_of
from bench.sweep.schema import NAME_PATTERN
from methods.base import TrainingSettings
from models.ledger import BUDGET_AXES


@check("contract")
def contract(subject: Subject) -> CheckResult:
    """The attributes, the settings, the prompts of a step and the axes of its cost are complete and valid."""
    problems = [*_attributes(subject), *_settings(subject), *(_costs(subject) if subject.cls.trains else ())]
    if problems:
        return failed("; ".join(problems))
    count = len(subject.cls.Settings.model_fields)
    settings = f"{plural(count, 'setting')} described and unknown ones refused" if count else "no settings"
    return passed(f"its attributes are complete; {settings}")


def _attributes(subject: Subject) -> list[str]:
    cls, problems = subject.cls, []
    if not re.fullmatch(NAME_PATTERN, str(getattr(cls, "name", ""))):
        problems.append(f"name {getattr(cls, 'name', None)!r} must be of a-z, 0-9, '.', '_' and '-'")
    summary = getattr(cls, "summary", "")
    if not isinstance(summary, str) or not summary.strip() or "\n" in summary:
        problems.append("summary must be one line")
    if getattr(cls, "reward_access", None) not in ("gradient", "value"):
        problems.append("reward_access must be 'gradient' or 'value'")
    return problems


def _settings(subject: Subject) -> list[str]:
    model, problems = subject.cls.Settings, []
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        return ["Settings must be a pydantic model"]
    if model.model_config.get("extra") != "forbid":
        problems.append("Settings must refuse unknown keys (extra='forbid', as methods.base.Settings does)")
    if subject.cls.trains and not subject.cls.own_trainer and not issubclass(model, TrainingSettings):
        problems.append("Settings must be a TrainingSettings, or the harness builds no optimiser")
    nameless = [name for name, field in model.model_fields.items() if not field.description]
    if nameless:
        problems.append(f"settings without a description: {', '.join(nameless)}")
    required = [name for name, field in model.model_fields.items() if field.is_required()]
    if required:
        problems.append(f"settings without a default: {', '.join(required)}")
    return problems


def _costs(subject: Subject) -> list[str]:
    prompts = subject.cls.prompts_per_step(subject.settings)
    if not isinstance(prompts, int) or prompts < 1:
        return [f"prompts_per_step gives {prompts!r}; a step needs at least one"]
    cost: dict[str, Any] = subject.cls.cost(subject.settings, prompts, subject.sampler())
    unknown = sorted(set(cost) - set(BUDGET_AXES))
    if unknown:
        return [f"cost() has the unknown axes {', '.join(unknown)}; there are {', '.join(BUDGET_AXES)}"]
    bad = [axis for axis, spent in cost.items() if not isinstance(spent, int) or spent < 0]
    return [f"cost() must give whole numbers, not {cost[axis]!r} for {axis}" for axis in bad]


@check("costs", "steps")
def costs(subject: Subject) -> CheckResult:
    """A step spends what `cost` declares: exactly for reward queries and images, at most for other axes."""
    denoiser_rows = []
    unguided = subject.build(guidance=1.0)
    unguided.step()
    for guidance, rig in {1.0: unguided, GUIDANCE: subject.two_steps.rig}.items():
        cost = subject.cls.cost(subject.settings, len(rig.prompts), rig.policy.sampler)
        first = rig.records[0]
        spent = {**first.spent, "steps": 1, "updates": first.reported.updates}
        for axis in cost:
            exact = axis in ("reward_queries", "images")
            if spent[axis] != cost[axis] if exact else spent[axis] > cost[axis]:
                bound = "" if exact else "at most "
                text = (
                    f"at guidance {guidance:g} a step spent {spent[axis]:g} {axis}; cost() declares {bound}{cost[axis]}"
                )
                return failed(text)
        if "nfe" in cost:
            denoiser_rows.append(f"{spent['nfe']:g} of at most {cost['nfe']} at guidance {guidance:g}")
    rows = f"; denoiser rows {', '.join(denoiser_rows)}" if denoiser_rows else ""
    return passed(f"a step spends the queries and images that cost() declares{rows}")


@check("reward-access", "trains")
def reward_access(subject: Subject) -> CheckResult:
    """A `gradient` method differentiates the reward and never updates without one; a `value` one needs scores alone."""
    differentiated = subject.two_steps.rig.meter.ledger.reward_gradients
    blind = subject.build(reward=WithoutGradient())
    if subject.cls.reward_access == "gradient":
        if not differentiated:
            return failed("it declares reward_access = 'gradient', but never differentiates the reward")
        return _refuses(blind)
    if differentiated:
        return failed(f"it declares reward_access = 'value', but differentiated {differentiated} scores")
    try:
        blind.step()
    except Exception as error:
        return failed(f"it declares reward_access = 'value', but its step fails without a gradient: {cause_of(error)}")
    return _finite_or(blind, "it learns from scores alone, whether the reward can be differentiated or not")


def _refuses(blind: Rig) -> CheckResult:
    """Whether a `gradient` method makes no update on a reward that claims to have a gradient and has none.

    The planner refuses a reward that is declared without a gradient, but cannot see through a false declaration.
    """
    before = blind.policy.state_dict()
    with suppress(Exception):  # torch raises if the loss depends on no parameter
        blind.step()
    if not same(before, blind.policy.state_dict()):
        return failed("it updates the adapter on a reward that has no gradient")
    return passed("it differentiates the reward, and makes no update if the reward has no gradient")


def _finite_or(rig: Rig, reason: str) -> CheckResult:
    bad = not_finite(rig)
    return failed(f"on a reward without a gradient {bad}") if bad else passed(reason)
