"""The conformance suite: does a method keep the contract of `methods/base.py`?

    bench test my_method.py:MyMethod

and, in an author's own test suite:

    from bench.conformance.suite import check_method

    def test_my_method():
        report = check_method(MyMethod)
        assert report.passed, report

It builds the method on a random tiny model, in seconds; the checks are in `bench/conformance/`.
"""

import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from bench.build import plugins
from bench.build.objects import quieten
from bench.conformance import contract, invariance, sampling, training
from bench.conformance.check import Check, CheckResult, Outcome, failed
from bench.conformance.subject import Subject
from bench.errors import BenchError, cause_of
from bench.sweep.overlay import suggestion
from methods.base import Method
from models.tiny import write_tiny_pipeline

CHECKS: dict[str, Check] = {
    check.name: check
    for check in (
        contract.contract,
        contract.costs,
        contract.reward_access,
        training.metrics,
        training.adapter,
        training.edge_cases,
        training.empty_updates,
        invariance.resume,
        invariance.seeds,
        invariance.random_state,
        invariance.micro_batch,
        invariance.curve,
        sampling.sampling,
    )
}
"""The checks by name, in the order in which they run."""

MARKS: dict[Outcome, str] = {"pass": "✓", "fail": "✗", "does not apply": "–"}


@dataclass(frozen=True)
class CheckRecord:
    """The result of one named check, and the seconds it took."""

    check: str
    outcome: Outcome
    reason: str
    seconds: float

    def __str__(self) -> str:
        return f"{MARKS[self.outcome]} {self.check}: {self.reason}"


@dataclass(frozen=True)
class Report:
    """The results of all checks of a method, in the order in which they ran."""

    method: str
    records: tuple[CheckRecord, ...]

    @property
    def failures(self) -> list[CheckRecord]:
        return [record for record in self.records if record.outcome == "fail"]

    @property
    def passed(self) -> bool:
        return not self.failures

    def __str__(self) -> str:
        return "\n".join([self.method, *map(str, self.records)])


def check_method(
    method: str | type[Method], settings: Mapping[str, Any] | None = None, only: Sequence[str] = ()
) -> Report:
    """Runs the checks on a method.

    Args:
        method: a class, a built-in or installed name, `module:Class` or `file.py:Class`.
        settings: replace those of its expectations' `small`.
        only: names of `CHECKS` to run; all by default.

    Raises:
        BenchError: there is no such method or check, or the method refuses the settings.
    """
    cls = method_class(method)
    return Report(cls.name, tuple(run_checks(cls, settings, only)))


def run_checks(
    cls: type[Method], settings: Mapping[str, Any] | None = None, only: Sequence[str] = ()
) -> Iterator[CheckRecord]:
    """The record of each check as soon as it ends (see `check_method`)."""
    unknown = next((name for name in only if name not in CHECKS), None)
    if unknown:
        raise BenchError(f"there is no check {unknown!r}", None, suggestion(unknown, list(CHECKS)))
    with tempfile.TemporaryDirectory() as folder:
        subject = build_subject(cls, settings or {}, Path(folder))
        for name in only or CHECKS:
            yield run_check(subject, name)


def run_check(subject: Subject, name: str) -> CheckRecord:
    """Runs one check; a method that raises fails it."""
    begun = time.perf_counter()
    result: CheckResult
    try:
        result = CHECKS[name].run(subject)
    except Exception as error:
        result = failed(cause_of(error))
    return CheckRecord(name, result.outcome, result.reason, time.perf_counter() - begun)


def build_subject(cls: type[Method], settings: Mapping[str, Any], folder: Path) -> Subject:
    """The method with a tiny pipeline, which is written to `folder` unless it is there already."""
    quieten()
    if not (folder / "model_index.json").exists():
        write_tiny_pipeline(folder)
    try:
        return Subject(cls, settings, folder)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise BenchError(f"{cls.name} refuses the settings: {key}: {first['msg']}", "--set") from None


def method_class(method: str | type[Method]) -> type[Method]:
    """The class that a name or a reference stands for; files are relative to the working directory."""
    if isinstance(method, str):
        return plugins.load_method(plugins.resolve(method, Path.cwd()))
    return method
