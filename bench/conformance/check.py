"""A check of a method, the result of a check, and the needs that decide whether a check applies."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bench.conformance.subject import Subject

Outcome = Literal["pass", "fail", "does not apply"]


@dataclass(frozen=True)
class CheckResult:
    """The outcome of one check on one method, and the reason in one sentence."""

    outcome: Outcome
    reason: str


def passed(reason: str) -> CheckResult:
    return CheckResult("pass", reason)


def failed(reason: str) -> CheckResult:
    return CheckResult("fail", reason)


def does_not_apply(reason: str) -> CheckResult:
    return CheckResult("does not apply", reason)


@dataclass(frozen=True)
class Check:
    """One thing that every method must do.

    Attributes:
        name: the check's name on the command line and in tests.
        run: tries the method; what it raises counts as a failure.
    """

    name: str
    run: Callable[[Subject], CheckResult]


Need = Literal["steps", "trains", "exact", "samples"]
"""The kind of method a check needs: one that spends a budget, that trains, that is exact, or that samples itself."""


def check(name: str, *needs: Need) -> Callable[[Callable[[Subject], CheckResult]], Check]:
    """Makes a function a `Check` that does not apply to a method without one of `needs`."""

    def make(function: Callable[[Subject], CheckResult]) -> Check:
        def run(subject: Subject) -> CheckResult:
            reason = next((why for need in needs if (why := _unmet(subject, need))), None)
            return does_not_apply(reason) if reason else function(subject)

        return Check(name, run)

    return make


def _unmet(subject: Subject, need: Need) -> str | None:
    """Why the method does not meet the need; None if it does."""
    cls = subject.cls
    if need == "steps" and not subject.steps:
        return "it takes no steps: it trains nothing and chooses nothing"
    if need == "trains" and not cls.trains:
        return "it trains nothing"
    if need == "exact" and cls.own_trainer:
        return "it declares own_trainer: a peer that owns its optimiser and the global random state"
    if need == "samples" and cls.trains:
        return "it trains, and the harness samples for it"
    return None
